"""What the objectives with multipliers have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bridle.constraints import ImageConstraint
from bridle.geco import GECO
from bridle.judge import Judge, Limits
from bridle.objectives.base import Objective

__all__ = ["LagrangianObjective"]


class LagrangianObjective(Objective):
    """An objective whose constraints have multipliers.

    Arguments:
        constraints: What is constrained; names must differ.
        geco: Moves the multipliers.
        limits: What the judge asks of each constraint, by name.
    """

    name = "geco"
    geco: GECO

    def __init__(self, constraints: Sequence[ImageConstraint], geco: GECO, limits: Mapping[str, Limits]) -> None:
        super().__init__()
        self.constraints = nn.ModuleDict({c.name: c for c in constraints})
        self.geco = geco
        self.judge = Judge(geco, limits)

    def step(self, skip: bool | Tensor | None = None) -> None:
        self.geco.step(skip)
        self.judge.step()

    def finished(self) -> bool:
        return bool(self.judge.finished())

    def terms(self) -> Iterator[ImageConstraint]:
        """The constraints, in their order."""
        for term in self.constraints.values():
            yield cast(ImageConstraint, term)

    @abstractmethod
    def value(self, term: ImageConstraint, means: dict[str, Tensor]) -> Tensor:
        """What is shown of a constraint's value, in kappa's units, from the means of the metrics."""

    def columns(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        columns = super().columns(means)
        metrics, states = self.geco.metrics(), self.judge.codes()
        for term in self.terms():
            columns[f"{term.name}.value"] = value = self.value(term, means)
            columns[f"{term.name}.kappa"] = torch.full_like(value, term.kappa)
            for part in ("multiplier", "violation", "nonfinite"):
                columns[f"{term.name}.{part}"] = metrics[f"{term.name}/{part}"]
            columns[f"{term.name}.state"], columns[f"{term.name}.settled_at"] = states[term.name]
        return columns
