"""The objectives against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from bridle.constraints import RE, Reconstruction
from bridle.errors import ConfigError
from bridle.objectives import ELBO, AnnealedELBO, BetaELBO, ConstrainedObjective, Objective

SHAPE, BIN = (2, 4, 4), 1 / 16


def batch() -> Reconstruction:
    torch.manual_seed(0)
    x = torch.rand(5, *SHAPE)
    x_hat = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    return Reconstruction(x, x_hat, torch.rand(5) * 10)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_beta_vae_is_nll_plus_beta_kl_per_image(beta: float) -> None:
    r = batch()
    objective = BetaELBO(SHAPE, BIN, beta=beta)
    sigma = objective.log_sigma().exp().detach()
    nll = -(Normal(r.x_hat, sigma).log_prob(r.x) + math.log(BIN)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(objective(r).loss, (nll + beta * r.kl).mean())


def test_elbo_is_beta_one_and_learns_sigma() -> None:
    r = batch()
    objective = ELBO(SHAPE, BIN)
    torch.testing.assert_close(objective(r).loss, BetaELBO(SHAPE, BIN, beta=1.0)(r).loss)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        objective(r).loss.backward()
        optimizer.step()
    rmse = (r.x - r.x_hat).square().mean().sqrt()
    torch.testing.assert_close(objective.log_sigma().exp(), rmse, rtol=1e-3, atol=0)


def test_annealing_reads_both_ways() -> None:
    r = batch()
    weight, std = (AnnealedELBO(SHAPE, BIN, steps=100, reading=r) for r in ("kl_weight", "pixel_std"))  # type: ignore[arg-type]
    seen = []
    for _ in range(15):
        seen.append((weight.kl_weight().item(), std.log_sigma().exp().item()))
        weight.step()
        std.step()
    expected = [2.0 - 1.3 * min(1, t / 10) for t in range(15)]
    assert [w for w, _ in seen] == pytest.approx(expected)
    assert [s for _, s in seen] == pytest.approx(expected)
    assert std.kl_weight().item() == 1 and weight.log_sigma().exp().item() == pytest.approx(0.3)
    # sigma annealed is a KL weight of sigma^2 on half the squared error: the same gradient, up to the factor
    std(r).loss.backward()
    (gradient,) = torch.autograd.grad((0.5 * (r.x - r.x_hat).square().sum(dim=(1, 2, 3))).mean(), r.x_hat)
    assert r.x_hat.grad is not None
    torch.testing.assert_close(r.x_hat.grad * 0.7**2, gradient)


def test_annealing_stands_still_when_skipped_or_evaluated() -> None:
    objective = AnnealedELBO(SHAPE, BIN, steps=100)
    objective.step(skip=True)
    objective.step(skip=torch.tensor(1.0))
    objective.eval()
    objective.step()
    assert objective.steps.item() == 0
    objective.train()
    objective.step(skip=torch.tensor(0.0))
    assert objective.steps.item() == 1


def constrained(rule: str = "pi") -> ConstrainedObjective:
    re = RE(0.2)
    return ConstrainedObjective([re], {"re": re.bound(SHAPE)}, rule=rule)


def test_constrained_is_kl_plus_multiplier_times_relative_error() -> None:
    r = batch()
    objective = constrained("algorithm1")
    result = objective(r)
    mse = (r.x - r.x_hat).square().mean()
    start = math.prod(SHAPE) / 2 / 32
    torch.testing.assert_close(result.loss, r.kl.mean() + start * (mse / 0.2**2 - 1))
    assert result.metrics["re.measured"] == mse and result.metrics["mse"] == mse
    columns = objective.columns(result.metrics)
    assert columns["re.value"].item() == pytest.approx(mse.sqrt().item()) == columns["rmse"].item()
    assert (columns["re.kappa"].item(), columns["re.multiplier"].item()) == (pytest.approx(0.2), pytest.approx(start))


def test_held_out_images_move_the_multiplier_and_training_images_the_weights() -> None:
    r = batch()
    far = r._replace(x_hat=r.x + 0.5)
    objective = constrained()
    objective(r, held_out=far).loss.backward()
    assert r.x_hat.grad is not None
    reference = r.x_hat.grad.clone()
    r.x_hat.grad = None
    constrained()(r).loss.backward()
    torch.testing.assert_close(reference, r.x_hat.grad)

    objective.step()
    violation = objective.geco.metrics()["re/violation"].item()
    assert violation == pytest.approx(0.5**2 / 0.2**2 - 1, rel=1e-4)


@pytest.mark.parametrize(
    "objective", [constrained(), ELBO(SHAPE, BIN), AnnealedELBO(SHAPE, BIN, 10)], ids=lambda o: o.name
)
def test_columns_are_scalars(objective: Objective) -> None:
    r = batch()
    columns = objective.columns(objective(r).metrics)
    assert {"kl", "loss", "rmse"} <= columns.keys()
    assert all(value.dim() == 0 and not value.requires_grad for value in columns.values())


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_beta_out_of_range(beta: float) -> None:
    with pytest.raises(ConfigError, match="beta must be positive and finite"):
        BetaELBO(SHAPE, BIN, beta=beta)
