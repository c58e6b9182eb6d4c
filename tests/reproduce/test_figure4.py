from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bridle.reproduce import EXHIBITS, SCALES
from bridle.reproduce.figure4 import Pair, equal_error_claims, interval, loss_fall


def pairs(geco_kl: list[float], geco_rmse: float = 0.08) -> list[Pair]:
    return [Pair(i, 0.08, 40.0 + i, geco_rmse, kl, 1.0) for i, kl in enumerate(geco_kl)]


@pytest.mark.parametrize("n", range(2, 11))
def test_the_interval_is_students(n):
    values = np.random.default_rng(n).normal(size=n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    mean, half = interval(np.stack([values, 2 * values + 1], axis=1))
    assert mean == pytest.approx([values.mean(), 2 * values.mean() + 1])
    assert half == pytest.approx([(high - low) / 2, high - low], rel=3e-4)


@pytest.mark.parametrize(
    ("geco_kl", "holds", "words"),
    [
        ([30.0, 31.1, 32.0], True, "a difference of -9.97 ± 0.14 (-24.3%; 95% interval, 3 seeds)"),
        ([45.0, 46.1, 47.0], False, "a difference of +5.03 ± 0.14"),
        ([38.0, 41.0, 43.5], None, "the interval holds zero. GECO's"),
        ([30.0], True, "30 against 40 nats, one seed."),
        ([50.0], False, "one seed"),
    ],
)
def test_lower_higher_and_neither(geco_kl, holds, words):
    (claim,) = equal_error_claims(pairs(geco_kl))
    assert claim.holds is holds and words in claim.text


def test_unequal_errors_decide_nothing():
    (claim,) = equal_error_claims(pairs([30.0, 31.0, 32.0], geco_rmse=0.084))
    assert claim.holds is None and "GECO's error is 5.0% above the ELBO's: not equal error." in claim.text
    (claim,) = equal_error_claims(pairs([30.0, 31.0, 32.0], geco_rmse=0.07))
    assert claim.holds is True, "a lower error at a lower rate is more than was claimed"
    (claim,) = equal_error_claims(pairs([45.0, 46.1, 47.0], geco_rmse=0.078))
    assert claim.holds is None and "GECO's error is 2.5% below the ELBO's: not equal error, and" in claim.text
    (claim,) = equal_error_claims(pairs([45.0, 46.1, 47.0], geco_rmse=0.0795))
    assert claim.holds is False and "GECO's error is 0.6% below the ELBO's." in claim.text


def with_loss(record, loss):
    return replace(record, metrics=record.metrics | {"loss": np.array(loss)})


def test_how_far_the_loss_fell_over_the_last_tenth(make_record):
    noise = np.tile([1.0, -1.0, 1.0, -1.0], 10)
    record = make_record([0.1] * 40, [5.0] * 40, [30.0] * 40)
    fall, error = loss_fall(with_loss(record, noise - 2 * (np.arange(40) >= 36)))
    assert fall == pytest.approx(2) and error == pytest.approx(np.sqrt(2 * (4 / 3) / 4))
    assert np.isnan(loss_fall(with_loss(make_record([0.1] * 19, [5.0] * 19, [30.0] * 19), [1.0] * 19))[0])


@pytest.mark.parametrize(
    ("slope", "words"),
    [
        (-1.0, "The ELBO's loss was still falling, so that it is not at its optimum: by 4 ± "),
        (0.0, "no longer falling"),
    ],
)
def test_the_caption_says_whether_the_elbo_had_converged(make_record, made_up_runs, slope, words):
    record = make_record([0.1] * 40, [5.0] * 40, [32.0] * 40)
    record = with_loss(record, np.tile([0.1, -0.1], 20) + slope * np.arange(40))
    caption = EXHIBITS["figure4"].draw(SCALES["tiny"], made_up_runs(record)).caption[-1]
    assert words in caption and "ended at 1.00, 1.00, 1.00 times D / 2." in caption
