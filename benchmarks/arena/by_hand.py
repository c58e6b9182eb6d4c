"""What people do without constraints: train, look, change beta, train again. All steps count."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.trajectory import Trajectory

__all__ = ["by_hand"]

RUNS = 8
"""Trainings after which a person gives up."""


def by_hand(
    train: Callable[[NDArray[np.float64]], Trajectory],
    start: NDArray[np.float64],
    bound: NDArray[np.float64],
    good: Callable[[Trajectory], bool],
) -> Trajectory:
    """A bisection over beta: one factor on all multipliers, since beta is one number.

    The first training has the multipliers that Bridle starts at. Then the factor is raised or lowered tenfold until
    kappa lies between two trainings, and bisected in its logarithm.

    Arguments:
        train: Trains with fixed multipliers of shape ``(rows,)``.
        start: Multipliers of the first training.
        bound: On the measured values, shape ``(rows,)``.
        good: Whether a training has ended within 5% of kappa, which is when a person stops.

    Returns:
        All trainings, one after another.
    """
    log_factor, low, high = 0.0, -math.inf, math.inf
    runs: list[Trajectory] = []
    while len(runs) < RUNS:
        runs.append(train(start * math.exp(log_factor)))
        if good(runs[-1]):
            break
        violated = (runs[-1].values[-200:].mean(axis=0) / bound).max() > 1
        low, high = (log_factor, high) if violated else (low, log_factor)
        if math.isinf(low) or math.isinf(high):
            log_factor += math.log(10) if violated else -math.log(10)
        else:
            log_factor = (low + high) / 2
    return Trajectory.joined(runs)
