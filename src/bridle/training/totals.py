"""The sums from which the rows of metrics.csv are made."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from bridle.errors import TrainingError
from bridle.objectives import Objective

__all__ = ["Totals", "refuse_unless_finite"]


class Totals:
    """Sums of the metrics since the last row, kept on the device: only :meth:`means` and :meth:`loss` read them."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Adds one pass."""
        self.sums = {k: v + self.sums[k] if self.count else v for k, v in metrics.items()}
        self.count += 1

    def means(self, objective: Objective, accelerator: Accelerator) -> dict[str, float]:
        """The means over steps and processes as the columns of metrics.csv, by one read; the sums start anew."""
        flat = torch.cat([total.reshape(-1) for total in self.sums.values()]) / self.count
        parts = accelerator.reduce(flat, "mean").split([total.numel() for total in self.sums.values()])
        means = {k: part.view_as(total) for (k, total), part in zip(self.sums.items(), parts, strict=True)}
        self.sums, self.count = {}, 0
        columns = objective.columns(means)
        return dict(zip(columns, torch.stack(list(columns.values())).tolist(), strict=True))

    def loss(self) -> float:
        """The sum of the losses since the last row, zero right after it. One read of the device."""
        return self.sums["loss"].item() if self.count else 0.0

    def state(self) -> dict[str, Any]:
        """For a checkpoint that falls between two rows."""
        return {"sums": self.sums, "count": self.count}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        """The inverse of :meth:`state`."""
        self.sums = {k: v.to(device) for k, v in state["sums"].items()}
        self.count = state["count"]


def refuse_unless_finite(loss: float, step: int) -> None:
    """Raises TrainingError for a loss, or a sum of losses, that is not finite."""
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is not finite at step {step}: train anew with a lower --lr")
