"""Problems whose solution and multipliers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bridle.geco import GECO, Constraint

# The printed rule has no damping but the model's own: here without the average's delay, and slowly.
RULES: list[tuple[str, dict[str, float]]] = [("pi", {}), ("algorithm1", {"rate": 0.02, "alpha": 0.0})]


def solve(geco: GECO, w: Tensor, problem, steps: int = 2500) -> None:  # type: ignore[no-untyped-def]
    optimizer = torch.optim.SGD([w], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        objective, values = problem(w)
        geco(objective, **values).loss.backward()
        optimizer.step()
        geco.step()


@pytest.mark.parametrize(("rule", "settings"), RULES, ids=["pi", "algorithm1"])
@pytest.mark.parametrize("scale", ["relative", "absolute"])
def test_nearest_point_of_a_half_space(rule: str, settings: dict[str, float], scale: str) -> None:
    """min |w|^2 subject to a.w >= b: w = b a / |a|^2, and 2b / |a|^2 multiplies b - a.w."""
    a, b = torch.tensor([1.0, 2.0, -0.5]), 2.0
    geco = GECO({"c": Constraint(lower=b, scale=scale, **settings)}, rule=rule)
    w = torch.zeros(3, requires_grad=True)
    solve(geco, w, lambda w: ((w**2).sum(), {"c": a @ w}))
    torch.testing.assert_close(w.detach(), b * a / (a @ a), rtol=2e-3, atol=2e-3)
    expected = 2 * b / (a @ a).item() * (b if scale == "relative" else 1)
    assert geco.multipliers()["c"].item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("rule", "settings"), RULES, ids=["pi", "algorithm1"])
@pytest.mark.parametrize("b", [1.0, -1.0])
def test_nearest_point_of_a_plane(rule: str, settings: dict[str, float], b: float) -> None:
    """min |w - c|^2 subject to a.w = b, from either side: the multiplier has the sign of a.c - b."""
    a, c = torch.tensor([1.0, 2.0]), torch.tensor([0.2, -0.1])
    geco = GECO({"c": Constraint(equal=b, scale="absolute", **settings)}, rule=rule)
    w = torch.zeros(2, requires_grad=True)
    solve(geco, w, lambda w: (((w - c) ** 2).sum(), {"c": a @ w}))
    expected = 2 * (a @ c - b) / (a @ a)
    torch.testing.assert_close(w.detach(), c - expected * a / 2, rtol=2e-3, atol=2e-3)
    assert geco.multipliers()["c"].item() == pytest.approx(expected.item(), rel=1e-2)


@pytest.mark.parametrize(("rule", "settings"), RULES, ids=["pi", "algorithm1"])
def test_several_constraints_and_one_that_is_slack(rule: str, settings: dict[str, float]) -> None:
    """min |w|^2 with a floor for each element (a vector), a slack ceiling, and an interval whose upper end binds."""
    floor = torch.tensor([1.0, 0.5])
    constraints = {
        "floor": Constraint(lower=floor, **settings),
        "slack": Constraint(upper=10.0, **settings),
        "range": Constraint(lower=-2.0, upper=-1.0, **settings),
    }
    geco = GECO(constraints, rule=rule)
    w = torch.zeros(3, requires_grad=True)
    solve(geco, w, lambda w: ((w**2).sum(), {"floor": w[:2], "slack": w.sum(), "range": w[2]}))
    torch.testing.assert_close(w.detach(), torch.tensor([1.0, 0.5, -1.0]), rtol=3e-3, atol=3e-3)
    multipliers = geco.multipliers()
    torch.testing.assert_close(multipliers["floor"], 2 * floor * floor, rtol=1e-2, atol=1e-3)
    assert multipliers["slack"].item() < 1e-4
    assert multipliers["range"].item() == pytest.approx(2 * 1.0 * 0.5, rel=1e-2)  # 0.5 is the half-width


PIXELS = 12


def covariance() -> Tensor:
    """A sample covariance of images with a spectrum over two decades."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(PIXELS, PIXELS, generator=generator, dtype=torch.float64))[0]
    deviations = 0.3 * 0.75 ** torch.arange(PIXELS, dtype=torch.float64)
    x = (torch.randn(400, PIXELS, generator=generator, dtype=torch.float64) * deviations) @ rotation
    return (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)


def reverse_water_filling(eigenvalues: Tensor, mse: float) -> tuple[float, float]:
    """The level at which ``mean(min(level, eigenvalues))`` is ``mse``, and the rate in nats that this costs."""
    low, high = 0.0, eigenvalues.max().item()
    for _ in range(100):
        level = (low + high) / 2
        if eigenvalues.clamp(max=level).mean().item() > mse:
            high = level
        else:
            low = level
    return level, 0.5 * (eigenvalues / level).log().clamp(min=0).sum().item()


@pytest.mark.parametrize("kappa", [0.03, 0.06, 0.1])
def test_linear_gaussian_vae_lands_on_the_rate_distortion_curve(kappa: float) -> None:
    """Posterior N(Wx, diag(s^2)), decoder Vz: rate and distortion are exact, and so is the optimum. All defaults."""
    sample = covariance()
    level, rate = reverse_water_filling(torch.linalg.eigvalsh(sample), kappa**2)
    sample = sample.float()
    generator = torch.Generator().manual_seed(1)
    encoder = (0.1 * torch.randn(PIXELS, PIXELS, generator=generator)).requires_grad_()
    decoder = (0.1 * torch.randn(PIXELS, PIXELS, generator=generator)).requires_grad_()
    log_s = torch.zeros(PIXELS, requires_grad=True)
    optimizer = torch.optim.Adam([encoder, decoder, log_s], lr=2e-2)
    geco = GECO({"re": Constraint(upper=kappa**2)})

    for _ in range(LINEAR_STEPS):
        s2 = (2 * log_s).exp()
        mean_square = ((encoder @ sample) * encoder).sum(1)
        kl = 0.5 * (s2 + mean_square - 1 - 2 * log_s).sum()
        map_ = decoder @ encoder
        error = sample.trace() - 2 * (map_ @ sample).trace() + ((map_ @ sample) * map_).sum()
        mse = (error + (s2 * decoder**2).sum()) / PIXELS
        optimizer.zero_grad()
        geco(kl, re=mse).loss.backward()
        optimizer.step()
        geco.step()

    multiplier = PIXELS * kappa**2 / (2 * level)
    assert multiplier < PIXELS / 2
    assert mse.item() ** 0.5 == pytest.approx(kappa, rel=0.01)
    assert kl.item() == pytest.approx(rate, rel=0.01)
    assert geco.multipliers()["re"].item() == pytest.approx(multiplier, rel=0.05)


LINEAR_STEPS = 4000
