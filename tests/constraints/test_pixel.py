"""RE against a direct computation."""

from __future__ import annotations

import math

import pytest
import torch

from bridle.constraints import CONSTRAINTS, RE, Reconstruction
from bridle.errors import ConfigError
from bridle.geco import GECO


def test_measures_the_mean_over_everything() -> None:
    torch.manual_seed(0)
    x, x_hat = torch.rand(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    total = 0.0
    for a, b in zip(x.flatten().tolist(), x_hat.flatten().tolist(), strict=True):
        total += (a - b) ** 2
    re, r = RE(0.1), Reconstruction(x, x_hat, torch.zeros(3))
    assert re.measure(r).item() == pytest.approx(total / 120)
    assert re.in_kappa_units(re.measure(r)).item() == pytest.approx(math.sqrt(total / 120))


def test_the_bound_is_kappa_squared_relative_and_its_price_half_the_dimensions() -> None:
    geco = GECO({"re": RE(0.1).bound((3, 8, 8))})
    assert geco.multipliers()["re"].item() == pytest.approx(96 / 32)
    out = geco(torch.tensor(1.0), re=torch.tensor(0.02))
    assert out.violations["re"].item() == pytest.approx(0.02 / 0.1**2 - 1)


@pytest.mark.parametrize("kappa", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_kappa_out_of_range(kappa: float) -> None:
    with pytest.raises(ConfigError, match=r"constraints.re: kappa must lie in \(0, 1\]"):
        RE(kappa)


def test_satisfied_allows_one_per_cent() -> None:
    assert RE(0.1).satisfied(0.1009) and not RE(0.1).satisfied(0.1011) and RE(0.1).satisfied(0.02)


@pytest.mark.parametrize(("bin", "least"), [(1 / 255, 0.0011), (1 / 16, 0.018)])
def test_warns_below_the_error_of_rounding(bin: float, least: float) -> None:
    assert RE(least * 1.1).warning(bin) is None
    assert "is below" in (RE(least * 0.9).warning(bin) or "")


def test_known_by_name() -> None:
    assert CONSTRAINTS["re"] is RE
