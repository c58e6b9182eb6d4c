"""The one interface of all objectives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from bridle.constraints.base import ImageConstraint, Reconstruction
from bridle.judge import Verdict

__all__ = ["Objective", "ObjectiveOutput", "Stand"]


class ObjectiveOutput(NamedTuple):
    """``loss`` to differentiate; ``metrics``: detached tensors to average over steps and show, 0-dimensional but
    for the values of vector constraints."""

    loss: Tensor
    metrics: dict[str, Tensor]


class Stand(NamedTuple):
    """Where training has taken a constraint: its ``multiplier`` (the mean over a vector's elements), nats, of the
    constraint in its ``scale``; ``verdict``: what is said of it, see :class:`bridle.Judge`."""

    term: ImageConstraint
    multiplier: float
    scale: str
    verdict: Verdict


class Objective(nn.Module, ABC):
    """What is minimised. Calling it is pure; :meth:`step` follows each step of the optimizer."""

    name: ClassVar[str]
    """What it is called on the command line and in every file."""

    def forward(self, r: Reconstruction, held_out: Reconstruction | None = None) -> ObjectiveOutput:
        """The loss of a batch.

        Arguments:
            r: The batch and what the model gave for it.
            held_out: The same of other images, on which constraints are measured instead; objectives without
                constraints leave it alone.
        """
        kl = r.kl.mean()
        mse = (r.x - r.x_hat).square().mean()
        loss, metrics = self.loss(r, kl, mse, held_out)
        return ObjectiveOutput(loss, {"kl": kl.detach(), "mse": mse.detach(), "loss": loss.detach(), **metrics})

    @abstractmethod
    def loss(
        self, r: Reconstruction, kl: Tensor, mse: Tensor, held_out: Reconstruction | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and further metrics, from the batch's mean KL (nats) and mean squared error."""

    def step(self, skip: bool | Tensor | None = None) -> None:
        """Move what moves once per step of the optimizer (nothing here); ``skip``: the optimizer skipped it."""

    def stands(self) -> list[Stand]:
        """Where each constraint stands; none, of an objective without constraints. Waits for the device."""
        return []

    def finished(self) -> bool:
        """Whether nothing is left to do, see :meth:`bridle.Judge.finished`; never, of an objective without constraints.
        Waits for the device."""
        return False

    def warnings(self, bin: float) -> Iterator[str]:
        """One line on each setting that is legal but hardly meant, for data quantized to ``bin``."""
        yield from ()

    def columns(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """The columns of metrics.csv, from the means of the metrics since the last row: ``kl`` (nats per image),
        ``loss``, ``rmse`` (pixel units), and what describes the objective's own state now."""
        return {"kl": means["kl"], "loss": means["loss"], "rmse": means["mse"].sqrt()}
