"""Holes in the prior: regions where it has mass and no image's posterior does, so that nobody taught the decoder.

A z is decoded, the picture encoded, and that decoded again. Where the decoder and the encoder know each other, the
two pictures are alike. If all images' posteriors together were the prior, z from the prior and z from posteriors would
be alike in distribution, and so would be their errors: a ratio of 1. The paper's section 1 names the problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bridle.data import Batch, Split
from bridle.evaluation.passes import batches, measuring, random_points
from bridle.models.base import LatentModel

__all__ = ["PriorHoles", "prior_holes"]


@dataclass(frozen=True)
class PriorHoles:
    """How well pictures survive being encoded and decoded.

    ``n``: pictures of each kind; ``prior``: root mean squared error of pictures decoded from the prior, pixel units;
    ``data``: the same of pictures decoded from posteriors; ``ratio``: the first over the second, 1 without holes, None
    if the second is 0.
    """

    n: int
    prior: float
    data: float
    ratio: float | None


def prior_holes(model: LatentModel, split: Split, images: int = 1000) -> PriorHoles:
    """Compares prior samples with reconstructions, as pictures that the model has to reconstruct.

    Both are clipped to [0, 1] before they are encoded, like all that the encoder has ever seen.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        split: On the same device: whose posteriors, and whose contexts where the model is conditional; usually the
            training split.
        images: How many pictures of each kind; as many as the split has if that is fewer.
    """
    index = random_points(split, images)
    prior = data = 0.0
    with measuring(model) as generator:
        for batch in batches(model, split, index):
            prior += _squares(model, model.prior(len(batch.x), batch.context, generator), batch, generator)
            data += _squares(model, model.encode(batch.x, batch.context, generator), batch, generator)
    dimensions = len(index) * math.prod(split.image_shape)
    ratio = math.sqrt(prior / data) if data else None
    return PriorHoles(len(index), math.sqrt(prior / dimensions), math.sqrt(data / dimensions), ratio)


def _squares(model: LatentModel, z: Tensor, batch: Batch, generator: Generator) -> float:
    """Squared error of pictures decoded from z, encoded and decoded once more; summed over all of them."""
    picture = model.decode(z, batch.context).clamp(0, 1)
    error = model.reconstruct(picture, batch.context, generator) - picture
    return error.square().sum(dtype=torch.float64).item()
