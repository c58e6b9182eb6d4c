"""What a trained model achieves: rate and distortion on every image of a split, and its place on the information plane.

Everything is measured in eval mode with z sampled from the posterior, as in the constraint: at the posterior's mean
the error would be another, smaller one. The noise comes from a generator with a seed of its own, so that a
measurement repeats and disturbs no training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bridle.constraints import ImageConstraint, Reconstruction
from bridle.data import DataSet, Split
from bridle.evaluation.passes import batches, measuring, random_points
from bridle.likelihood import quantized_normal_nll, sigma_opt
from bridle.models.base import LatentModel

__all__ = ["Measurements", "SplitMeasurements", "measure", "measure_split"]

_SIGMA_POINTS = 1000


@dataclass(frozen=True)
class SplitMeasurements:
    """Means over a split.

    ``n``: images; ``kl``: nats per image; ``kl_standard_error``: of that mean, nats, by the spread over images;
    ``rmse``: root of the mean squared error over all images and dimensions, pixel units; ``rmse_standard_error``: of
    that, by the same spread; ``values``: each constraint's
    value in the units of its kappa, of a vector constraint the worst element's; ``vectors``: all elements of each
    vector constraint, as nested lists of its bound's shape.
    """

    n: int
    kl: float
    kl_standard_error: float
    rmse: float
    rmse_standard_error: float
    values: dict[str, float]
    vectors: dict[str, list[Any]]


@dataclass(frozen=True)
class Measurements:
    """A model on the information plane.

    ``train``, ``held_out``: the training and the test split. ``sigma_opt``: equation 3 on 1,000 random training
    points, pixel units; ``nll``: nats per dimension of the quantized normal on those points at ``sigma_opt``;
    ``nll_held_out``: the same on the test split at that sigma; ``bits_per_dim``: the negative ELBO of the test split
    in bits per dimension.
    """

    train: SplitMeasurements
    held_out: SplitMeasurements
    sigma_opt: float
    nll: float
    nll_held_out: float
    bits_per_dim: float


def measure(model: LatentModel, data: DataSet, constraints: Iterable[ImageConstraint] = ()) -> Measurements:
    """Measures a model on a data set.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        data: Its training and test splits are used, whole.
        constraints: What else to measure.
    """
    device = next(model.parameters()).device
    train, test = data.split("train").to(device), data.split("test").to(device)
    constraints = list(constraints)

    with measuring(model) as generator:
        pairs = [
            (batch.x, model(batch.x, batch.context, generator).x_hat)
            for batch in batches(model, train, random_points(train, _SIGMA_POINTS))
        ]
    x, x_hat = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    sigma = sigma_opt(x, x_hat)
    nll = quantized_normal_nll(x, x_hat, sigma, train.bin).mean().item()

    held_out_nll = 0.0
    with measuring(model) as generator:
        for batch in batches(model, test):
            x_hat = model(batch.x, batch.context, generator).x_hat
            held_out_nll += quantized_normal_nll(batch.x, x_hat, sigma, test.bin).sum().item()
    dimensions = math.prod(train.image_shape)
    held_out = measure_split(model, test, constraints)
    nll_held_out = held_out_nll / (len(test) * dimensions)
    return Measurements(
        train=measure_split(model, train, constraints),
        held_out=held_out,
        sigma_opt=sigma.item(),
        nll=nll,
        nll_held_out=nll_held_out,
        bits_per_dim=(dimensions * nll_held_out + held_out.kl) / (dimensions * math.log(2)),
    )


def measure_split(
    model: LatentModel,
    split: Split,
    constraints: Iterable[ImageConstraint] = (),
    most: int | None = None,
    times: int = 1,
) -> SplitMeasurements:
    """Measures a model on every image of a split, or on ``most`` of them; constraints in eval mode, too.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        split: On the same device.
        constraints: What else to measure.
        most: Images.
        times: How often each of them is measured, with another z each time; standard errors do not count that.
    """
    constraints = list(constraints)
    index = torch.arange(len(split)) if most is None else random_points(split, most)
    n = times * len(index)
    kl = kl_squared = errors = errors_squared = 0.0
    sums: dict[str, Tensor] = {}
    with measuring(model, *constraints) as generator:
        for batch in batches(model, split, index.repeat(times)):
            out = model(batch.x, batch.context, generator)
            kl += out.kl.sum(dtype=torch.float64).item()
            kl_squared += out.kl.double().square().sum().item()
            error = (batch.x - out.x_hat).double().square().mean(dim=(1, 2, 3))
            errors += error.sum().item()
            errors_squared += error.square().sum().item()
            r = Reconstruction(batch.x, out.x_hat, out.kl, batch.label)
            for c in constraints:
                sums[c.name] = sums.get(c.name, 0.0) + len(batch.x) * c.measure(r).double()
    rmse = math.sqrt(errors / n)
    return SplitMeasurements(
        n=len(index),
        kl=kl / n,
        kl_standard_error=_standard_error(kl / n, kl_squared / n, len(index)),
        rmse=rmse,
        rmse_standard_error=_standard_error(errors / n, errors_squared / n, len(index)) / (2 * rmse) if rmse else 0.0,
        values={c.name: c.worst(sums[c.name] / n).item() for c in constraints},
        vectors={c.name: c.in_kappa_units(sums[c.name] / n).tolist() for c in constraints if sums[c.name].dim()},
    )


def _standard_error(mean: float, mean_of_squares: float, n: int) -> float:
    """Of the mean of n numbers."""
    return math.sqrt(max(0.0, mean_of_squares - mean**2) / max(1, n - 1))
