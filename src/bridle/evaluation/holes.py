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
    ``data``: the same of pictures decoded from posteriors; ``ratio``: the first over the second, 1 without holes, and
    ``ratio_standard_error``: of that, by the spread over pictures. Both are None if ``data`` is 0.
    """

    n: int
    prior: float
    data: float
    ratio: float | None
    ratio_standard_error: float | None


def prior_holes(
    model: LatentModel, split: Split, images: int = 1000, times: int = 1, judge: LatentModel | None = None
) -> PriorHoles:
    """Compares prior samples with reconstructions, as pictures that the model has to reconstruct.

    Both are clipped to [0, 1] before they are encoded, like all that the encoder has ever seen.

    A ratio says as much of the encoder as of the samples: one that has been trained for longer tells the two kinds of
    pictures apart better, of whatever model they are. Where models are compared, one judge for all is fair.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        split: On the same device: whose posteriors, and whose contexts where the model is conditional; usually the
            training split.
        images: How many images; as many as the split has if that is fewer.
        times: How many pictures of each kind are made of each image.
        judge: The model that has to reconstruct the pictures; the model itself, if not given.
    """
    judge = model if judge is None else judge
    index = random_points(split, images).repeat(times)
    prior, data = [], []
    with measuring(model) as generator, measuring(judge):
        for batch in batches(model, split, index):
            z = model.prior(len(batch.x), batch.context, generator)
            prior.append(_errors(model.decode(z, batch.context), judge, batch, generator))
            z = model.encode(batch.x, batch.context, generator)
            data.append(_errors(model.decode(z, batch.context), judge, batch, generator))
    (of_prior, prior_error), (of_data, data_error) = map(_mean, (prior, data))
    ratio = error = None
    if of_data > 0:
        ratio = math.sqrt(of_prior / of_data)
        # Of the square of the ratio, to first order; and that of the ratio itself is half of it over the ratio.
        of_square = math.hypot(prior_error / of_data, data_error * of_prior / of_data**2)
        error = of_square / (2 * ratio) if ratio > 0 else 0.0
    return PriorHoles(len(index), math.sqrt(of_prior), math.sqrt(of_data), ratio, error)


def _errors(picture: Tensor, judge: LatentModel, batch: Batch, generator: Generator) -> Tensor:
    """Mean squared error of each picture when it is encoded and decoded once more, float64, on the CPU."""
    picture = picture.clamp(0, 1)
    again = judge.reconstruct(picture, batch.context, generator)
    return (again - picture).square().flatten(1).cpu().double().mean(dim=1)


def _mean(parts: list[Tensor]) -> tuple[float, float]:
    """The mean of all, and its standard error."""
    whole = torch.cat(parts)
    return whole.mean().item(), whole.std(correction=0).item() / math.sqrt(len(whole))
