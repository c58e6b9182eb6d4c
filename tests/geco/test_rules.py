"""The default rule against a second writing of it in plain floats, and what is promised of it in words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bridle.geco import GECO, RULES, Constraint


class PlainPI:
    """log(multiplier) of one bound, started at 1: the error, plus a sum whose terms grow with the time that an error
    lasts, but fall as 1 / t while the bound is violated."""

    def __init__(self, rate: float, alpha: float) -> None:
        self.rate, self.alpha = rate, alpha
        self.log, self.near, self.steps, self.trail = 0.0, 0.0, 0, 0.0
        self.recent: float | None = None

    def step(self, c: float) -> float:
        self.recent = c if self.recent is None else self.recent + (1 - self.alpha**5) * (c - self.recent)
        error = math.asinh(self.recent)
        near = min(max(error, -0.15), 0.15)
        self.steps = self.steps + 1 if near * self.near > 0 else 0
        lag = 80 + self.steps / 4
        self.trail = error if self.steps == 0 else self.trail + (error - self.trail) / lag
        change = self.rate * max(1, self.steps / 100) * min(max(error, -1.0), 1.0)
        if error > 0 and self.log >= 0:
            pace = (self.trail - error) * (self.steps + 30) / lag
            stuck = error > 0.15 and self.steps > 1000 and pace < error / 5
            change = min(change, (3 if stuck else 1) / (self.steps + 30))
            offer = math.exp(self.log) * (1 + self.recent)
            soon, falls = pace * math.log(4) > error, pace >= error / 5
            if error > 0.15 and ((soon and offer > 64) or (falls and offer > 256)):
                change = 0.0
        self.log = min(max(self.log + change + near - self.near, -87.0), 88.0)  # as far as float32 goes
        self.near = near
        return self.log


# What the value over its bound does over the steps: each brings another part of the rule to bear.
COURSES: dict[str, Callable[[int], float]] = {
    "violated for long, so no longer patient": lambda t: 1.5,
    "far out, so clipped": lambda t: 9.0 if t < 40 else 0.05,
    "falling where it is cheap": lambda t: 1 + 20 * math.exp(-t / 100),
    "falling where it is dear": lambda t: 1 + 500 * math.exp(-t / 90),
    "falling slowly where it is too dear": lambda t: 1 + 200 / (1 + t / 50) ** 0.8,
    "falling where it is dear, and then stuck": lambda t: 30 + 500 * math.exp(-t / 50),
    "rising": lambda t: 1.2 + t / 100,
    "violated anew": lambda t: 1.4 if t % 100 < 50 else 0.9,
    "improving from below": lambda t: 1 - 0.8 * math.exp(-t / 50),
    "oscillating": lambda t: math.exp(0.5 * math.sin(t / 7)),
    "met for long, and then violated": lambda t: 0.2 if t < 200 else 1.5,
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
    for t in range(1200):
        ratio = COURSES[course](t)
        value = torch.tensor(4 * ratio)
        geco(torch.tensor(0.0), up=value, down=value)
        geco.step()
        expected = [up.step(ratio - 1), down.step(1 - ratio)]
        np.testing.assert_allclose(geco.state[0].tolist(), expected, rtol=1e-3, atol=2e-3)


def moved(steps: int, value: Callable[[int], float], **settings: float) -> list[float]:
    """The multiplier over the steps, from one on."""
    geco = GECO({"c": Constraint(upper=1.0, **settings)})
    multipliers = []
    for t in range(steps):
        geco(torch.tensor(0.0), c=torch.tensor(value(t)))
        geco.step()
        multipliers.append(geco.multipliers()["c"].item())
    return multipliers


def test_while_the_error_falls_the_multiplier_grows_no_faster_than_time() -> None:
    """However far the bound is violated; the proportional part gives a sixth at most."""
    course = moved(2000, lambda t: 1 + 10 / (1 + t / 50) ** 0.5)
    assert all(m < math.exp(0.15 + 0.03) * (1 + t / 30) for t, m in enumerate(course))
    assert course[-1] > 0.8 * (1 + 2000 / 30)


def test_nor_while_the_bound_is_nearly_met() -> None:
    """Else one that is 10% away for a thousand steps would see it grow twentyfold."""
    course = moved(3000, lambda t: 1.1)
    assert course[-1] < 1.2 * math.exp(0.1) * (1 + 3000 / 30)


def test_below_its_start_it_grows_as_it_falls() -> None:
    """What a model that begins within the bound takes off the multiplier is there again as soon as it is needed."""
    course = moved(2000, lambda t: 0.1 if t < 300 else 3.0, initial=2.0)
    assert course[299] < 2 * math.exp(-6)
    back = next(t for t, m in enumerate(course) if t > 300 and m > 2)
    assert back < 300 + 300 and course[back + 100] < 2.1 * (1 + (back - 300 + 100) / 30)


def test_it_waits_while_the_error_falls_and_more_would_be_dear() -> None:
    """Until the offer, the multiplier times the value over its bound, is down to 64 times the start."""

    def falling(t: int) -> float:
        return 1 + 30 / max(1, t / 400) ** 3

    initial = 2.0
    course = moved(1500, falling, initial=initial)
    offers = [m * falling(t) / initial for t, m in enumerate(course)]
    until = next(t for t in range(700, 1500) if offers[t] < 64)
    assert offers[700] > 1.5 * 64 and course[700] == pytest.approx(course[until])
    assert course[until + 300] > 1.2 * course[until]


def test_where_it_is_too_dear_it_waits_as_long_as_the_error_falls_at_all() -> None:
    """Falling with this power of time, a value takes hundreds of times the steps to its bound."""

    def falling(t: int) -> float:
        return 1 + 400 / (1 + t / 50)

    course = moved(2000, falling)
    offers = [m * falling(t) for t, m in enumerate(course)]
    until = next(t for t in range(500, 2000) if offers[t] < 256)
    assert offers[500] > 1.1 * 256 and course[500] == pytest.approx(course[until])
    assert course[-1] > 1.5 * course[until] and offers[-1] == pytest.approx(256, rel=0.01)


@pytest.mark.parametrize("far", [5.0, 400.0])
def test_where_the_error_stands_it_grows_with_the_third_power_of_time(far: float) -> None:
    """After a thousand steps, however dear: it would wait forever where the start is too low by far."""
    course = moved(4000, lambda t: far)
    assert course[1000] < math.exp(0.18) * (1 + 1000 / 30)
    assert course[-1] / course[1030] == pytest.approx((4030 / 1060) ** 3, rel=0.02)


def test_pi_leaves_its_bound_as_soon_as_the_error_turns() -> None:
    """No windup: however long the multiplier lay at its greatest, the first undershoot brings it down."""
    geco = GECO({"c": Constraint(upper=1.0, bounds=(1e-3, 10.0), alpha=0.0)})
    for _ in range(1000):
        geco(torch.tensor(0.0), c=torch.tensor(1.5))
        geco.step()
    assert geco.multipliers()["c"].item() == pytest.approx(10.0)
    geco(torch.tensor(0.0), c=torch.tensor(0.9))
    geco.step()
    error = math.asinh(-0.1)  # the proportional part goes from 0.15 to this, and the integral part adds its share
    assert geco.multipliers()["c"].item() == pytest.approx(10 * math.exp((error - 0.15) + 0.03 * error), rel=1e-4)


def test_pi_is_the_default() -> None:
    assert GECO({"c": Constraint(upper=1.0)}).rule is RULES["pi"]
