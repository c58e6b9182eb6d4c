"""The default rule against a second writing of it in plain floats, and what is promised of it in words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bridle.geco import GECO, Constraint


class PlainPI:
    """log(multiplier) of one bound: the error asinh(C), plus its sum, whose terms are small while the model learns."""

    def __init__(self, rate: float, alpha: float) -> None:
        self.rate, self.alpha = rate, alpha
        self.log, self.error = 0.0, 0.0
        self.recent: float | None = None
        self.underway, self.steps = 0.0, 0

    def step(self, c: float) -> float:
        short = self.alpha**5
        self.recent = c if self.recent is None else short * self.recent + (1 - short) * c
        exact = math.asinh(self.recent)
        error = min(max(exact, -1.0), 1.0)
        change = self.rate * error
        if exact > 0.15:
            self.steps += 1
            share = 1 / (1 + 0.3 * self.steps)
            self.underway += share * (self.recent - self.underway)
            fallen = math.asinh(self.underway) - exact
            patient = fallen > 0.05 or (self.steps < 200 and fallen > -0.05)
            change = min(change, (1 if patient else 10) / (self.steps + 30))
        else:
            self.steps, self.underway = 0, self.recent
        self.log += change + error - self.error
        self.error = error
        return self.log


# What the value over its bound does over the steps: each brings another part of the rule to bear.
COURSES: dict[str, Callable[[int], float]] = {
    "violated for long, so no longer patient": lambda t: 1.5,
    "far out, so clipped": lambda t: 9.0 if t < 40 else 0.05,
    "falling, so patient": lambda t: 1 + 20 * math.exp(-t / 100),
    "rising": lambda t: 1.2 + t / 100,
    "violated anew": lambda t: 1.4 if t % 100 < 50 else 0.9,
    "improving from below": lambda t: 1 - 0.8 * math.exp(-t / 50),
    "oscillating": lambda t: math.exp(0.5 * math.sin(t / 7)),
    "below zero": lambda t: -0.5 if t % 9 == 0 else 1.1,
}


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("alpha", [None, 0.9, 0.0])
def test_pi_moves_as_written_twice(course: str, alpha: float | None) -> None:
    settings = {} if alpha is None else {"alpha": alpha}
    free = {"bounds": None, "max_log_step": None}
    constraints = {"up": Constraint(upper=4.0, **settings, **free), "down": Constraint(lower=4.0, **settings, **free)}
    geco = GECO(constraints)
    up, down = (PlainPI(rate=0.03, alpha=0.99 if alpha is None else alpha) for _ in range(2))
    for t in range(300):
        ratio = COURSES[course](t)
        value = torch.tensor(4 * ratio)
        geco(torch.tensor(0.0), up=value, down=value)
        geco.step()
        expected = [up.step(ratio - 1), down.step(1 - ratio)]
        np.testing.assert_allclose(geco.state[0].tolist(), expected, rtol=1e-3, atol=2e-3)


def test_while_the_error_falls_the_multiplier_grows_no_faster_than_time() -> None:
    """1 + t / 30 times its start, however far the bound is violated; the proportional part gives e at most."""
    geco = GECO({"c": Constraint(upper=1.0)})
    for t in range(1000):
        geco(torch.tensor(0.0), c=torch.tensor(50 / (1 + t / 50)))
        geco.step()
        assert geco.multipliers()["c"].item() < math.e * (1 + (t + 1) / 30)
    assert geco.multipliers()["c"].item() > 1000 / 30


def test_where_nothing_happens_it_grows_faster() -> None:
    """A start far too low for the model to learn anything costs a few hundred steps, not for ever."""
    geco = GECO({"c": Constraint(upper=1.0, initial=1e-4)})
    for t in range(600):
        geco(torch.tensor(0.0), c=torch.tensor(5.0))
        geco.step()
        if t == 150:
            assert geco.multipliers()["c"].item() < 1e-4 * math.e * (1 + (t + 1) / 30)
    assert geco.multipliers()["c"].item() > 0.1


def test_pi_leaves_its_bound_as_soon_as_the_error_turns() -> None:
    """No windup: however long the multiplier lay at its greatest, the first undershoot brings it down."""
    geco = GECO({"c": Constraint(upper=1.0, bounds=(1e-3, 10.0), alpha=0.0)})
    for _ in range(1000):
        geco(torch.tensor(0.0), c=torch.tensor(1.5))
        geco.step()
    assert geco.multipliers()["c"].item() == pytest.approx(10.0)
    geco(torch.tensor(0.0), c=torch.tensor(0.9))
    geco.step()
    assert geco.multipliers()["c"].item() < 7.0


def test_pi_is_the_default_and_divides_the_loss() -> None:
    geco = GECO({"c": Constraint(upper=1.0, initial=3.0)})
    out = geco(torch.tensor(8.0), c=torch.tensor(1.0))
    assert out.loss.item() == pytest.approx(8 / (1 + 3))
