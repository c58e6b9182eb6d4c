"""Our default rule with one of its parts taken out: what each is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.arena.contestants import CONTESTANTS, Entry, Ours, ours
from benchmarks.arena.terms import Measured
from bridle import geco
from bridle.constraints.base import START
from bridle.geco import RULES, RowSettings, Rule, pi

__all__ = ["ABLATION"]

State = Mapping[str, Tensor]


def _without_limits(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    # Below its start a multiplier moves freely, and so it is always below it.
    return pi(state, c, settings._replace(log_initial=torch.full_like(settings.log_initial, math.inf)))


def _without_waiting(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    with patch.multiple(geco, _DEAR=math.inf, _TOO_DEAR=math.inf):
        return pi(state, c, settings)


def _without_impatience(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    with patch.multiple(geco, _PATIENCE=math.inf):
        return pi(state, c, settings)


def _without_haste(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    with patch.multiple(geco, _LASTS=math.inf):
        return pi(state, c, settings)


def _without_proportional_part(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    new = pi(state, c, settings)
    return new | {"log_multiplier": new["log_multiplier"] - (new["near"] - state["near"])}


def _with_long_average(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    return pi(state, c, settings._replace(alpha=settings.alpha**0.2))


def _growing(times: float) -> Callable[[State, Tensor, RowSettings], dict[str, Tensor]]:
    """So many times as fast while the multiplier grows with time."""

    def update(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
        new, free = pi(state, c, settings), _without_limits(state, c, settings)
        proportional = new["near"] - state["near"]
        limited, unlimited = (after["log_multiplier"] - state["log_multiplier"] - proportional for after in (new, free))
        integral = torch.where(limited < unlimited, (times * limited).minimum(unlimited), limited)
        return new | {"log_multiplier": state["log_multiplier"] + integral + proportional}

    return update


class _Divided(Ours):
    """The loss divided by one plus the sum of the multipliers, so that gradients keep their size while these move."""

    def loss(self, seen: Measured) -> Tensor:
        return super().loss(seen) / (1 + self.multipliers.sum())


def _with(update: Callable[[State, Tensor, RowSettings], dict[str, Tensor]]) -> Rule:
    return Rule(update, RULES["pi"].rate, RULES["pi"].registers)


ABLATION: dict[str, Entry] = {
    "no patience, no waiting": ours(_with(_without_limits)),
    "growth twice as fast": ours(_with(_growing(2))),
    "growth four times as fast": ours(_with(_growing(4))),
    "no waiting": ours(_with(_without_waiting)),
    "no impatience": ours(_with(_without_impatience)),
    "no haste where an error lasts": ours(_with(_without_haste)),
    "no proportional part": ours(_with(_without_proportional_part)),
    "the long average": ours(_with(_with_long_average)),
    "the loss divided": Entry(lambda terms, moves: _Divided(terms), CONTESTANTS["bridle"].grid),
    "from the price": ours(RULES["pi"], 1 / START),
}
"""The default rule, each time with one difference, by what that is: contestants that the final does not have."""
