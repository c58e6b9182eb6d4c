"""The default rule against a second writing of it in plain floats, and what is promised of it in words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bridle.geco import GECO, Constraint


class PlainPI:
    """log(multiplier) of one upper bound: the error asinh(C), plus its sum over the steps where it is not shrinking."""

    def __init__(self, rate: float, alpha: float) -> None:
        self.rate, self.alpha = rate, alpha
        self.log, self.error = 0.0, 0.0
        self.slow: float | None = None
        self.fast: float | None = None

    def step(self, ratio: float) -> float:
        c = ratio - 1
        self.slow = c if self.slow is None else self.alpha * self.slow + (1 - self.alpha) * c
        short = self.alpha**5
        self.fast = c if self.fast is None else short * self.fast + (1 - short) * c
        fast, slow = math.asinh(self.fast), math.asinh(self.slow)
        error = min(max(fast, -1.0), 1.0)
        shrinking = fast < slow - 0.02 if fast > 0 else fast > slow + 0.02
        self.log += (error - self.error) + (0.0 if shrinking else self.rate * error)
        self.error = error
        return self.log


# What the value over its bound does over the steps: each brings another part of the rule to bear.
COURSES: dict[str, Callable[[int], float]] = {
    "violated for long": lambda t: 1.5,
    "far out, so clipped": lambda t: 9.0 if t < 40 else 0.05,
    "improving, so held": lambda t: 1 + 2 * math.exp(-t / 50),
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
    reference = PlainPI(rate=0.03, alpha=0.99 if alpha is None else alpha)
    for t in range(150):
        value = torch.tensor(4 * COURSES[course](t))
        geco(torch.tensor(0.0), up=value, down=value)
        geco.step()
        expected = reference.step(COURSES[course](t))
        # A lower bound is the mirror image.
        np.testing.assert_allclose(geco.state[0].tolist(), [expected, -expected], rtol=1e-3, atol=2e-3)


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
