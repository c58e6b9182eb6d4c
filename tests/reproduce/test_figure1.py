from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bridle.likelihood import normal_nll
from bridle.reproduce import EXHIBITS, SCALES
from bridle.reproduce.figure1 import equivalent_beta, trajectory_claims


@pytest.mark.parametrize(("kappa", "multiplier", "sigma"), [(0.1, 32.0, 0.1), (0.06, 500.0, 0.3), (0.175, 0.8, 0.15)])
def test_nll_plus_beta_kl_has_the_direction_of_gecos_gradient(kappa, multiplier, sigma):
    torch.manual_seed(0)
    x = torch.rand(16, 12, dtype=torch.float64)
    weights = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(16, 3, dtype=torch.float64)

    def gradient(loss):
        (grad,) = torch.autograd.grad(loss, weights)
        return grad.flatten()

    def parts():
        mean = x @ weights
        return 0.5 * mean.square().sum(dim=1).mean(), (x - (mean + noise) @ weights.T).square().mean()

    kl, mse = parts()
    geco = gradient(kl + multiplier * (mse / kappa**2 - 1))
    kl, mse = parts()
    beta = float(equivalent_beta(np.array(multiplier), kappa, np.array(sigma), 12))
    log_sigma = torch.tensor(sigma, dtype=torch.float64).log()
    weighted = gradient(12 * normal_nll(mse, log_sigma, 1 / 255) + beta * kl)
    assert F.cosine_similarity(geco, weighted, dim=0).item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(weighted, beta * geco)


def test_a_trajectory_as_in_the_paper_holds(make_record):
    record = make_record([0.3, 0.2, 0.1, 0.1, 0.1], [2, 9, 12, 10, 8], [40, 60, 50, 30, 16])
    beta = equivalent_beta(record.metrics["re.multiplier"], 0.1, record.metrics["rmse"], 64)
    assert beta[-1] == pytest.approx(2)
    claims = trajectory_claims(record, beta)
    assert [claim.holds for claim in claims] == [True, True, True]
    assert "meets kappa at step 30" in claims[0].text and "from 0.64 there to 2 at the end" in claims[1].text


def test_each_claim_can_fail(make_record):
    record = make_record([0.3, 0.2, 0.1, 0.1, 0.11], [2, 9, 8, 10, 12], [40, 5, 20, 30, 60])
    beta = equivalent_beta(record.metrics["re.multiplier"], 0.1, record.metrics["rmse"], 64)
    claims = trajectory_claims(record, beta)
    assert [claim.holds for claim in claims] == [False, False, False]
    assert "below 1 in 50% of the rows" in claims[0].text


def test_an_error_that_never_meets_kappa_decides_nothing(make_record):
    record = make_record([0.3, 0.25, 0.2], [2, 3, 4], [40, 50, 60])
    claims = trajectory_claims(record, np.array([0.1, 0.2, 0.3]))
    assert [claim.holds for claim in claims] == [True, None, None]
    assert all("never met kappa 0.1 (it ended at 0.2)" in claim.text for claim in claims[1:])


def test_an_error_that_meets_kappa_in_the_first_row_says_nothing_of_before(make_record):
    record = make_record([0.1, 0.1], [9, 8], [40, 30])
    claims = trajectory_claims(record, np.array([0.5, 0.6]))
    assert [claim.holds for claim in claims] == [None, True, True]
    assert "there is no row from before" in claims[0].text


@pytest.mark.parametrize("multiplier", [[300.0, 400.0, 500.0], [40.0, 20.0, 5.0]])
def test_a_line_at_beta_1_is_in_the_picture(make_record, made_up_runs, multiplier):
    record = make_record([0.3, 0.2, 0.1], [2, 9, 12], multiplier)
    drawn = EXHIBITS["figure1"].draw(SCALES["tiny"], made_up_runs(record))
    panel = drawn.picture.axes[-1]
    assert panel.get_ylabel() == "Equivalent beta"
    low, high = panel.get_ylim()
    assert low < 1 < high and [1, 1] in [list(line.get_ydata()) for line in panel.lines]
