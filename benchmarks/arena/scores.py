"""Scores of a run, by the rules of the contest: pure functions of its trajectory."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.problems import Kind
from benchmarks.arena.terms import Yardstick
from benchmarks.arena.trajectory import THIN, Trajectory

__all__ = [
    "CANNOT",
    "Answer",
    "Score",
    "judge",
    "lagrangian",
    "reached",
    "running_mean",
    "settled",
    "settled_of_itself",
    "steady",
]

WINDOW = 200
"""Steps of the mean that settles."""

LAST = 300
"""Steps of the mean that a rate is judged by."""

BAND = 0.05
"""How far from kappa, in kappa's units and as a share of it, a settled mean may lie."""

SLACK_SHARE, SLACK_NATS = 0.01, 0.05
"""A slack constraint costs less than this share of the rate, or these nats, whichever is larger."""

CANNOT: Final = "cannot be met"
"""What a contestant's state says of a kappa that the model does not reach."""

Array = NDArray[np.float64]


class Answer(NamedTuple):
    """What is right for a problem: the oracle's multipliers, zero where a constraint is slack, and the values that its
    run ends at, in kappa's units; shape ``(rows,)`` each."""

    multipliers: Array
    value: Array


class Score(NamedTuple):
    """What a run is worth.

    ``finite``: no loss was infinite or NaN. ``settled``: the step since which every constraint is settled or slack,
    None if it is not. ``accuracy``: the greatest ``|value / kappa - 1|`` of the last 200 steps over constraints that
    are not slack, NaN without such. ``value``: that of the constraint concerned (of the first without such), in kappa's
    units. ``kl``: nats, mean of the last 300 steps; ``c``: the relative constraints, means of the same. ``within``:
    whether every value is within 5% of kappa, or slack, at the end, so that rates can be compared. ``overshoot``: the
    highest multiplier over the final one (the mean of the last 200 steps), the greatest over constraints that are not
    slack. ``multiplier``: the final one of the first constraint. ``state``: what the contestant said last. ``alarms``:
    how often it said that kappa cannot be met.
    """

    finite: bool
    settled: int | None
    accuracy: float
    value: float
    kl: float
    c: tuple[float, ...]
    within: bool
    overshoot: float
    multiplier: float
    state: str
    alarms: int

    def success(self, kind: Kind, budget: int) -> bool:
        """Whether the run has done what was to be done within so many steps.

        A problem that cannot be met is named as such by a contestant that says what it thinks of a run; one that never
        says anything has to end at the best value that can be reached, within 5%. Naming another problem so is wrong.
        """
        if kind == CANNOT and self.state:
            return self.finite and self.state == CANNOT
        return self.finite and self.settled is not None and self.settled <= budget and self.alarms == 0


def running_mean(values: Array, window: int = WINDOW) -> Array:
    """Means over the last ``window`` steps at each step from the ``window``-th on: shape ``(N - window + 1, ...)`` of
    ``(N, ...)``; over all steps where there are fewer."""
    window = min(window, len(values))
    return np.lib.stride_tricks.sliding_window_view(values.astype(np.float64), window, axis=0).mean(axis=-1)


def steady(right: NDArray[np.bool_], window: int) -> int | None:
    """The step since which it is always right, from one entry for each end of a window; None if it is wrong at last.

    Example:
        >>> steady(np.array([True, False, True, True]), window=200)
        202
        >>> steady(np.array([True, False]), window=200) is None
        True
    """
    wrong = np.flatnonzero(~right)
    if not len(wrong):
        return window
    return None if wrong[-1] == len(right) - 1 else int(window + wrong[-1] + 1)


def settled(means: Array, kappa: Array, window: int = WINDOW) -> int | None:
    """The step since which all running means stay within 5% of kappa, until the end.

    Arguments:
        means: Running means in kappa's units, shape ``(M, rows)``, the first at step ``window``.
        kappa: Shape ``(rows,)``.
        window: Steps of a mean.
    """
    return steady(np.all(np.abs(means / kappa - 1) <= BAND, axis=1), window)


def settled_of_itself(trajectory: Trajectory, yardstick: Yardstick, active: NDArray[np.bool_]) -> int | None:
    """The step since which all running means stay within 5% of the run's own end, the mean of its last 300 steps.

    Arguments:
        trajectory: A run with fixed multipliers, which knows nothing of kappa.
        yardstick: Of the problem.
        active: The constraints that count, shape ``(rows,)``.
    """
    values = trajectory.values.astype(np.float64)
    end = yardstick.in_kappa_units(values[-LAST:].mean(axis=0))
    means = yardstick.in_kappa_units(running_mean(values))
    return settled(means[:, active], end[active], min(WINDOW, len(values)))


def reached(trajectory: Trajectory, yardstick: Yardstick, active: NDArray[np.bool_]) -> int | None:
    """The step by which every running mean has been within 5% of kappa, or on its right side, at one time or another;
    None if one never was.

    Arguments:
        trajectory: A run whose loss is the error alone.
        yardstick: Of the problem.
        active: The constraints that count, shape ``(rows,)``.
    """
    values = trajectory.values.astype(np.float64)
    means = yardstick.in_kappa_units(running_mean(values))
    off = np.where(yardstick.lower, -1, 1) * (means / yardstick.kappa - 1)
    there = np.maximum.accumulate(off[:, active] <= BAND, axis=0).all(axis=1)
    return int(np.argmax(there)) + min(WINDOW, len(values)) if there.any() else None


def judge(trajectory: Trajectory, yardstick: Yardstick, answer: Answer, kind: Kind) -> Score:
    """The scores of a run as long as it is.

    Where kappa cannot be met, the value that the oracle reached stands for kappa in ``settled`` and ``accuracy``, and
    only the wrong side of it counts.
    """
    finite = trajectory.finite_steps == trajectory.steps
    state = trajectory.states[-1] if trajectory.states else ""
    alarms = 0 if kind == CANNOT else sum(said == CANNOT for said in trajectory.states)
    if not finite:
        nan = float("nan")
        return Score(False, None, nan, nan, nan, (), False, nan, nan, state, alarms)

    window = min(WINDOW, trajectory.steps)
    measured = running_mean(trajectory.values.astype(np.float64), window)
    means = yardstick.in_kappa_units(measured)
    kl, rate = float(_last(trajectory.kl, LAST).mean()), float(_last(trajectory.kl, WINDOW).mean())
    final_multipliers = _last(trajectory.multipliers, WINDOW).astype(np.float64).mean(axis=0)
    final_c = measured[-1] / yardstick.bound - 1

    aim = answer.value if kind == CANNOT else yardstick.kappa
    off = means / aim - 1
    worse = np.where(yardstick.lower, -off, off)
    active = np.ones_like(aim, dtype=bool) if kind == CANNOT else answer.multipliers > 0
    in_band = worse <= BAND if kind == CANNOT else (np.abs(off) <= BAND) & active
    satisfied = worse <= 0.01
    free = np.abs(final_multipliers * final_c) < max(SLACK_SHARE * rate, SLACK_NATS)
    is_slack = satisfied[-1] & free & (kind != CANNOT)
    since = [
        steady(in_band[:, row] if in_band[-1, row] or not is_slack[row] else satisfied[:, row], window)
        for row in range(len(aim))
    ]
    counted = np.abs(off[-1]) if kind != CANNOT else np.maximum(worse[-1], 0)
    worst = int(np.argmax(np.where(active, counted, -1)))
    last_c = trajectory.values[-LAST:].astype(np.float64).mean(axis=0) / yardstick.bound - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        overshoot = np.abs(trajectory.multipliers).max(axis=0) / np.abs(final_multipliers)
    return Score(
        finite=True,
        settled=None if None in since else max(step for step in since if step is not None),
        accuracy=float(counted[worst]) if active.any() else float("nan"),
        value=float(means[-1, worst]),
        kl=kl,
        c=tuple(last_c.tolist()),
        within=bool((in_band[-1] | is_slack).all()),
        overshoot=float(overshoot[active].max()) if active.any() else float("nan"),
        multiplier=float(final_multipliers[0]),
        state=state,
        alarms=alarms,
    )


def lagrangian(kl: float, c: Array, multipliers: Array) -> float:
    """``KL + lambda C``, nats: what a run pays at the end, with the same multipliers for everyone.

    Example:
        >>> lagrangian(10.0, np.array([0.02, -0.5]), np.array([30.0, 0.0]))
        10.6
    """
    return kl + float(multipliers @ c)


def _last(thinned: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """The entries of the last so many steps."""
    return thinned[-max(1, steps // THIN) :]
