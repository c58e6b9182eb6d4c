"""Intervals of proportions, quantiles and geometric means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "bootstrap", "geometric_mean", "wilson"]

_Z = 1.959964
_RESAMPLES = 2000


class Estimate(NamedTuple):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, trials: int) -> Estimate:
    """A proportion with Wilson's interval; NaN of no trials.

    Example:
        >>> [round(x, 3) for x in wilson(9, 10)]
        [0.9, 0.596, 0.982]
    """
    if trials == 0:
        return Estimate(math.nan, math.nan, math.nan)
    share, spread = successes / trials, _Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def bootstrap(numbers: Sequence[float], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Estimate:
    """A statistic with its percentile interval over resampled problem-seeds; NaN of no numbers.

    Arguments:
        numbers: One a problem and seed.
        statistic: Of the last dimension.
    """
    if not numbers:
        return Estimate(math.nan, math.nan, math.nan)
    values = np.array(numbers, dtype=np.float64)
    drawn = np.random.RandomState(0).randint(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(statistic(values[drawn]), [0.025, 0.975])
    return Estimate(float(statistic(values)), float(low), float(high))


def geometric_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last dimension; of positive numbers."""
    return np.exp(np.log(values).mean(axis=-1))
