"""Where each constraint of a run stands, in a word: settled, approaching, slack, or one that cannot be met.

A multiplier and a violation are two numbers to watch for hours. A :class:`Judge` watches them instead: beside what
:meth:`bridle.GECO.step` moved, it keeps means over the last 200 steps and every 25 steps passes judgement, all of it on
the device. Nothing waits for the device but :meth:`Judge.verdicts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bridle.geco import GECO

__all__ = ["STATES", "Judge", "Verdict", "verdict"]

STATES = ("slack", "settled", "approaching", "cannot be met")
"""What is said of a constraint. Of a vector constraint it is what is furthest to the right among its elements."""

_SLACK, _SETTLED, _APPROACHING, _CANNOT = range(len(STATES))

NEAR, EXACT = 0.05, 0.01
"""Shares of the bound: a settled value lies within the first, a satisfied one no further than the second beyond it."""

_BLOCK, _BLOCKS = 25, 8  # a judgement every 25 steps, on means of 8 times as many

# So many nats are next to nothing. A slack constraint costs less, or less than this share of the objective.
_SLACK_SHARE, _NOTHING = 0.01, 0.05

# A trial of the multiplier ends when it has grown fourfold and 400 steps, or a quarter of the time until then, have
# passed. It fails if at the pace of the trial, in powers of the time, the bound would not be met in ten times the
# training so far. Two failures in a row are enough. It does not fail while next to nothing is paid, unless no
# multiplier is left to try: a model that makes no use of its latents may come to, after thousands of steps at no rate.
# And failures are forgotten as soon as the pace since the last one would do: a model may learn slowly at first.
_GROWTH = math.log(4)
_TRIAL_STEPS, _TRIAL_SHARE = 400, 0.25
_HORIZON = math.log(10)
_FAILURES = 2


Limits = Callable[[float], tuple[float, float] | tuple[Tensor, Tensor]]


class Verdict(NamedTuple):
    """``state``: of :data:`STATES`; ``settled_at``: the step since which it has been settled, None if it is not."""

    state: str
    settled_at: int | None

    def __str__(self) -> str:
        return self.state if self.settled_at is None else f"{self.state} at {self.settled_at:,}"


class Judge(nn.Module):
    """Says where each constraint of a :class:`bridle.GECO` stands.

    *settled*: the mean over the last 200 steps is within 5% of the bound. *slack*: it is satisfied by more than 1% at
    no cost, ``multiplier * |C|`` being below 1% of the objective or 0.05 nats; the bound could be tighter. *cannot be
    met*: it is violated, the multiplier has been raised fourfold twice, each time for 400 steps or a quarter of the
    training so far, whichever is more, and at the pace of the meantime the bound would not be met in ten times the
    training so far; but while the objective is below 0.05 nats, as that of a model that makes no use of its latents
    yet, only of a multiplier at its upper bound. *approaching*: none of these. The verdict is taken back when what it
    says no longer holds. The objective is taken to be in nats.

    Call :meth:`step` after each of ``geco.step()``. Its state is part of ``state_dict``, so that a run that is taken
    up says the same as one that never stopped.

    Arguments:
        geco: What is watched.
        limits: For constraints by name: a function from a share, such as 0.05, to the least and the greatest value
            that are within that share of the bound, in the units in which people read it (numbers, or tensors with an
            entry for each of a vector's elements). Of others it is that share of the unit of ``C`` if that is relative,
            and of the bound (of 1 for a bound of zero) if not.

    Example:
        >>> from bridle import GECO, Constraint
        >>> weight = torch.tensor(5.0, requires_grad=True)
        >>> geco = GECO({"floor": Constraint(lower=2.0), "roof": Constraint(upper=9.0)})
        >>> judge = Judge(geco)
        >>> optimizer = torch.optim.Adam([weight], lr=0.05)
        >>> for _ in range(2000):
        ...     optimizer.zero_grad()
        ...     geco(weight**2, floor=weight, roof=weight).loss.backward()
        ...     optimizer.step()
        ...     geco.step()
        ...     judge.step()
        >>> judge.verdicts()["floor"].state, judge.verdicts()["roof"].state
        ('settled', 'slack')
    """

    def __init__(self, geco: GECO, limits: Mapping[str, Limits] | None = None) -> None:
        super().__init__()
        self._geco = (geco,)  # no submodule: its state is its own
        self._bands = _bands(geco, limits or {})
        self._count = 0
        rows = len(geco.seen) - 1
        self._state = {
            "block": torch.zeros(rows + 1),
            "means": torch.zeros(_BLOCKS, rows + 1),
            "code": torch.full((rows,), _APPROACHING),
            "settled_at": torch.zeros(rows, dtype=torch.int64),
            "exact": torch.zeros(rows, dtype=torch.bool),
            "failed": torch.zeros(rows, dtype=torch.int64),
            "trial_step": torch.zeros(rows, dtype=torch.int64),
            "trial_left": torch.zeros(rows),
            "trial_log_multiplier": torch.zeros(rows),
        }

    @torch.no_grad()
    def step(self) -> None:
        """Takes note of the step that GECO has just made."""
        geco = self._geco[0]
        if not geco.training:
            return
        seen, state = geco.seen, self._state
        if state["block"].device != seen.device:
            self._state = state = {name: tensor.to(seen.device) for name, tensor in state.items()}
            self._bands = _Bands(*(band.to(seen.device) for band in self._bands))
        self._count += 1
        state["block"] += seen
        if self._count % _BLOCK == 0:
            state["means"] = torch.cat((state["means"][1:], state["block"].unsqueeze(0) / _BLOCK))
            state["block"].zero_()
            if self._count >= _BLOCK * _BLOCKS:
                state |= self._judged(state["means"].mean(dim=0), state, geco)

    def _judged(self, mean: Tensor, state: Mapping[str, Tensor], geco: GECO) -> dict[str, Tensor]:
        c, objective, now = mean[:-1], mean[-1], self._count
        log_multiplier, bands = geco.state[0], self._bands
        near = (bands.near_least <= c) & (c <= bands.near_greatest)
        violated = c > bands.near_greatest
        cost = log_multiplier.exp() * c.abs()
        free = cost < (_SLACK_SHARE * objective.abs()).clamp_min(_NOTHING)
        slack = free & (c < bands.exact_least)
        settled = near & ~slack
        settled_at = torch.where(settled, torch.where(state["settled_at"] > 0, state["settled_at"], now), 0)

        begun = (state["trial_step"] > 0) & violated
        patience = (_TRIAL_SHARE * state["trial_step"]).clamp_min(_TRIAL_STEPS)
        at_limit = log_multiplier >= geco.settings.log_greatest
        grown = (log_multiplier - state["trial_log_multiplier"] >= _GROWTH) | at_limit
        waited = begun & (now - state["trial_step"] >= patience)
        over = waited & grown
        # What falls like a power of the time, as errors do while a model learns, falls evenly in these logarithms.
        left, middle = c.log1p(), _BLOCK * _BLOCKS / 2
        passed = ((now - middle) / (state["trial_step"] - middle).clamp_min(1)).log()
        hopeless = left * passed > (state["trial_left"] - left) * _HORIZON
        hopeless &= (objective.abs() > _NOTHING) | at_limit
        # What comes nearer at a sufficient pace is not hopeless, however much the multiplier was raised before.
        failed = torch.where(begun & ~(waited & ~hopeless), state["failed"] + (over & hopeless), 0)
        anew = over | (violated & ~begun)

        code = torch.where(violated & (failed >= _FAILURES), _CANNOT, _APPROACHING)
        return {
            "code": torch.where(settled, _SETTLED, torch.where(slack, _SLACK, code)),
            "settled_at": settled_at,
            "exact": (bands.exact_least <= c) & (c <= bands.exact_greatest),
            "failed": failed,
            "trial_step": torch.where(violated, torch.where(anew, now, state["trial_step"]), 0),
            "trial_left": torch.where(anew, left, state["trial_left"]),
            "trial_log_multiplier": torch.where(anew, log_multiplier, state["trial_log_multiplier"]),
        }

    def codes(self) -> dict[str, tuple[Tensor, Tensor]]:
        """For each constraint two 0-dimensional tensors, neither of them read back: the index of its state in
        :data:`STATES`, and the step since which it has been settled, zero if it is not."""
        geco, settled_at = self._geco[0], self._state["settled_at"]
        codes = geco.by_name(self._state["code"].to(geco.state.device), torch.amax)
        since = geco.by_name(settled_at.to(geco.state.device), torch.amax)
        return {
            name: ((worst := code.max()), torch.where(worst == _SETTLED, since[name].max(), 0))
            for name, code in codes.items()
        }

    def finished(self) -> Tensor:
        """Whether nothing is left to do: every constraint is settled with its mean within 1% of the bound, or slack, or
        cannot be met. 0-dimensional, not read back."""
        code = self._state["code"]
        return ((code != _APPROACHING) & ((code != _SETTLED) | self._state["exact"])).all()

    def verdicts(self) -> dict[str, Verdict]:
        """What is said of each constraint. Waits for the device."""
        return {name: verdict(code.item(), step.item()) for name, (code, step) in self.codes().items()}

    def get_extra_state(self) -> dict[str, Any]:
        return {"count": self._count, **self._state}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self._count = state["count"]
        self._state = {name: state[name].clone() for name in self._state}


def verdict(code: float, settled_at: float) -> Verdict:
    """A verdict from the numbers of :meth:`Judge.codes`."""
    return Verdict(STATES[int(code)], int(settled_at) or None)


class _Bands(NamedTuple):
    """Values of ``C``, one entry a row: near its bound, and at it as far as anybody asks."""

    near_least: Tensor
    near_greatest: Tensor
    exact_least: Tensor
    exact_greatest: Tensor


def _bands(geco: GECO, limits: Mapping[str, Limits]) -> _Bands:
    settings = geco.settings
    rows: dict[float, list[Tensor]] = {NEAR: [], EXACT: []}
    for share, parts in rows.items():
        for name, constraint in geco.constraints.items():
            for sign, bound, unit in constraint.sides():
                if name in limits:
                    ends = [sign * (value - bound) / unit for value in limits[name](share)]
                else:
                    plain = constraint.scale == "relative"
                    width = share * torch.where((bound == 0) | plain, 1.0, bound.abs())
                    ends = [-width, width]
                parts.append(torch.stack(ends).sort(dim=0).values)
    near, exact = (torch.cat(parts, dim=1).to(settings.bound.device) for parts in rows.values())
    return _Bands(*near, *exact)
