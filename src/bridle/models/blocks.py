"""What the models with one vector of latents share: a convolutional encoder and decoder, and all but the posterior."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Generator, Tensor, nn

from bridle.errors import ConfigError
from bridle.models.base import Follow, HasPosteriorDensity, ImageShape, LatentModel, ModelOutput
from bridle.models.gaussian import full_precision

__all__ = ["ConvLatentModel", "Decoder", "Encoder"]

_SMALLEST_GRID = 4


class ConvLatentModel(LatentModel, HasPosteriorDensity):
    """A latent-variable model with a standard normal prior, a convolutional encoder and a convolutional decoder.

    ::

        x ──► conv 3x3, stride 2 (until the grid is at most 4x4) ──► linear ──► features ──► q(z|x)
        z ──► linear ──► transposed conv 4x4, stride 2, cropped to the encoder's sizes ──► x_hat

    A context image goes through an encoder of its own, whose features join those of ``x`` and ``z``. A subclass adds
    the posterior: :meth:`_posterior_of` from features, :meth:`_draw` and :meth:`log_posterior` from parameters.

    Arguments:
        image_shape: Channels, height and width; each side 8 to 128.
        context_shape: The same of the context images, or None.
        latents: Dimensions of z.
        width: Channels of the first convolution; the later ones have twice as many.
        hidden: Units between the convolutions and the latents.

    Raises:
        ConfigError: A side or a setting out of its range.
    """

    def __init__(
        self, image_shape: ImageShape, context_shape: ImageShape | None, latents: int, width: int, hidden: int
    ) -> None:
        super().__init__(image_shape, context_shape)
        sides = image_shape[1:]
        if min(sides) < 8 or max(sides) > 128:
            name = type(self).__name__
            raise ConfigError(f"{name} takes images of 8 to 128 pixels a side, not {sides[0]}x{sides[1]}")
        if min(latents, width, hidden) < 1:
            raise ConfigError(f"latents, width and hidden must be at least 1, got {latents}, {width}, {hidden}")
        self.latents = latents
        self.features = hidden if context_shape is None else 2 * hidden
        self.encoder = Encoder(image_shape, width, hidden)
        self.context_encoder = None if context_shape is None else Encoder(context_shape, width, hidden)
        self.decoder = Decoder(image_shape, latents + self.features - hidden, width, hidden)

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        context_features = self._context_features(context)
        z, kl = self._draw(self._posterior(x, context_features), generator)
        return ModelOutput(self._decode(z, context_features), kl, z)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return self._draw(self.posterior(x, context), generator)[0]

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self._decode(z, self._context_features(context))

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        weight = next(self.parameters())
        return torch.randn(n, self.latents, generator=generator, device=weight.device, dtype=weight.dtype)

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self._posterior(x, self._context_features(context))

    def dialled_layers(self) -> dict[nn.Module, Follow]:
        """The first layers that see all of an image, and all latents of one."""
        encoders = [self.encoder] if self.context_encoder is None else [self.encoder, self.context_encoder]
        return {**{encoder.dense: "scale" for encoder in encoders}, self.decoder.dense[0]: "gains"}

    def dialled_decoder(self) -> nn.Module:
        return self.decoder

    @abstractmethod
    def _posterior_of(self, features: Tensor) -> Tensor:
        """The posterior's parameters, a row an image, from features (B, self.features)."""

    @abstractmethod
    def _draw(self, params: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """A sample of each image's posterior (B, latents), and the KL (B,) in nats."""

    def _context_features(self, context: Tensor | None) -> Tensor | None:
        name = type(self).__name__
        if self.context_encoder is None:
            if context is not None:
                raise ConfigError(
                    f"this {name} is unconditional: leave out the context, or build it with context_shape"
                )
            return None
        if context is None:
            raise ConfigError(f"this {name} is conditional: give it context images")
        return self.context_encoder(context)

    def _posterior(self, x: Tensor, context_features: Tensor | None) -> Tensor:
        features = self.encoder(x)
        if context_features is not None:
            features = torch.cat((features, context_features), dim=1)
        return self._posterior_of(features)

    def _decode(self, z: Tensor, context_features: Tensor | None) -> Tensor:
        return self.decoder(z if context_features is None else torch.cat((z, context_features), dim=1))


def _grids(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes of an image as strided convolutions halve it, rounding up, until no side is longer than 4."""
    sizes = [(height, width)]
    while max(sizes[-1]) > _SMALLEST_GRID:
        h, w = sizes[-1]
        sizes.append((math.ceil(h / 2), math.ceil(w / 2)))
    return sizes


class Encoder(nn.Sequential):
    """Images (B, C, H, W) to features (B, hidden)."""

    def __init__(self, image_shape: ImageShape, width: int, hidden: int) -> None:
        channels, *sides = image_shape
        sizes = _grids(*sides)
        layers: list[nn.Module] = []
        for level in range(len(sizes) - 1):
            layers += [nn.Conv2d(channels, width * (1 + (level > 0)), 3, 2, 1), nn.SiLU()]
            channels = width * (1 + (level > 0))
        h, w = sizes[-1]
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * h * w, hidden), nn.SiLU())

    @property
    def dense(self) -> nn.Module:
        """The linear layer."""
        return self[-2]


class Decoder(nn.Module):
    """Latents and context features (B, inputs) to the mean of the pixels (B, C, H, W)."""

    def __init__(self, image_shape: ImageShape, inputs: int, width: int, hidden: int) -> None:
        super().__init__()
        self.sizes = _grids(*image_shape[1:])[::-1]
        levels = len(self.sizes) - 1
        channels = [width * (1 + (level > 0)) for level in range(levels)][::-1]
        self.grid = (channels[0], *self.sizes[0])
        self.dense = nn.Sequential(
            nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, math.prod(self.grid)), nn.SiLU()
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in zip(channels, [*channels[1:], image_shape[0]], strict=True)
        )

    def forward(self, z: Tensor) -> Tensor:
        h = self.dense(z).view(-1, *self.grid)
        for level, (layer, (height, width)) in enumerate(zip(self.up, self.sizes[1:], strict=True)):
            h = layer(h)[:, :, :height, :width]
            if level < len(self.up) - 1:
                h = nn.functional.silu(h)
        return full_precision(h)
