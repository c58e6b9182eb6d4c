r"""Samples beside images: how far two sets of pictures are from being of one distribution, by no model's judgement.

The energy distance of pictures X and images Y,

.. math:: 2\,\mathbb E\,|X - Y| - \mathbb E\,|X - X'| - \mathbb E\,|Y - Y'|, \qquad
    |x - y| = \sqrt{\tfrac1D \textstyle\sum_d (x_d - y_d)^2},

is 0 where both have the same distribution and greater everywhere else. It is in pixel units, as kappa is, and an
average over pairs: it needs no network that was trained on other images, and is unbiased for any number of pictures.

References:
    | Energy statistics: A class of statistics based on distances (Szekely and Rizzo, 2013)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bridle.data import Split
from bridle.errors import ConfigError
from bridle.evaluation.passes import batches, measuring, random_points
from bridle.models.base import LatentModel

__all__ = ["SampleDistance", "energy_distance", "sample_distance"]


@dataclass(frozen=True)
class SampleDistance:
    """How far a model's pictures are from images: energy distances in pixel units, each with its standard error.

    ``n``: images, and pictures of each kind; ``prior``: of pictures decoded from the prior; ``data``: of pictures
    decoded from posteriors, which is what the error that the model was allowed costs by itself.
    """

    n: int
    prior: float
    prior_standard_error: float
    data: float
    data_standard_error: float


def sample_distance(model: LatentModel, split: Split, images: int = 2000) -> SampleDistance:
    """Compares pictures from the prior, and reconstructions, with images.

    Pictures are means of p(x | z), clipped to [0, 1].

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        split: On the same device: the images; usually the training split.
        images: How many of them; as many as the split has if that is fewer.

    Raises:
        ConfigError: Fewer than 2 images.

    Example:
        >>> from bridle.data import Digits
        >>> from bridle.models import ConvVAE
        >>> found = sample_distance(ConvVAE((1, 8, 8)), Digits().split("test"))
        >>> found.n, found.prior > 0.05    # an untrained one
        (250, True)
    """
    index = random_points(split, images)
    if len(index) < 2:
        raise ConfigError(f"the distance of samples needs at least 2 images, got {len(index)}")
    x, prior, data = [], [], []
    with measuring(model) as generator:
        for batch in batches(model, split, index):
            x.append(batch.x)
            z = model.prior(len(batch.x), batch.context, generator)
            prior.append(model.decode(z, batch.context).clamp(0, 1))
            data.append(model.reconstruct(batch.x, batch.context, generator).clamp(0, 1))
        ends = [energy_distance(torch.cat(pictures), torch.cat(x)) for pictures in (prior, data)]
    return SampleDistance(len(index), *ends[0], *ends[1])


def energy_distance(pictures: Tensor, images: Tensor) -> tuple[float, float]:
    """The energy distance of two sets, pixel units, and its standard error.

    A picture is compared with all images but the one that has its place, which it may have been made of. The estimate
    is unbiased, and so can be slightly below 0.

    Arguments:
        pictures: Shape ``(n, ...)``, n at least 2.
        images: The same shape.

    Example:
        >>> ones, zeros = torch.ones(3, 1, 8, 8), torch.zeros(3, 1, 8, 8)
        >>> energy_distance(ones, zeros)
        (2.0, 0.0)
    """
    n = len(pictures)
    x, y = pictures.flatten(1), images.flatten(1)

    def mean_distances(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Of each of ``a`` from all of ``b`` in other places, and of each of ``b`` from all of ``a``."""
        pairs = torch.cdist(a, b).fill_diagonal_(0)
        of_a, of_b = (pairs.sum(dim=dim).cpu().double() / (n - 1) / math.sqrt(x.shape[1]) for dim in (1, 0))
        return of_a, of_b

    from_images, from_pictures = mean_distances(x, y)
    # What each place contributes, its picture and its image: their mean is the distance.
    own = from_images + from_pictures - mean_distances(x, x)[0] - mean_distances(y, y)[0]
    # Each distance has two ends, so that a place moves the mean by twice what it contributes.
    return own.mean().item(), 2 * own.std().item() / math.sqrt(n)
