"""A model and its objective as one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from bridle.constraints import Reconstruction
from bridle.data import Batch, Split
from bridle.models.base import LatentModel
from bridle.models.dialled import Dialled
from bridle.objectives import DialledObjective, Objective, ObjectiveOutput, Stand
from bridle.training.reading import read_dial

__all__ = ["System"]


class System(nn.Module):
    """A model and its objective as one module, so that processes average the gradients of both.

    A model on a dial is shown the images of a batch all over the dial, at the same positions in every batch of a stage
    of the training, since the images that come to have them are drawn anew. So are images that are held out.
    """

    def __init__(self, model: LatentModel | Dialled[LatentModel], objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def at(self, kappas: Mapping[str, float] | None = None) -> tuple[LatentModel, list[Stand]]:
        """The model, and where its constraints stand: on a dial those of one kappa for each range.

        Arguments:
            kappas: By constraint; the middle of the dial if not given. Nothing for a model without a dial.

        Raises:
            ValueError: A kappa that is missing, unknown or outside of its range.
        """
        if isinstance(self.model, Dialled):
            assert isinstance(self.objective, DialledObjective)
            kappas = kappas or self.model.dial.middle
            position = self.model.ruler.place(kappas)
            return self.model.at_position(position), self.objective.stands_at(kappas, position)
        return self.model, self.objective.stands()

    def advance(self, progress: float) -> None:
        """Tells a dial how much of the training is done, from 0 to 1, before a step (see :meth:`bridle.Dial.draw`)."""
        if isinstance(self.model, Dialled):
            self.model.dial.advance(progress)

    def read(self, split: Split) -> None:
        """Measures what a model on a dial gives all over it, when training is over (see :class:`bridle.ruler.Ruler`).

        Arguments:
            split: The one that moved the multipliers, on the model's device.
        """
        if isinstance(self.model, Dialled):
            read_dial(self.model, [stand.term for stand in self.objective.stands()], split)

    def forward(self, batch: Batch, held_out: Batch | None = None) -> ObjectiveOutput:
        measured_on = None
        if held_out is not None:
            self.model.eval()
            with torch.no_grad():
                measured_on = self._reconstruct(held_out)
            self.model.train()
        return self.objective(self._reconstruct(batch), measured_on)

    def _reconstruct(self, batch: Batch) -> Reconstruction:
        if not isinstance(self.model, Dialled):
            out = self.model(batch.x, batch.context)
            return Reconstruction(batch.x, out.x_hat, out.kl, batch.label)
        position = self.model.dial.even(len(batch.x), device=batch.x.device)
        out = self.model(position, batch.x, batch.context)
        return Reconstruction(batch.x, out.x_hat, out.kl, batch.label, position)
