r"""The importance-weighted likelihood of Burda et al. (2016), which lies between the ELBO and the likelihood.

.. math:: \log p(x) \ge \mathbb E\Big[\log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}\Big],
    \qquad z_k \sim q(z|x),

which rises with K towards :math:`\log p(x)`. Here p(x | z) is the quantized normal that the paper reports all
likelihoods by, at sigma_opt.

References:
    | Importance Weighted Autoencoders (Burda et al., 2016)
    | https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bridle.data import Split
from bridle.errors import ConfigError
from bridle.evaluation.passes import batches, measuring, number_of_batches, progress, random_points
from bridle.likelihood import quantized_normal_nll
from bridle.models.base import LatentModel

__all__ = ["ImportanceWeighted", "importance_refusal", "importance_weighted"]


@dataclass(frozen=True)
class ImportanceWeighted:
    """A lower bound on the log-likelihood.

    ``n``: images; ``k``: samples of each; ``log_likelihood``: nats per image, averaged over images;
    ``standard_error``: of that mean; ``bits_per_dim``: its negative in bits per dimension.
    """

    n: int
    k: int
    log_likelihood: float
    standard_error: float
    bits_per_dim: float


def importance_weighted(
    model: LatentModel, split: Split, sigma: float, k: int, images: int = 1000
) -> ImportanceWeighted:
    """Bounds the log-likelihood of images.

    One z of each image of a batch is in memory at a time, whatever k: the logarithm of the sum runs along in float64.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        split: On the same device; usually the test split.
        sigma: Standard deviation of p(x | z), pixel units: sigma_opt.
        k: Samples of each image, at least 1; with one the bound is the ELBO.
        images: How many images of the split, taken at random, at least 2; all if it has fewer.

    Raises:
        ConfigError: A k below 1, fewer than 2 images, or a model without
            :meth:`bridle.models.LatentModel.importance`.
    """
    if k < 1:
        raise ConfigError(f"importance: k must be at least 1, got {k}")
    index = random_points(split, images)
    if len(index) < 2:
        raise ConfigError(f"the standard error of a likelihood needs at least 2 images, got {len(index)}")
    if reason := importance_refusal(model, split):
        raise ConfigError(reason)
    bounds = []
    with measuring(model) as generator, progress("importance weighting", number_of_batches(len(index))) as advance:
        for batch in batches(model, split, index):
            total = torch.full((len(batch.x),), -torch.inf, dtype=torch.float64, device=batch.x.device)
            for _ in range(k):
                sample = model.importance(batch.x, batch.context, generator)
                assert sample is not None
                nll = quantized_normal_nll(batch.x, sample.x_hat, sigma, split.bin).flatten(1)
                total = torch.logaddexp(total, -nll.sum(dim=1, dtype=torch.float64) - sample.log_ratio.double())
            bounds.append(total - math.log(k))
            advance()
    bound = torch.cat(bounds)
    mean = bound.mean().item()
    return ImportanceWeighted(
        n=len(bound),
        k=k,
        log_likelihood=mean,
        standard_error=bound.std().item() / math.sqrt(len(bound)),
        bits_per_dim=-mean / (math.prod(split.image_shape) * math.log(2)),
    )


def importance_refusal(model: LatentModel, split: Split) -> str | None:
    """Why the model's likelihood cannot be bounded, in one line; None if it can. Tried on one image of the split."""
    with measuring(model) as generator:
        first = next(batches(model, split, torch.arange(1)))
        if model.importance(first.x, first.context, generator) is None:
            return f"{type(model).__name__} does not weigh its samples: it has no importance()"
    return None
