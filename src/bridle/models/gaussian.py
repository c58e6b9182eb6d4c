"""Diagonal Gaussians as pairs (mean, log_std): what posteriors and learned priors are made of."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

__all__ = [
    "LOG_STD_RANGE",
    "Gaussian",
    "full_precision",
    "gaussian_at",
    "gaussian_kl",
    "gaussian_log_prob",
    "gaussian_parameters",
    "gaussian_sample",
    "standard_normal_log_prob",
]

_LOG_2PI = math.log(2 * math.pi)

Gaussian = tuple[Tensor, Tensor]
"""Mean and log standard deviation, of one shape."""

LOG_STD_RANGE = (-7.0, 5.0)
"""Bounds of every log standard deviation: the KL between any two such Gaussians is finite in float32."""


def gaussian_kl(mean: Tensor, log_std: Tensor, prior: Gaussian | None = None) -> Tensor:
    """KL of N(mean, diag(exp(log_std)^2)) from a diagonal Gaussian, summed over all dimensions but the first, in nats.

    Arguments:
        mean: Shape ``(B, ...)``.
        log_std: Natural logarithm of the standard deviation, of the same shape.
        prior: Mean and log_std of the other one, of the same shape; the standard normal without it.

    Example:
        >>> gaussian_kl(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
        tensor([0.5000])
        >>> gaussian_kl(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2), (torch.ones(1, 2), torch.zeros(1, 2)))
        tensor([0.5000])
    """
    if prior is not None:
        # The KL does not change when both are moved and scaled so that the prior becomes the standard normal.
        prior_mean, prior_log_std = prior
        mean = (mean - prior_mean) * torch.exp(-prior_log_std)
        log_std = log_std - prior_log_std
    return 0.5 * (mean.square() + torch.expm1(2 * log_std) - 2 * log_std).flatten(1).sum(dim=1)


def gaussian_sample(mean: Tensor, log_std: Tensor, generator: Generator | None = None) -> Tensor:
    """A sample of N(mean, diag(exp(log_std)^2)), differentiable in both."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return gaussian_at(mean, log_std, noise)


def gaussian_at(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """The sample of N(mean, diag(exp(log_std)^2)) that standard normal noise becomes."""
    return torch.addcmul(mean, log_std.exp(), noise)


def gaussian_log_prob(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of N(mean, diag(exp(log_std)^2)) at z, summed over the last dimension, in nats; shapes broadcast.

    Example:
        >>> gaussian_log_prob(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
        tensor([-2.3379])
    """
    return standard_normal_log_prob((z - mean) * torch.exp(-log_std)) - log_std.sum(dim=-1)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Log-density of the standard normal at z, summed over the last dimension, in nats."""
    return -0.5 * (z.square().sum(dim=-1) + z.shape[-1] * _LOG_2PI)


def gaussian_parameters(features: Tensor) -> Gaussian:
    """The two halves of a network's output ``(B, 2 D, ...)`` as mean and bounded log_std, in full precision."""
    mean, log_std = full_precision(features).chunk(2, dim=1)
    return mean, log_std.clamp(*LOG_STD_RANGE)


def full_precision(x: Tensor) -> Tensor:
    """float32 for half precision, as autocast gives it; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
