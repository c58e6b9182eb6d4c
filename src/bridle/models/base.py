"""The protocol that every model of Bridle keeps, so that objectives, training and reports need to know no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from bridle.models.gaussian import Gaussian

__all__ = [
    "Follow",
    "HasPosteriorDensity",
    "ImageShape",
    "ImportanceSample",
    "LatentGaussians",
    "LatentModel",
    "ModelOutput",
]

ImageShape = tuple[int, int, int]
"""Channels, height, width."""

Follow = Literal["scale", "shift", "both", "gains", "all"]
"""What becomes of a layer on a dial: its outputs are scaled, shifted, or both; its inputs are scaled and its outputs
shifted; or all three. Scaled inputs are for a layer behind the latents, which can so do without some of them at loose
kappas."""


class ModelOutput(NamedTuple):
    """What a model gives for a batch of images.

    ``x_hat``: the reconstruction, shape ``(B, C, H, W)``, in pixel units (the data lie in [0, 1], the reconstruction
    is the mean of the likelihood and not clipped). ``kl``: the rate of each example, shape ``(B,)``, in nats; exact or
    a one-sample estimate, as the model says. ``z``: the latents it was decoded from, shape ``(B, ...)``.
    """

    x_hat: Tensor
    kl: Tensor
    z: Tensor


class ImportanceSample(NamedTuple):
    """One z of the posterior for each image, and what it weighs.

    ``x_hat``: what was decoded from it, shape ``(B, C, H, W)``, pixel units. ``log_ratio``: log q(z | x) - log p(z) at
    that z, shape ``(B,)``, nats; its mean over z is the KL.
    """

    x_hat: Tensor
    log_ratio: Tensor


class LatentGaussians(NamedTuple):
    """The diagonal Gaussians of the latents, each a mean and a log standard deviation of z's shape ``(B, ...)``.

    ``posterior``: what each latent was drawn from. ``prior``: what it would be drawn from in a sample, given the same
    latents before it where there are several steps.
    """

    posterior: Gaussian
    prior: Gaussian


class LatentModel(nn.Module, ABC):
    """A latent-variable model ``p(z) p(x | z)`` with a posterior ``q(z | x)``, optionally all given a context image.

    A subclass takes ``image_shape`` and ``context_shape`` as its first two arguments, then its own settings, all with
    defaults: ``bridle train --model`` offers those as options. The latents of an image are one tensor,
    with a dimension for the steps where a model has several, so that they can be stored and interpolated without
    knowing the model.

    Arguments:
        image_shape: Channels, height and width of the images.
        context_shape: The same of the context images, or None for an unconditional model.

    Raises:
        ValueError: An image size that the model cannot take.
    """

    def __init__(self, image_shape: ImageShape, context_shape: ImageShape | None = None) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.context_shape = context_shape

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        """Reconstruct ``x`` through a sample of the posterior, and give its rate.

        Arguments:
            x: Images in [0, 1], shape ``(B, C, H, W)``.
            context: Context images in [0, 1], shape ``(B, *context_shape)``.
            generator: Source of the posterior's noise, on the device of ``x``; the global one without it.
        """

    @abstractmethod
    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """A sample of ``q(z | x)``, shape ``(B, ...)``."""

    @abstractmethod
    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The mean of ``p(x | z)``, shape ``(B, C, H, W)``."""

    @abstractmethod
    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """``n`` samples of ``p(z)``, or of ``p(z | context)`` for a context of ``n`` images, on the model's device."""

    def sample(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """``n`` images decoded from the prior, shape ``(n, C, H, W)``."""
        return self.decode(self.prior(n, context, generator), context)

    def reconstruct(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Images decoded from a sample of the posterior, shape ``(B, C, H, W)``."""
        return self(x, context, generator).x_hat

    def importance(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> ImportanceSample | None:
        """A sample of the posterior with its weight, which importance-weighted likelihoods need; None for a model that
        does not tell its densities, as here. The arguments are those of :meth:`forward`."""
        return None

    def latent_gaussians(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> LatentGaussians | None:
        """What each latent was drawn from, for the KL of each latent: its sum over latents is the KL that
        :meth:`forward` gives with the same generator. None for a model whose KL is no such sum, as here."""
        return None

    def dialled_layers(self) -> dict[nn.Module, Follow] | None:
        """The linear layers and convolutions that follow a :class:`bridle.Dial` if the model is on one, and how. None,
        as here: all of them, see :class:`Dialled`. Few are enough, as what comes behind them depends on the dial
        through what they give, and each costs time."""
        return None

    def dialled_decoder(self) -> nn.Module | None:
        """The part of the model that all of ``x_hat`` comes out of and all of ``z`` goes into, if there is one, so that
        a dial can balance what it learns, see :class:`Dialled`. None, as here, if there is none."""
        return None


class HasPosteriorDensity(ABC):
    """What a :class:`LatentModel` can do besides, if ``log q(z | x)`` is known exactly at any z.

    The marginal KL needs it, for many z and many images at once. (Importance-weighted likelihoods do not: they need
    :meth:`LatentModel.importance`.) So it is split in two: :meth:`posterior` runs the encoder once an image, and
    :meth:`log_posterior` does what is left for each z. Its leading dimensions broadcast::

        params = model.posterior(x)                          # (N, P), a row an image
        model.log_posterior(z, params)                       # z (N, D): each under its own image -> (N,)
        model.log_posterior(z, params)                       # z (K, N, D): K of each image's -> (K, N)
        model.log_posterior(z[:, None], params)              # z (S, D): each under every image -> (S, N)
        model.log_posterior_pairs(z, params)                 # the same in blocks, memory bounded -> (S, N)

    All of it in float64 for ``model.double()`` and images in float64.

    Where a posterior is one of many steps, each after the z of those before, there is nothing that could be run once
    an image: ``encodes_pairs`` then says that every pair takes a pass of the encoder.
    """

    encodes_pairs: ClassVar[bool] = False

    @abstractmethod
    def posterior(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The parameters of ``q(z | x)``: a row an image, shape ``(N, P)``, to be taken apart by
        :meth:`log_posterior` only."""

    @abstractmethod
    def log_posterior(self, z: Tensor, params: Tensor) -> Tensor:
        """``log q(z | x)`` in nats.

        Arguments:
            z: Any points, shape ``(..., D)``.
            params: From :meth:`posterior`, shape ``(..., P)``; the leading dimensions broadcast with those of ``z``.

        Returns:
            The broadcast leading shape.
        """

    def log_posterior_pairs(self, z: Tensor, params: Tensor, block: int = 2048) -> Tensor:
        """``log q(z | x)`` of every z under every image, in nats.

        Arguments:
            z: Any points, shape ``(S, D)``.
            params: From :meth:`posterior`, shape ``(N, P)``.
            block: How many pairs are worked on at a time, which bounds the memory besides the result; few
                enough to stay in the processor's cache are fastest.

        Returns:
            Shape ``(S, N)``.
        """
        rows = min(len(z), block)
        columns = max(1, block // rows)
        blocks = [
            torch.cat([self.log_posterior(part[:, None], p) for p in params.split(columns)], dim=1)
            for part in z.split(rows)
        ]
        return torch.cat(blocks)
