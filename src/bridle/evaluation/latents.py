r"""Which latents a model uses: the KL of each, and the active units of Burda et al. (2016).

A latent is active if the mean of its posterior differs between images: if
:math:`A = \mathrm{Var}_x(\mathbb E_{q(z|x)}[z]) > 0.01`, in units of its prior's variance. Burda et al. found A to be
either near zero or far above that threshold.

References:
    | Importance Weighted Autoencoders (Burda et al., 2016)
    | https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from bridle.data import Batch, Split
from bridle.errors import ConfigError
from bridle.evaluation.passes import SEED, batches, measuring, random_points
from bridle.models.base import LatentGaussians, LatentModel
from bridle.models.gaussian import gaussian_kl

__all__ = ["ACTIVE_ABOVE", "Latents", "measure_latents"]

ACTIVE_ABOVE = 0.01
"""The threshold of Burda et al. on the variance of the posterior's mean."""

_SAMPLED_IMAGES = 2000
_SAMPLES = 16


@dataclass(frozen=True)
class Latents:
    """What each latent does. Lists are nested as z's shape without the batch.

    ``n``: images; ``samples``: how many z of each image the variance was estimated from, 0 where the model states its
    Gaussians; ``dimensions``: how many latents there are; ``active``: how many of them are active; ``variance``: of the
    posterior's mean over images, in units of the prior's variance, an unbiased estimate that can fall just below zero;
    ``kl``: nats of each latent, averaged over images, None for a posterior whose KL is no sum over latents.
    """

    n: int
    samples: int
    dimensions: int
    active: int
    variance: list[Any]
    kl: list[Any] | None


def measure_latents(model: LatentModel, split: Split) -> Latents:
    """Measures the latents of a model.

    Where the model states its Gaussians (:meth:`bridle.models.LatentModel.latent_gaussians`), the posterior's mean is
    taken from them, moved and scaled so that the prior is the standard normal; with a learned prior a latent that only
    follows its prior is thereby not active. In a model of several steps that mean depends on the z of the steps before
    as well, and would vary between equal images. So they are drawn twice: the covariance over images of the two means
    is an unbiased estimate of the variance of their expectation given the image. For other models, such as flows, the
    variance of the mean is estimated from 16 samples of z for each of 2,000 images: the variance over images of the
    samples' average, less a sixteenth of the variance within images. That assumes a prior of variance 1, and its
    standard error is about 0.002 for a latent that is not used.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        split: On the same device; used whole where the Gaussians are known.

    Raises:
        ConfigError: Fewer than 2 images.
    """
    if len(split) < 2:
        raise ConfigError(f"the variance over images needs at least 2 images, got {len(split)}")
    with measuring(model) as generator:
        first = next(batches(model, split, torch.arange(1)))
        known = model.latent_gaussians(first.x, first.context, generator) is not None
    with measuring(model) as generator:
        return (_by_gaussians if known else _by_samples)(model, split, generator)


def _by_gaussians(model: LatentModel, split: Split, generator: Generator) -> Latents:
    n = len(split)
    # Of its own, so that the first draws, and with them the KL, are those of :func:`bridle.evaluation.measure_split`.
    second_generator = Generator(generator.device).manual_seed(SEED + 1)
    first_sum = second_sum = product = kl = torch.zeros((), dtype=torch.float64, device=generator.device)
    for batch in batches(model, split):
        known, again = (model.latent_gaussians(batch.x, batch.context, g) for g in (generator, second_generator))
        assert known is not None and again is not None
        first, second = _in_prior_units(known), _in_prior_units(again)
        first_sum = first_sum + first.sum(dim=0)
        second_sum = second_sum + second.sum(dim=0)
        product = product + (first * second).sum(dim=0)
        kl = kl + _kl_of_each(known).sum(dim=0)
    variance = (product - first_sum * second_sum / n) / (n - 1)
    return _latents(n, 0, variance, (kl / n).tolist())


def _in_prior_units(known: LatentGaussians) -> Tensor:
    """The posterior's means (B, ...) where the prior is the standard normal, float64."""
    (mean, _), (prior_mean, prior_log_std) = known
    return ((mean - prior_mean) * torch.exp(-prior_log_std)).double()


def _by_samples(model: LatentModel, split: Split, generator: Generator) -> Latents:
    index = random_points(split, _SAMPLED_IMAGES)
    averages, within = [], []
    for batch in batches(model, split, index):
        z = _several(model, batch, generator).double()
        averages.append(z.mean(dim=0))
        within.append(z.var(dim=0))
    variance = torch.cat(averages).var(dim=0) - torch.cat(within).mean(dim=0) / _SAMPLES
    return _latents(len(index), _SAMPLES, variance, None)


def _several(model: LatentModel, batch: Batch, generator: Generator) -> Tensor:
    return torch.stack([model.encode(batch.x, batch.context, generator) for _ in range(_SAMPLES)])


def _kl_of_each(known: LatentGaussians) -> Tensor:
    """The KL of each latent of each image (B, ...), nats, float64."""
    (mean, log_std), prior = known
    flat_prior = (prior[0].reshape(-1, 1), prior[1].reshape(-1, 1))
    return gaussian_kl(mean.reshape(-1, 1), log_std.reshape(-1, 1), flat_prior).view_as(mean).double()


def _latents(n: int, samples: int, variance: Tensor, kl: list[Any] | None) -> Latents:
    active = int((variance > ACTIVE_ABOVE).sum())
    return Latents(n, samples, variance.numel(), active, variance.tolist(), kl)
