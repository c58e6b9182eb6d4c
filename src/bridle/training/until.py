"""When a run is done that trains until it has settled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bridle.judge import STATES

__all__ = ["Until"]

SHARE = 1 / 3
"""The part of the training for which no constraint may have been approaching."""

CHANGE = 0.02
"""What changes by less of itself over the half of that has stopped falling. A rise is no end either: a model that takes
something up has yet to find out what it can do without."""

LITTLE = 0.01
"""A KL that changes by less than this, in nats, has stopped falling, too: near zero it may go on halving for long."""

FINAL = 0.2
"""The part of a run in which the learning rate falls, and which follows when it is done."""


class Until:
    """Watches a run's rows: it is done when all constraints are (:meth:`bridle.Judge.finished`), none of them was
    approaching in the last third of its steps, and the KL has stopped falling: its mean over the later half of that
    third is less than 2%, or less than 0.01 nats, from that of the earlier half, below or above. Under the constraint
    ``kl``, which holds the KL where it is, it is the error that must have stopped falling, by less than 2%.

    Its end lies a quarter later, so that the learning rate falls over the last fifth of the run as it does in any
    other; before, it was constant.

    ``end``: the step at which the run ends, None while that is not known.

    Example:
        >>> until = Until()
        >>> for step in range(25, 1001, 25):
        ...     until.add({"step": step, "kl": 10.0, "re.state": 1 if step >= 600 else 2}, finished=True)
        ...     if until.end is not None:
        ...         break
        >>> step, until.end
        (900, 1125)
    """

    def __init__(self) -> None:
        self.end: int | None = None
        self._minimised: list[tuple[int, float]] = []  # rows since no constraint was approaching

    def add(self, row: Mapping[str, float], finished: bool) -> None:
        """Takes note of a row of metrics.csv.

        Arguments:
            row: The row.
            finished: Whether all constraints were done at its step.
        """
        if self.end is not None:
            return
        if STATES.index("approaching") in [state for name, state in row.items() if name.endswith(".state")]:
            self._minimised.clear()
            return
        step, of_error = int(row["step"]), "kl.kappa" in row
        self._minimised.append((step, row["rmse"] if of_error else row["kl"]))
        begin = step * (1 - SHARE)
        if not finished or self._minimised[0][0] > begin:
            return
        middle = (begin + step) / 2
        earlier = [value for at, value in self._minimised if begin <= at <= middle]
        later = [value for at, value in self._minimised if at > middle]
        if not earlier or not later:
            return
        change = abs(_mean(earlier) - _mean(later))
        if change <= CHANGE * _mean(earlier) or (not of_error and change <= LITTLE):
            self.end = math.ceil(step / (1 - FINAL))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"end": self.end, "minimised": [list(row) for row in self._minimised]}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.end = state["end"]
        self._minimised = [(int(step), float(value)) for step, value in state["minimised"]]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
