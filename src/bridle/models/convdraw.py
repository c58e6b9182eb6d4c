"""ConvDRAW: a recurrent convolutional VAE that refines a canvas, with a learned prior for every step."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bridle.errors import ConfigError
from bridle.models.base import (
    Follow,
    HasPosteriorDensity,
    ImageShape,
    ImportanceSample,
    LatentGaussians,
    LatentModel,
    ModelOutput,
)
from bridle.models.gaussian import (
    Gaussian,
    full_precision,
    gaussian_at,
    gaussian_kl,
    gaussian_log_prob,
    gaussian_parameters,
    gaussian_sample,
)

__all__ = ["ConvDRAW"]

# For the backward pass a step keeps about so many times the maps that it hands to the next one. Parts of k steps whose
# insides are computed again hold T / k + _INSIDE * k of the latter: least at k = sqrt(T / _INSIDE).
_INSIDE = 5


class ConvDRAW(LatentModel, HasPosteriorDensity):
    """Convolutional DRAW (Gregor et al. 2016), unconditional or given a context image.

    Step t = 1..T of the recurrence, where ``h_d`` and the canvas on the left are those of step t - 1::

                     x ───────────────┐
        canvas ──► eps = x - canvas ──┤
                                      ├──► encoder LSTM ──► h_e ──► q(z_t|x, z_<t)  ──┐
           h_d ───────────────────────┤                                               ├──► KL_t
           │                          └───────────────────► p(z_t|z_<t) = N(W h_d) ───┘
           │                                                z_t ~ q, or ~ p in a sample
           │                                                 │
           └──────────────────────────► decoder LSTM ◄───────┴─── canvas
                                             │
                                            h_d ──► canvas + W h_d     (the canvas of step T is x_hat)

    All of it lives on the latent grid, ``scale`` times coarser than the image: a pixel of the grid holds the
    ``scale x scale`` pixels of the image as channels, so that a convolution there is a strided one of the image.
    Sizes that ``scale`` does not divide are padded at the right and the bottom, and the reconstruction is cropped.

    The posterior, the prior and the KL of every step are diagonal Gaussians on the grid; the KL is closed-form in each
    step and a one-sample estimate in the steps before it. With a context (of any channels, but the images' height and
    width) a tower of convolutions turns it into a map on the grid that both LSTMs read at every step and that sets
    the decoder's initial state, so that the first prior depends on it too.

    The first k of T steps are a coarser image by themselves: ``decode``, ``prior``, ``sample`` and ``reconstruct``
    take ``steps=k``, and ``decode`` takes latents of any number of steps up to T.

    Arguments:
        image_shape: Channels, height and width; each side 8 to 128.
        context_shape: The same of the context images, or None.
        steps: T, how often the canvas is refined.
        channels: Maps of each LSTM's hidden state.
        latent_channels: Maps of the latent of one step.
        kernel: Side of the convolutions; odd.
        scale: How many pixels of the image a pixel of the latent grid is wide and high.
        shared: One set of weights for all steps; else every step has its own.
        recompute: Keep for the backward pass only what is handed from part to part of the steps, and compute the rest
            again: memory grows like the square root of T instead of T, and a training step has a third more to do.
            Results are the same. Not on a dial, nor in stacked runs.

    Raises:
        ConfigError: Sizes or settings out of range, or a context whose height or width is not the image's.

    Example:
        >>> model = ConvDRAW((1, 28, 28), steps=3)
        >>> out = model(torch.rand(5, 1, 28, 28))
        >>> out.x_hat.shape, out.kl.shape, out.z.shape
        (torch.Size([5, 1, 28, 28]), torch.Size([5]), torch.Size([5, 3, 8, 7, 7]))
        >>> model.sample(2, steps=1).shape
        torch.Size([2, 1, 28, 28])

    References:
        | Towards Conceptual Compression (Gregor et al., 2016), https://arxiv.org/abs/1604.08772
        | Neural Scene Representation and Rendering (Eslami et al., 2018), for the conditional model
    """

    encodes_pairs = True

    def __init__(
        self,
        image_shape: ImageShape,
        context_shape: ImageShape | None = None,
        steps: int = 6,
        channels: int = 32,
        latent_channels: int = 8,
        kernel: int = 3,
        scale: int = 4,
        shared: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__(image_shape, context_shape)
        height, width = image_shape[1:]
        if min(height, width) < 8 or max(height, width) > 128:
            raise ConfigError(f"ConvDRAW takes images of 8 to 128 pixels a side, not {height}x{width}")
        if context_shape is not None and tuple(context_shape[1:]) != (height, width):
            raise ConfigError(
                f"ConvDRAW needs context images of the images' size {height}x{width}, "
                f"not {context_shape[1]}x{context_shape[2]}"
            )
        for name, value in (("steps", steps), ("channels", channels), ("latent_channels", latent_channels)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd and positive, got {kernel}")
        if not 1 <= scale <= min(height, width) // 2:
            raise ConfigError(f"scale must lie in 1 to {min(height, width) // 2} for {height}x{width}, got {scale}")
        self.steps = steps
        self.scale = scale
        self.recompute = recompute
        self.grid = (-(-height // scale), -(-width // scale))
        self.latent_shape = (latent_channels, *self.grid)
        pixels = image_shape[0] * scale**2
        self.cores = nn.ModuleList(
            Core(pixels, channels, latent_channels, kernel, 0 if context_shape is None else channels)
            for _ in range(1 if shared else steps)
        )
        self.context_tower = None
        if context_shape is not None:
            self.context_tower = ContextTower(context_shape[0] * scale**2, channels, kernel)

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        return self._infer(x, context, generator, self.steps)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return self._infer(x, context, generator, self.steps).z

    def decode(self, z: Tensor, context: Tensor | None = None, steps: int | None = None) -> Tensor:
        """The mean of ``p(x | z)``, or the canvas after the first ``steps`` steps, shape ``(B, C, H, W)``.

        Arguments:
            z: Latents, shape ``(B, k, latent_channels, h, w)`` with k in 1 to T.
            context: Context images, shape ``(B, *context_shape)``.
            steps: How many of the k steps to take; all without it.
        """
        steps = self._checked(z.shape[1] if steps is None else steps, most=min(z.shape[1], self.steps))
        features, state, canvas = self._start(len(z), context)
        for t in range(steps):
            core = self._core(t)
            if t < len(self.cores):
                fixed = core.decoder_fixed(features)
            state, canvas = core.decode(z[:, t], canvas, state, fixed)
        return self._to_images(canvas)

    def prior(
        self,
        n: int,
        context: Tensor | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """``n`` samples of ``p(z)``, shape ``(n, T, latent_channels, h, w)``; of the first ``steps`` steps if given."""
        return self._generate(n, context, generator, steps)[0]

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """``n`` images from the prior, shape ``(n, C, H, W)``; as they are after the first ``steps`` steps if given."""
        return self._generate(n, context, generator, steps)[1]

    def reconstruct(
        self,
        x: Tensor,
        context: Tensor | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """Images decoded from a posterior sample; their canvas after the first ``steps`` steps if given."""
        return self._infer(x, context, generator, self._checked(steps)).x_hat

    def importance(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> ImportanceSample:
        """A sample of the posterior with its weight, whose logarithm is summed over the steps."""
        x_hat, z, (posterior, prior) = self._chain(x, context, generator, self.steps)
        z, q_mean, q_log_std, p_mean, p_log_std = (t.flatten(1) for t in (z, *posterior, *prior))
        return ImportanceSample(
            x_hat, gaussian_log_prob(z, q_mean, q_log_std) - gaussian_log_prob(z, p_mean, p_log_std)
        )

    def latent_gaussians(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> LatentGaussians:
        """What each latent was drawn from, and its prior given the sampled latents of the steps before."""
        return self._chain(x, context, generator, self.steps)[2]

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The images, with the contexts behind them, a row an image: a step's posterior is known only with the latents
        of the steps before it."""
        self._check_context(len(x), context)
        return torch.cat([part.flatten(1) for part in (x, context) if part is not None], dim=1)

    def log_posterior(self, z: Tensor, params: Tensor) -> Tensor:
        leading = torch.broadcast_shapes(z.shape[:-1], params.shape[:-1])
        z, params = (part.expand(*leading, -1).reshape(-1, part.shape[-1]) for part in (z, params))
        x, context = self._images_of(params)
        posterior = self._chain(x, context, None, self.steps, self._steps_of(z))[2].posterior
        return gaussian_log_prob(z, *(part.flatten(1) for part in posterior)).view(leading)

    def log_posterior_pairs(self, z: Tensor, params: Tensor, block: int = 256) -> Tensor:
        """``log q(z | x)`` of every z under every image, in nats.

        The decoder runs once a z, and the encoder's convolution of what it reads is a sum of one of the image, one of
        what the decoder made of z, and one of its own state: only the last is left for each pair. With a context the
        decoder's steps depend on both.

        Arguments:
            z: Any points, shape ``(S, D)``.
            params: From :meth:`posterior`, shape ``(N, P)``.
            block: How many pairs are worked on at a time; on two cores 128 to 256 were fastest.

        Returns:
            Shape ``(S, N)``.
        """
        if self.context_shape is not None:
            return super().log_posterior_pairs(z, params, block)
        x = self._to_grid(self._images_of(params)[0])
        of_images = [self._core(t).gates_of_image(x) for t in range(len(self.cores))]
        rows = min(len(z), max(1, math.isqrt(block)))
        return torch.cat([self._pairs(part, of_images, max(1, block // rows)) for part in z.split(rows)])

    def dialled_layers(self) -> dict[nn.Module, Follow]:
        """The LSTMs (a shift is enough for the encoder, the decoder is what sees the latents), and what these are drawn
        from."""
        layers: dict[nn.Module, Follow] = {}
        for core in map(self._core, range(len(self.cores))):
            layers |= {core.encoder: "shift", core.decoder: "all"}
            layers |= {core.posterior_head: "both", core.prior_head: "both"}
        return layers

    def _infer(self, x: Tensor, context: Tensor | None, generator: Generator | None, steps: int) -> ModelOutput:
        x_hat, z, (posterior, prior) = self._chain(x, context, generator, steps)
        return ModelOutput(x_hat, gaussian_kl(*posterior, prior), z)

    def _pairs(self, z: Tensor, of_images: list[Tensor], columns: int) -> Tensor:
        """:meth:`log_posterior_pairs` for a part of z, so many images at a time."""
        steps = self._steps_of(z)
        _, decoder, canvas = self._start(len(z), None)
        of_z = []
        for t in range(self.steps):
            of_z.append(self._core(t).gates_of_decoder(canvas, decoder.h))
            decoder, canvas = self._core(t).decode(steps[:, t], canvas, decoder, None)
        done = []
        for first in range(0, len(of_images[0]), columns):
            encoder: State | None = None
            log_q = z.new_zeros(())
            for t, of_decoder in enumerate(of_z):
                core = self._core(t)
                of_image = of_images[t % len(of_images)][first : first + columns]
                gates = (of_decoder[:, None] + of_image).flatten(0, 1)
                encoder = core.encode_gates(gates, encoder)
                mean, log_std = (part.flatten(1).unflatten(0, (len(z), -1)) for part in core.posterior(encoder.h))
                log_q = log_q + gaussian_log_prob(steps[:, t].flatten(1)[:, None], mean, log_std)
            done.append(log_q)
        return torch.cat(done, dim=1)

    def _steps_of(self, z: Tensor) -> Tensor:
        """Latents (B, D) step by step, (B, T, latent_channels, h, w)."""
        return z.unflatten(1, (self.steps, *self.latent_shape))

    def _images_of(self, params: Tensor) -> tuple[Tensor, Tensor | None]:
        """The images and contexts that :meth:`posterior` put into a row each."""
        x = params[:, : math.prod(self.image_shape)].unflatten(1, self.image_shape)
        if self.context_shape is None:
            return x, None
        return x, params[:, math.prod(self.image_shape) :].unflatten(1, self.context_shape)

    def _chain(
        self, x: Tensor, context: Tensor | None, generator: Generator | None, steps: int, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor, LatentGaussians]:
        """Reconstructions through a sample of the posterior or through ``given`` latents, these, and the posteriors and
        priors of each step after those before it."""
        x = self._to_grid(x)
        features, decoder, canvas = self._start(len(x), context)
        carried = _Carried(State.zeros_like(decoder), decoder, canvas)
        # x and the context do not change, so one convolution of them serves all steps that share a core.
        fixed = self._core(0).fixed(x, features) if len(self.cores) == 1 else None
        recompute = self.recompute and torch.is_grad_enabled()
        length = max(1, round(math.sqrt(steps / _INSIDE))) if recompute else steps
        z, posteriors, priors = [], [], []
        for first in range(0, steps, length):
            part = range(first, min(first + length, steps))
            # Noise is drawn outside of what may run twice.
            if given is None:
                draws = [partial(gaussian_at, noise=self._noise(len(x), generator)) for _ in part]
            else:
                draws = [partial(_as_given, z=given[:, t]) for t in part]
            if recompute:
                carried, latents = checkpoint(
                    self._advance,
                    part,
                    x,
                    features,
                    fixed,
                    carried,
                    draws,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                carried, latents = self._advance(part, x, features, fixed, carried, draws)
            for one_z, posterior, prior in latents:
                z.append(one_z)
                posteriors.append(posterior)
                priors.append(prior)
        x_hat = self._to_images(carried.canvas)
        return x_hat, torch.stack(z, dim=1), LatentGaussians(_stack(posteriors), _stack(priors))

    def _advance(
        self,
        part: range,
        x: Tensor,
        features: Tensor | None,
        fixed: tuple[Tensor, Tensor | None] | None,
        carried: _Carried,
        draws: list[partial[Tensor]],
    ) -> tuple[_Carried, list[tuple[Tensor, Gaussian, Gaussian]]]:
        """Some steps of the recurrence, with what takes a z from the posterior of each: where they end, and each step's
        z, posterior and prior."""
        encoder, decoder, canvas = carried
        latents = []
        for t, draw in zip(part, draws, strict=True):
            core = self._core(t)
            encoder_fixed, decoder_fixed = core.fixed(x, features) if fixed is None else fixed
            prior = core.prior(decoder.h)
            encoder = core.encode(x - canvas, decoder.h, encoder, encoder_fixed)
            posterior = core.posterior(encoder.h)
            z = draw(*posterior)
            decoder, canvas = core.decode(z, canvas, decoder, decoder_fixed)
            latents.append((z, posterior, prior))
        return _Carried(encoder, decoder, canvas), latents

    def _noise(self, n: int, generator: Generator | None) -> Tensor:
        weight = self._core(0).output.weight
        dtype = full_precision(weight).dtype
        return torch.randn(n, *self.latent_shape, generator=generator, device=weight.device, dtype=dtype)

    def _generate(
        self, n: int, context: Tensor | None, generator: Generator | None, steps: int | None
    ) -> tuple[Tensor, Tensor]:
        """Ancestral samples: latents and images."""
        features, state, canvas = self._start(n, context)
        z = []
        for t in range(self._checked(steps)):
            core = self._core(t)
            if t < len(self.cores):
                fixed = core.decoder_fixed(features)
            z.append(gaussian_sample(*core.prior(state.h), generator))
            state, canvas = core.decode(z[-1], canvas, state, fixed)
        return torch.stack(z, dim=1), self._to_images(canvas)

    def _start(self, n: int, context: Tensor | None) -> tuple[Tensor | None, State, Tensor]:
        """The context's features, the decoder's first state, and the empty canvas, for ``n`` images."""
        weight = self._core(0).output.weight
        canvas = weight.new_zeros(n, len(weight), *self.grid)
        self._check_context(n, context)
        if self.context_tower is None or context is None:
            zeros = weight.new_zeros(n, weight.shape[1], *self.grid)
            return None, State(zeros, zeros), canvas
        features, state = self.context_tower(self._to_grid(context))
        return features, state, canvas

    def _check_context(self, n: int, context: Tensor | None) -> None:
        if self.context_tower is None:
            if context is not None:
                raise ConfigError("this ConvDRAW is unconditional: leave out the context or build with context_shape")
        elif context is None or len(context) != n:
            given = "none" if context is None else len(context)
            raise ConfigError(f"this ConvDRAW is conditional: {n} images need {n} context images, got {given}")

    def _core(self, t: int) -> Core:
        core = self.cores[t % len(self.cores)]
        assert isinstance(core, Core)
        return core

    def _checked(self, steps: int | None, most: int | None = None) -> int:
        most = self.steps if most is None else most
        if steps is None:
            return most
        if not 1 <= steps <= most:
            raise ConfigError(f"steps must lie in 1 to {most}, got {steps}")
        return steps

    def _to_grid(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to (B, C scale^2, h, w)."""
        height, width = (side * self.scale for side in self.grid)
        if images.shape[-2:] != (height, width):
            images = F.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]))
        return F.pixel_unshuffle(images, self.scale)

    def _to_images(self, canvas: Tensor) -> Tensor:
        """The inverse of :meth:`_to_grid`, in full precision."""
        height, width = self.image_shape[1:]
        return full_precision(F.pixel_shuffle(canvas, self.scale)[:, :, :height, :width])


class State(NamedTuple):
    """The state of a convolutional LSTM: output and cell, each (B, channels, h, w)."""

    h: Tensor
    c: Tensor

    @staticmethod
    def zeros_like(state: State) -> State:
        zeros = torch.zeros_like(state.h)
        return State(zeros, zeros)

    def step(self, gates: Tensor) -> State:
        """The next state from the four gates before their nonlinearities, (B, 4 channels, h, w)."""
        admit, forget, emit, new = gates.chunk(4, dim=1)
        c = forget.sigmoid() * self.c + admit.sigmoid() * new.tanh()
        return State(emit.sigmoid() * c.tanh(), c)


class _Carried(NamedTuple):
    """What a step of the inference hands to the next one."""

    encoder: State
    decoder: State
    canvas: Tensor


class Core(nn.Module):
    """The networks of one step. All maps are on the latent grid; an image has ``pixels`` channels there.

    A convolution of a concatenation is a sum of convolutions: what the LSTMs read at every step without change (x, the
    context) has convolutions of its own, ``encoder_constant`` and ``decoder_constant``.
    """

    def __init__(self, pixels: int, channels: int, latent_channels: int, kernel: int, context: int) -> None:
        super().__init__()
        gates, pad = 4 * channels, kernel // 2
        self.encoder_constant = nn.Conv2d(pixels + context, gates, kernel, padding=pad, bias=False)
        self.decoder_constant = nn.Conv2d(context, gates, kernel, padding=pad, bias=False) if context else None
        self.encoder = nn.Conv2d(pixels + 2 * channels, gates, kernel, padding=pad)
        self.decoder = nn.Conv2d(latent_channels + pixels + channels, gates, kernel, padding=pad)
        self.posterior_head = nn.Conv2d(channels, 2 * latent_channels, kernel, padding=pad)
        self.prior_head = nn.Conv2d(channels, 2 * latent_channels, kernel, padding=pad)
        self.output = nn.Conv2d(channels, pixels, 1)
        for lstm in (self.encoder, self.decoder):
            assert lstm.bias is not None
            nn.init.ones_(lstm.bias[channels : 2 * channels])  # an LSTM that starts out forgetting learns slowly

    def fixed(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What x and the context add to the encoder's gates, and to the decoder's."""
        seen = x if context is None else torch.cat((x, context), dim=1)
        return self.encoder_constant(seen), self.decoder_fixed(context)

    def decoder_fixed(self, context: Tensor | None) -> Tensor | None:
        """What the context adds to the decoder's gates."""
        return None if self.decoder_constant is None else self.decoder_constant(context)

    def encode(self, error: Tensor, decoder_h: Tensor, state: State, fixed: Tensor) -> State:
        """The encoder's next state."""
        return state.step(self.encoder(torch.cat((error, decoder_h, state.h), dim=1)) + fixed)

    def gates_of_image(self, x: Tensor) -> Tensor:
        """What an image adds to the encoder's gates at any step, where there is no context; the bias included."""
        weight = self.encoder.weight[:, : x.shape[1]]
        return self.encoder_constant(x) + F.conv2d(x, weight, self.encoder.bias, padding=self.encoder.padding)

    def gates_of_decoder(self, canvas: Tensor, decoder_h: Tensor) -> Tensor:
        """What the decoder's last step adds to them."""
        seen = torch.cat((-canvas, decoder_h), dim=1)
        return F.conv2d(seen, self.encoder.weight[:, : seen.shape[1]], padding=self.encoder.padding)

    def encode_gates(self, gates: Tensor, state: State | None) -> State:
        """The encoder's next state, by those two added up; without a state the first one."""
        if state is None:
            zeros = torch.zeros_like(gates[:, : gates.shape[1] // 4])
            return State(zeros, zeros).step(gates)
        weight = self.encoder.weight[:, -state.h.shape[1] :]
        return state.step(gates + F.conv2d(state.h, weight, padding=self.encoder.padding))

    def decode(self, z: Tensor, canvas: Tensor, state: State, fixed: Tensor | None) -> tuple[State, Tensor]:
        """The decoder's next state and the next canvas."""
        gates = self.decoder(torch.cat((z, canvas, state.h), dim=1))
        state = state.step(gates if fixed is None else gates + fixed)
        return state, canvas + self.output(state.h)

    def posterior(self, encoder_h: Tensor) -> Gaussian:
        """q(z_t | x, z_<t) from the encoder's output of this step."""
        return gaussian_parameters(self.posterior_head(encoder_h))

    def prior(self, decoder_h: Tensor) -> Gaussian:
        """p(z_t | z_<t) from the decoder's output of the step before."""
        return gaussian_parameters(self.prior_head(decoder_h))


class ContextTower(nn.Module):
    """A context on the latent grid (B, pixels, h, w) to features (B, channels, h, w) and the decoder's first state."""

    def __init__(self, pixels: int, channels: int, kernel: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (pixels, channels, channels):
            layers += [nn.Conv2d(inputs, channels, kernel, padding=kernel // 2), nn.SiLU()]
        self.tower = nn.Sequential(*layers)
        self.state = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, context: Tensor) -> tuple[Tensor, State]:
        features = self.tower(context)
        h, c = full_precision(self.state(features)).chunk(2, dim=1)
        return features, State(h.tanh(), c)


def _as_given(mean: Tensor, log_std: Tensor, z: Tensor) -> Tensor:
    """What stands in for :func:`gaussian_at` where z is known already."""
    return z


def _stack(steps: list[Gaussian]) -> Gaussian:
    means, log_stds = zip(*steps, strict=True)
    return torch.stack(means, dim=1), torch.stack(log_stds, dim=1)
