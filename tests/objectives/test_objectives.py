"""The objectives against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from bridle.constraints import RE
from bridle.errors import ConfigError
from bridle.models import ModelOutput
from bridle.objectives import ELBO, AnnealedELBO, BetaELBO, ConstrainedObjective, Objective

SHAPE, BIN = (2, 4, 4), 1 / 16


def batch() -> tuple[torch.Tensor, ModelOutput]:
    torch.manual_seed(0)
    x = torch.rand(5, *SHAPE)
    x_hat = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    return x, ModelOutput(x_hat, torch.rand(5) * 10, torch.zeros(5, 3))


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_beta_vae_is_nll_plus_beta_kl_per_image(beta: float) -> None:
    x, out = batch()
    objective = BetaELBO(SHAPE, BIN, beta=beta)
    sigma = objective.log_sigma().exp().detach()
    nll = -(Normal(out.x_hat, sigma).log_prob(x) + math.log(BIN)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(objective(x, out).loss, (nll + beta * out.kl).mean())


def test_elbo_is_beta_one_and_learns_sigma() -> None:
    x, out = batch()
    objective = ELBO(SHAPE, BIN)
    torch.testing.assert_close(objective(x, out).loss, BetaELBO(SHAPE, BIN, beta=1.0)(x, out).loss)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        objective(x, out).loss.backward()
        optimizer.step()
    rmse = (x - out.x_hat).square().mean().sqrt()
    torch.testing.assert_close(objective.log_sigma().exp(), rmse, rtol=1e-3, atol=0)


def test_annealing_reads_both_ways() -> None:
    x, out = batch()
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
    std(x, out).loss.backward()
    (gradient,) = torch.autograd.grad((0.5 * (x - out.x_hat).square().sum(dim=(1, 2, 3))).mean(), out.x_hat)
    assert out.x_hat.grad is not None
    torch.testing.assert_close(out.x_hat.grad * 0.7**2, gradient)


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
    x, out = batch()
    objective = constrained("algorithm1")
    result = objective(x, out)
    mse = (x - out.x_hat).square().mean()
    half = math.prod(SHAPE) / 2
    torch.testing.assert_close(result.loss, out.kl.mean() + half * (mse / 0.2**2 - 1))
    assert result.metrics["re.measured"] == mse and result.metrics["mse"] == mse
    columns = objective.columns(result.metrics)
    assert columns["re.value"].item() == pytest.approx(mse.sqrt().item()) == columns["rmse"].item()
    assert (columns["re.kappa"].item(), columns["re.multiplier"].item()) == (pytest.approx(0.2), half)


def test_held_out_images_move_the_multiplier_and_training_images_the_weights() -> None:
    x, out = batch()
    far = x + 0.5
    objective = constrained()
    objective(x, out, held_out=(x, far)).loss.backward()
    assert out.x_hat.grad is not None
    reference = out.x_hat.grad.clone()
    out.x_hat.grad = None
    constrained()(x, out).loss.backward()
    torch.testing.assert_close(reference, out.x_hat.grad)

    objective.step()
    violation = objective.geco.metrics()["re/violation"].item()
    assert violation == pytest.approx(0.5**2 / 0.2**2 - 1, rel=1e-4)


@pytest.mark.parametrize(
    "objective", [constrained(), ELBO(SHAPE, BIN), AnnealedELBO(SHAPE, BIN, 10)], ids=lambda o: o.name
)
def test_columns_are_scalars(objective: Objective) -> None:
    x, out = batch()
    columns = objective.columns(objective(x, out).metrics)
    assert {"kl", "loss", "rmse"} <= columns.keys()
    assert all(value.dim() == 0 and not value.requires_grad for value in columns.values())


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_beta_out_of_range(beta: float) -> None:
    with pytest.raises(ConfigError, match="beta must be positive and finite"):
        BetaELBO(SHAPE, BIN, beta=beta)
