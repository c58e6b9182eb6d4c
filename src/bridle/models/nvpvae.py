"""VAE + NVP: the paper's second model, a VAE whose posterior is a normalizing flow."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from bridle.errors import ConfigError
from bridle.models.base import Follow, ImageShape, ImportanceSample
from bridle.models.blocks import ConvLatentModel
from bridle.models.flow import ConditionalRealNVP
from bridle.models.gaussian import full_precision, standard_normal_log_prob

__all__ = ["NVPVAE"]


class NVPVAE(ConvLatentModel):
    """VAE with a convolutional encoder and decoder and a RealNVP posterior.

    ::

        x ──► conv 3x3, stride 2 (until the grid is at most 4x4) ──► linear ──► features ─┐
        noise ──► mean + std * noise ──► couplings, each: MLP([half of z, features]) ─────┴─► z ~ q(z|x)
        z ──► linear ──► transposed conv 4x4, stride 2, cropped to the encoder's sizes ──► x_hat

    The prior is a standard normal. The KL is estimated by one sample, log q(z|x) - log p(z), at the z that is decoded:
    unbiased, and negative for some images. The posterior starts as the prior, with a KL of exactly 0. A context image
    goes through an encoder of its own, whose features join those of ``x`` and ``z``.

    Arguments:
        image_shape: Channels, height and width; each side 8 to 128.
        context_shape: The same of the context images, or None.
        latents: Dimensions of z, at least 2.
        width: Channels of the first convolution; the later ones have twice as many.
        hidden: Units between the convolutions and the latents, which are the flow's context.
        couplings: Affine couplings of the flow, at least 2.
        flow_hidden: Units of both hidden layers of each coupling's network.

    Raises:
        ConfigError: A side or a setting out of its range.

    Example:
        >>> model = NVPVAE((1, 28, 28))
        >>> out = model(torch.rand(5, 1, 28, 28))
        >>> out.x_hat.shape, out.kl.shape, out.z.shape
        (torch.Size([5, 1, 28, 28]), torch.Size([5]), torch.Size([5, 64]))
    """

    def __init__(
        self,
        image_shape: ImageShape,
        context_shape: ImageShape | None = None,
        latents: int = 64,
        width: int = 32,
        hidden: int = 256,
        couplings: int = 8,
        flow_hidden: int = 256,
    ) -> None:
        super().__init__(image_shape, context_shape, latents, width, hidden)
        try:
            self.flow = ConditionalRealNVP(latents, self.features, couplings, (flow_hidden, flow_hidden))
        except ValueError as error:
            raise ConfigError(f"NVPVAE: {error}") from None

    def importance(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> ImportanceSample:
        out = self(x, context, generator)
        return ImportanceSample(out.x_hat, out.kl)  # which is estimated by log q(z|x) - log p(z) at the same z

    def log_posterior(self, z: Tensor, params: Tensor) -> Tensor:
        return self.flow.log_prob(z, params)

    def dialled_layers(self) -> dict[nn.Module, Follow]:
        """And what the flow is told of the image."""
        return {**super().dialled_layers(), self.flow.context: "both"}

    def _posterior_of(self, features: Tensor) -> Tensor:
        return self.flow.context_share(features)

    def _draw(self, params: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        dtype = full_precision(params).dtype
        noise = torch.randn(len(params), self.latents, generator=generator, device=params.device, dtype=dtype)
        z, log_posterior = self.flow.sample_and_log_prob(noise, params)
        return z, log_posterior - standard_normal_log_prob(z)
