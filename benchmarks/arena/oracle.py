"""The oracle: the right multipliers of a problem, found once, and the budget that follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.problems import Problem
from benchmarks.arena.scores import CANNOT, LAST, settled_of_itself
from benchmarks.arena.terms import Yardstick
from benchmarks.arena.trajectory import Trajectory
from bridle.errors import TrainingError

__all__ = ["OFF", "SLACK", "Found", "Oracle", "active", "consult", "search", "trained_at"]

CLOSE = 0.01
"""How far from kappa, in kappa's units and as a share of it, the oracle's own end may lie."""

OFF = "off"
"""How the note ends where no multiplier was found that is right."""

MOST = 16
"""Trainings after which the search takes the closest."""

SLACK = 1e-3
"""A constraint whose multiplier falls below this share of its price is slack."""

_NOTHING = 1e-4
"""The share of its price that a slack constraint's multiplier is trained at. At zero a decoder that nothing else asks
for would stay as it was drawn."""

Array = NDArray[np.float64]


class Found(NamedTuple):
    """What a search ends with: ``multipliers``, zero where slack; ``trainings``, how many it took; ``off``, how far
    from kappa the furthest constraint still is, as a share of it."""

    multipliers: Array
    trainings: int
    off: float


def active(multipliers: Array) -> NDArray[np.bool_]:
    """The constraints whose settling counts: those that are not slack, or all if all are."""
    found = multipliers > 0
    return found if found.any() else np.ones_like(found)


class Oracle(NamedTuple):
    """What is known of a problem: right ``multipliers`` (infinite where kappa cannot be met), the ``value`` that they
    end at in kappa's units, both of shape ``(rows,)``; its ``kl``, nats; ``settled``: the step since which the 200-step
    mean stays within 5% of its own final value; ``budget``: twice that, rounded up to a hundred; ``trainings`` that the
    search took; ``note``: what does not fit the kind that the problem is stated to be, empty if all does."""

    multipliers: Array
    value: Array
    kl: float
    settled: int
    budget: int
    trainings: int
    note: str


def trained_at(multipliers: Array, price: Array) -> Array:
    """The multipliers that the oracle trains with."""
    return np.where(multipliers > 0, multipliers, _NOTHING * price)


def search(
    end: Callable[[Array], Array],
    off: Callable[[Array], Array],
    price: Array,
    first: Array,
    most: int = MOST,
) -> Found:
    """Multipliers at which every constraint is met within 1%, or slack.

    A secant in each coordinate by itself, between the logarithms of the multiplier and of the measured value over its
    bound, kept between the nearest trainings on either side where there is only one constraint.

    Arguments:
        end: The relative constraints at the end of a training with these multipliers.
        off: For relative constraints how far they are from kappa in its units, as a share of it, above zero where
            violated.
        price: Multipliers that say what is small.
        first: Multipliers of the first training.
        most: Trainings after which the closest is taken.

    Example:
        >>> one = np.ones(1)
        >>> found = search(lambda multiplier: 3 / multiplier - 1, lambda c: c, one, one)
        >>> found.multipliers.round(2), found.trainings
        (array([3.]), 3)
    """
    x, slack = np.log(np.maximum(first, _NOTHING * price)), np.zeros(len(price), dtype=bool)
    low, high = np.full(len(price), -math.inf), np.full(len(price), math.inf)
    before: tuple[Array, Array] | None = None
    best = Found(first, 0, math.inf)
    for training in range(1, most + 1):
        multipliers = np.where(slack, 0.0, np.exp(x))
        c = end(multipliers)
        y, wrong = np.log(np.maximum(1 + c, 1e-12)), off(c)
        slack = np.where(slack, wrong <= CLOSE, (multipliers < SLACK * price) & (c < 0))
        furthest = float(np.where(slack, 0, np.abs(wrong)).max())
        if furthest < best.off:
            best = Found(np.where(slack, 0.0, multipliers), training, furthest)
        if furthest <= CLOSE:
            break
        low, high = np.where(y > 0, np.maximum(low, x), low), np.where(y < 0, np.minimum(high, x), high)
        slope = np.full(len(x), -0.7)  # about what squared errors do
        if before is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                measured = (y - before[1]) / (x - before[0])
            across = np.sign(y) != np.sign(before[1])
            slope = np.where(measured < 0, np.clip(measured, np.where(across, -100, -3), -0.15), slope)
        before = x, y
        x = x + np.clip(-y / slope, -math.log(10), math.log(10))
        if len(x) == 1 and np.isfinite(low).all() and np.isfinite(high).all() and not low < x < high:
            x = (low + high) / 2
        x = np.where(slack, np.log(SLACK * price), x)
    return best._replace(trainings=training)


def consult(
    problem: Problem,
    train: Callable[[Array], Trajectory],
    yardstick: Yardstick,
    price: Array,
    first: Array,
) -> Oracle:
    """Finds a problem's right multipliers, on one seed, and its budget.

    Where kappa cannot be met, the rate is left out, and the best value is what that ends at.

    Arguments:
        problem: What is trained.
        train: Trains a fixed number of steps with fixed multipliers.
        yardstick: Of the problem.
        price: Multipliers that say what is small.
        first: A guess, such as what a controller ended at. It decides how long the search takes, not what is right.

    Raises:
        TrainingError: The training with the right multipliers is not finite.
    """

    def off(c: Array) -> Array:
        share = yardstick.in_kappa_units(yardstick.bound * (1 + c)) / yardstick.kappa - 1
        return np.where(yardstick.lower, -share, share)

    def end(multipliers: Array) -> Array:
        values = train(trained_at(multipliers, price)).values[-LAST:].astype(np.float64)
        return values.mean(axis=0) / yardstick.bound - 1

    rate_free = Found(np.full(len(price), math.inf), 1, 0.0)
    found = rate_free if problem.kind == CANNOT else search(end, off, price, first)
    run = train(trained_at(found.multipliers, price))
    if run.finite_steps < run.steps:
        raise TrainingError(f"the oracle's training is not finite at step {run.finite_steps + 1}")
    final = run.values[-LAST:].astype(np.float64).mean(axis=0)
    own = yardstick.in_kappa_units(final)
    step = settled_of_itself(run, yardstick, active(found.multipliers)) or run.steps
    note = _note(problem, found, off(final / yardstick.bound - 1))
    budget = 100 * math.ceil(2 * step / 100)
    return Oracle(found.multipliers, own, float(run.kl[-LAST // 10 :].mean()), step, budget, found.trainings, note)


def _note(problem: Problem, found: Found, off: Array) -> str:
    if problem.kind == CANNOT:
        return "" if (off > CLOSE).any() else "kappa is met"
    if found.off > CLOSE:
        return f"{100 * found.off:.1f}% {OFF}"
    slack = bool((found.multipliers == 0).any())
    if slack != (problem.kind == "slack"):
        return "a constraint is slack" if slack else "no constraint is slack"
    return ""
