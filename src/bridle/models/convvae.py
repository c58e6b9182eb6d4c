"""A convolutional VAE with a diagonal Gaussian posterior: the plainest model of the protocol."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from bridle.models.base import ImageShape
from bridle.models.blocks import ConvLatentModel
from bridle.models.gaussian import gaussian_kl, gaussian_log_prob, gaussian_parameters, gaussian_sample

__all__ = ["ConvVAE"]


class ConvVAE(ConvLatentModel):
    """VAE with a convolutional encoder and decoder.

    ::

        x ──► conv 3x3, stride 2 (until the grid is at most 4x4) ──► linear ──► q(z|x) = N(mean, diag(std^2))
        z ──► linear ──► transposed conv 4x4, stride 2, cropped to the encoder's sizes ──► x_hat

    The prior is a standard normal, and the KL is exact. A context image goes through an encoder of its own, whose
    features join those of ``x`` and ``z``.

    Arguments:
        image_shape: Channels, height and width; each side 8 to 128.
        context_shape: The same of the context images, or None.
        latents: Dimensions of z.
        width: Channels of the first convolution; the later ones have twice as many.
        hidden: Units between the convolutions and the latents.

    Example:
        >>> model = ConvVAE((1, 28, 28))
        >>> out = model(torch.rand(5, 1, 28, 28))
        >>> out.x_hat.shape, out.kl.shape, out.z.shape
        (torch.Size([5, 1, 28, 28]), torch.Size([5]), torch.Size([5, 32]))
    """

    def __init__(
        self,
        image_shape: ImageShape,
        context_shape: ImageShape | None = None,
        latents: int = 32,
        width: int = 16,
        hidden: int = 256,
    ) -> None:
        super().__init__(image_shape, context_shape, latents, width, hidden)
        self.head = nn.Linear(self.features, 2 * latents)

    def log_posterior(self, z: Tensor, params: Tensor) -> Tensor:
        return gaussian_log_prob(z, *params.chunk(2, dim=-1))

    def _posterior_of(self, features: Tensor) -> Tensor:
        return torch.cat(gaussian_parameters(self.head(features)), dim=1)

    def _draw(self, params: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        mean, log_std = params.chunk(2, dim=1)
        return gaussian_sample(mean, log_std, generator), gaussian_kl(mean, log_std)
