from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bridle.reproduce.figure4 import Pair, equal_error_claims, equal_error_kappa, interval


def pairs(geco_kl: list[float], geco_rmse: float = 0.08) -> list[Pair]:
    return [Pair(i, 0.08, 40.0 + i, geco_rmse, kl, 1.0) for i, kl in enumerate(geco_kl)]


@pytest.mark.parametrize("n", range(2, 11))
def test_the_interval_is_students(n):
    values = np.random.default_rng(n).normal(size=n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    mean, half = interval(list(values))
    assert mean == pytest.approx(values.mean()) and half == pytest.approx((high - low) / 2, rel=3e-4)


@pytest.mark.parametrize(
    ("geco_kl", "holds", "words"),
    [
        ([30.0, 31.1, 32.0], True, "a difference of -9.97 ± 0.14 (-24.3%; 95% interval, 3 seeds)"),
        ([45.0, 46.1, 47.0], False, "a difference of +5.03 ± 0.14"),
        ([38.0, 41.0, 43.5], None, "The interval holds zero."),
        ([30.0], True, "30 against 40 nats, one seed."),
        ([50.0], False, "one seed"),
    ],
)
def test_lower_higher_and_neither(geco_kl, holds, words):
    (claim,) = equal_error_claims(pairs(geco_kl))
    assert claim.holds is holds and words in claim.text


def test_unequal_errors_decide_nothing():
    (claim,) = equal_error_claims(pairs([30.0, 31.0, 32.0], geco_rmse=0.084))
    assert claim.holds is None and "GECO's error is up to 5.0% above the ELBO's: not equal error." in claim.text
    (claim,) = equal_error_claims(pairs([30.0, 31.0, 32.0], geco_rmse=0.07))
    assert claim.holds is True, "a lower error at a lower rate is more than was claimed"


def test_kappa_is_the_error_that_the_elbo_reached(make_record):
    assert equal_error_kappa(make_record([0.2, 0.0798765], [1, 2], [3, 4])) == 0.07988
