from __future__ import annotations

from dataclasses import replace

import pytest

from bridle.evaluation import MarginalKL
from bridle.reproduce import SCALES
from bridle.reproduce.table2 import MarginalRow, at_lower_bound, marginal_claims

CIFAR10 = SCALES["paper"].cifar10
assert CIFAR10 is not None


def row(
    kappa: float | None, rmse: float, marginal: float, error: float = 0.1, equal: bool = False, met: bool = True
) -> MarginalRow:
    estimate = MarginalKL(
        marginal, error, 0.0, marginal + 3, 0.0, 3.0, error, True, "full mixture of 100", 100, 50, 100, "fp32", 1.0
    )
    return MarginalRow(kappa, equal, None if kappa is None else met, rmse, estimate)


def test_numbers_a_little_clearer_than_the_papers_hold():
    rows = [row(None, 0.017, 725.2), row(0.06, 0.06, 90.0), row(0.1, 0.1, 45.0), row(0.017, 0.017, 600.0, equal=True)]
    lower, ratio, equal = marginal_claims(CIFAR10, rows)
    assert lower.holds and "8.06 at 0.06 (RMSE 0.0600), 16.1 at 0.1 (RMSE 0.1000)" in lower.text
    assert ratio.holds and "16.0, is reached at kappa 0.1." in ratio.text
    assert equal.holds and "ELBO / GECO 1.21" in equal.text


def test_each_claim_can_fail():
    rows = [row(None, 0.08, 20.0), row(0.06, 0.06, 30.0), row(0.1, 0.1, 12.0), row(0.08, 0.08, 21.0, equal=True)]
    lower, ratio, equal = marginal_claims(CIFAR10, rows)
    assert [lower.holds, ratio.holds, equal.holds] == [False, False, False]
    assert "at 1 of 2 kappas" in lower.text and "is not reached at kappa 0.06, 0.1." in ratio.text


def test_what_noise_or_another_error_leaves_open():
    near = [row(None, 0.08, 20.0), row(0.08, 0.08, 19.9, equal=True)]
    (claim,) = marginal_claims(CIFAR10, near)
    assert claim.holds is None and "no more than 2 standard errors apart" in claim.text
    (claim,) = marginal_claims(CIFAR10, [near[0], row(0.08, 0.09, 10.0, equal=True)])
    assert claim.holds is None and "GECO's error is 12.5% above the ELBO's: not equal error." in claim.text
    (claim,) = marginal_claims(CIFAR10, [near[0], row(0.08, 0.078, 25.0, equal=True)])
    assert claim.holds is None and "GECO's error is 2.5% below the ELBO's: not equal error, and" in claim.text
    (claim,) = marginal_claims(CIFAR10, [near[0], row(0.08, 0.0795, 25.0, equal=True)])
    assert claim.holds is False
    (claim,) = marginal_claims(CIFAR10, near[1:])
    assert claim.holds is None


def test_a_marginal_kl_that_is_zero_within_its_error_has_no_ratio():
    lower, ratio = marginal_claims(CIFAR10, [row(None, 0.08, 20.0), row(0.175, 0.175, 0.1)])
    assert "above 100 at 0.175" in lower.text and ratio.holds


@pytest.mark.parametrize(
    ("marginal", "error", "holds", "words"),
    [
        (1.0, 0.01, True, "is reached at kappa 0.1."),
        (1.5, 0.01, False, "is not reached at kappa 0.1."),
        (1.0, 0.2, None, "is not decided at kappa 0.1 by these standard errors."),
        (-0.1, 0.001, None, "is not decided at kappa 0.1"),
    ],
)
def test_the_papers_ratio_is_judged_by_the_standard_errors(marginal, error, holds, words):
    _, ratio = marginal_claims(CIFAR10, [row(None, 0.08, 20.0), row(0.1, 0.1, marginal, error)])
    assert ratio.holds is holds and words in ratio.text


def test_a_kappa_that_was_not_met_is_no_evidence():
    rows = [row(None, 0.08, 20.0), row(0.06, 0.07, 30.0, met=False), row(0.1, 0.1, 12.0)]
    lower, _ = marginal_claims(CIFAR10, rows)
    assert lower.holds and "at 1 of 1 kappas" in lower.text and "Kappa 0.06 not met and left out." in lower.text
    (claim,) = marginal_claims(CIFAR10, rows[:2])
    assert claim.holds is None and claim.text == "CIFAR-10: GECO against the ELBO: kappa 0.06 not met."


def test_an_estimate_at_its_lower_bound_says_nothing_of_the_fit():
    estimate = replace(row(None, 0.1, 20.0).estimate, lower_bound=19.9)
    assert at_lower_bound(estimate)
    assert not at_lower_bound(replace(estimate, lower_bound=19.0))
    assert not at_lower_bound(replace(estimate, marginal_kl=0.05, lower_bound=0.0)), "that is a fit"
