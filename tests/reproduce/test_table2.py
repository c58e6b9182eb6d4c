from __future__ import annotations

from bridle.evaluation import MarginalKL
from bridle.reproduce import SCALES
from bridle.reproduce.table2 import MarginalRow, marginal_claims

CIFAR10 = SCALES["paper"].cifar10
assert CIFAR10 is not None


def row(kappa: float | None, rmse: float, marginal: float, error: float = 0.1, equal: bool = False) -> MarginalRow:
    estimate = MarginalKL(
        marginal, error, 0.0, marginal + 3, 0.0, 3.0, error, True, "full mixture of 100", 100, 50, 100, "fp32", 1.0
    )
    return MarginalRow(kappa, equal, rmse, estimate)


def test_the_papers_own_numbers_hold():
    rows = [row(None, 0.017, 725.2), row(0.06, 0.06, 90.0), row(0.1, 0.1, 45.3), row(0.017, 0.017, 600.0, equal=True)]
    lower, ratio, equal = marginal_claims(CIFAR10, rows)
    assert lower.holds and "8.06 at 0.06 (RMSE 0.0600), 16 at 0.1 (RMSE 0.1000)" in lower.text
    assert ratio.holds and "16.0, is reached at kappa 0.1." in ratio.text
    assert equal.holds and "ELBO / GECO 1.21" in equal.text


def test_each_claim_can_fail():
    rows = [row(None, 0.08, 20.0), row(0.06, 0.06, 30.0), row(0.1, 0.1, 12.0), row(0.08, 0.08, 21.0, equal=True)]
    lower, ratio, equal = marginal_claims(CIFAR10, rows)
    assert [lower.holds, ratio.holds, equal.holds] == [False, False, False]
    assert "at 1 of 2 kappas" in lower.text and "reached at none of these kappas" in ratio.text


def test_what_noise_or_another_error_leaves_open():
    near = [row(None, 0.08, 20.0), row(0.08, 0.08, 19.9, equal=True)]
    (claim,) = marginal_claims(CIFAR10, near)
    assert claim.holds is None and "no more than 2 standard errors apart" in claim.text
    (claim,) = marginal_claims(CIFAR10, [near[0], row(0.08, 0.09, 10.0, equal=True)])
    assert claim.holds is None and "GECO's error is 12.5% above the ELBO's" in claim.text
    (claim,) = marginal_claims(CIFAR10, near[1:])
    assert claim.holds is None


def test_a_marginal_kl_that_is_zero_within_its_error_has_no_ratio():
    lower, ratio = marginal_claims(CIFAR10, [row(None, 0.08, 20.0), row(0.175, 0.175, 0.1)])
    assert "above 100 at 0.175" in lower.text and ratio.holds
