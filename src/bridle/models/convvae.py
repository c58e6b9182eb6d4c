"""A convolutional VAE with a diagonal Gaussian posterior: the plainest model of the protocol."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from bridle.models.base import Follow, ImageShape, ImportanceSample, LatentGaussians
from bridle.models.blocks import ConvLatentModel
from bridle.models.gaussian import (
    gaussian_kl,
    gaussian_log_prob,
    gaussian_parameters,
    gaussian_sample,
    standard_normal_log_prob,
)

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

    def importance(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> ImportanceSample:
        context_features = self._context_features(context)
        params = self._posterior(x, context_features)
        z = self._draw(params, generator)[0]
        log_ratio = self.log_posterior(z, params) - standard_normal_log_prob(z)
        return ImportanceSample(self._decode(z, context_features), log_ratio)

    def latent_gaussians(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> LatentGaussians:
        mean, log_std = self.posterior(x, context).chunk(2, dim=1)
        zeros = torch.zeros_like(mean)
        return LatentGaussians((mean, log_std), (zeros, zeros))

    def log_posterior(self, z: Tensor, params: Tensor) -> Tensor:
        return gaussian_log_prob(z, *params.chunk(2, dim=-1))

    def log_posterior_pairs(self, z: Tensor, params: Tensor, block: int = 2048) -> Tensor:
        r"""``log q(z | x)`` of every z under every image, in nats, by two matrix products instead of blocks of pairs.

        :math:`\sum_d (z_d - \mu_d)^2 / \sigma_d^2` is expanded into products of a row of z and a row of an image. The
        three terms can be millions of times larger than what is left of them, so all of it is float64: at the least
        standard deviation, exp(-7), the error is about 1e-8 nats, where in float32 it would be several.

        Arguments:
            z: Any points, shape ``(S, D)``.
            params: From :meth:`posterior`, shape ``(N, 2 D)``.
            block: Without effect here: there are no pairs of vectors to hold.

        Returns:
            Shape ``(S, N)``, float64.
        """
        z, (mean, log_std) = z.double(), params.double().chunk(2, dim=1)
        precision = torch.exp(-2 * log_std)
        constant = (mean.square() * precision + 2 * log_std).sum(dim=1) + self.latents * math.log(2 * math.pi)
        squared_distance = torch.addmm(constant, z, (mean * precision).T, alpha=-2).addmm_(z.square(), precision.T)
        return squared_distance.mul_(-0.5)

    def dialled_layers(self) -> dict[nn.Module, Follow]:
        """And the posterior's own, where a latent is taken up at tight kappas and left at loose ones."""
        return {**super().dialled_layers(), self.head: "scale"}

    def _posterior_of(self, features: Tensor) -> Tensor:
        return torch.cat(gaussian_parameters(self.head(features)), dim=1)

    def _draw(self, params: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        mean, log_std = params.chunk(2, dim=1)
        return gaussian_sample(mean, log_std, generator), gaussian_kl(mean, log_std)
