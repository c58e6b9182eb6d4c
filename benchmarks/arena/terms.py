"""The constraints of a problem as flat vectors with one entry, a row, for each bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.arena.problems import PROBLEMS, Problem
from benchmarks.arena.sources import source
from bridle.classifiers import Classifier, default_classifier
from bridle.constraints import CLA, CONSTRAINTS, FRE, ImageConstraint, Reconstruction
from bridle.constraints.base import START
from bridle.data import DataSet
from bridle.geco import Constraint

__all__ = ["Measured", "Terms", "Yardstick", "built", "terms_of"]

_PREPARED_AT_ONCE = 256
_PIXELWISE = ("re", "re_channel", "l1")


class Measured(NamedTuple):
    """A batch as a contestant sees it.

    ``kl``: mean rate, nats, 0-dimensional; ``values``: what each constraint measures, by its name, in its bound's
    shape; ``c``: the same as relative constraints, ``value / bound - 1``, satisfied where at most zero: shape
    ``(rows,)``. All differentiable.
    """

    kl: Tensor
    values: dict[str, Tensor]
    c: Tensor


class Yardstick(NamedTuple):
    """What measured values are judged by, an entry a row.

    ``kappa``; ``bound``: on the measured value; ``lower``: whether the value in kappa's units must be at least kappa;
    ``in_kappa_units``: measured values of shape ``(..., rows)`` in the units of kappa.
    """

    kappa: NDArray[np.float64]
    bound: NDArray[np.float64]
    lower: NDArray[np.bool_]
    in_kappa_units: Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Terms:
    """The constraints of a problem.

    Arguments:
        terms: The constraints, prepared, on the device.
        image_shape: Channels, height and width of the images.
        device: Where measured values are.

    ``bounds``: a :class:`bridle.Constraint` for each by name, all of them relative upper bounds; and with an entry a
    row: ``bound``; ``price``, a share of which each multiplier starts at in Bridle; ``summed``, how many pixels the
    measured value is a mean of, 1 where it is no mean of pixels.
    """

    def __init__(
        self, terms: list[ImageConstraint], image_shape: tuple[int, int, int], device: torch.device | str = "cpu"
    ) -> None:
        self.terms, self.device = terms, torch.device(device)
        self.bounds: dict[str, Constraint] = {term.name: term.bound(image_shape) for term in terms}
        self.sizes = [math.prod(bound.shape) for bound in self.bounds.values()]
        self.bound = torch.cat([bound.sides()[0][1] for bound in self.bounds.values()]).to(self.device)
        self.price = self._spread([bound.initial / START for bound in self.bounds.values()])
        pixels = math.prod(image_shape)
        self.summed = self._spread(
            [pixels / size if term.name in _PIXELWISE else 1.0 for term, size in zip(terms, self.sizes, strict=True)]
        )
        self.yardstick = Yardstick(
            self._spread([term.kappa for term in terms]).double().cpu().numpy(),
            self.bound.double().cpu().numpy(),
            self._spread([float(term.lower) for term in terms]).bool().cpu().numpy(),
            self._in_kappa_units,
        )

    def measure(self, r: Reconstruction) -> Measured:
        """What the constraints see of a batch."""
        values = {term.name: term.measure(r) for term in self.terms}
        flat = torch.cat([value.reshape(-1) for value in values.values()])
        return Measured(r.kl.mean(), values, flat / self.bound - 1)

    def _spread(self, numbers: list[float]) -> Tensor:
        spread = [n for n, size in zip(numbers, self.sizes, strict=True) for _ in range(size)]
        return torch.tensor(spread, device=self.device)

    def _in_kappa_units(self, measured: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = torch.from_numpy(measured).split(self.sizes, dim=-1)
        return torch.cat(
            [term.in_kappa_units(part) for term, part in zip(self.terms, parts, strict=True)], dim=-1
        ).numpy()


@cache
def terms_of(name: str) -> Terms:
    """The constraints of one of the problems, built once in a process.

    Arguments:
        name: The problem's.
    """
    return built(PROBLEMS[name])


def built(problem: Problem, device: torch.device | str = "cpu") -> Terms:
    """The constraints of a problem. The classifier that FRE and CLA look through is trained when it is first needed and
    kept in Bridle's cache folder.

    Arguments:
        problem: One of the problems, or another.
        device: Where its model is.
    """
    data = source(problem.data)
    split = data.split("train").to(torch.device(device))
    terms = [_term(name, kappa, data).to(device) for name, kappa in problem.constraints.items()]
    for term in terms:
        index = torch.arange(len(split), device=device)
        term.prepare(split.batch(part).x for part in index.split(_PREPARED_AT_ONCE))
    return Terms(terms, split.image_shape, device)


def _term(name: str, kappa: float, data: DataSet) -> ImageConstraint:
    shape = data.split("train").image_shape

    def network() -> Classifier:
        return default_classifier(data, name)

    match name:
        case "fre":
            return FRE(kappa, network(), "layer2", shape)
        case "cla":
            return CLA(kappa, network(), shape)
        case _:
            return CONSTRAINTS[name](kappa)
