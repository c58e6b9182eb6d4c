"""A model and its objective as one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bridle.constraints import Reconstruction
from bridle.data import Batch
from bridle.models.base import LatentModel
from bridle.models.dialled import Dialled
from bridle.objectives import DialledObjective, Objective, ObjectiveOutput, Stand

__all__ = ["System"]

_SHARING = 4


class System(nn.Module):
    """A model and its objective as one module, so that processes average the gradients of both.

    A model on a dial is shown the images of a batch all over the dial, at positions drawn by torch's generator: four
    images that follow one another share one, which makes the condition cheaper, unless there would be fewer positions
    than points of the dial. Images that are held out have the positions of the batch.
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
            return self.model.at(**kappas), self.objective.stands_at(kappas)
        return self.model, self.objective.stands()

    def forward(self, batch: Batch, held_out: Batch | None = None) -> ObjectiveOutput:
        dial = self.model.dial if isinstance(self.model, Dialled) else None
        position = None
        if dial is not None:
            n = len(batch.x)
            shared = n % _SHARING == 0 and n // _SHARING >= dial.size
            position = dial.draw(n // _SHARING if shared else n, device=batch.x.device)
        measured_on = None
        if held_out is not None:
            self.model.eval()
            with torch.no_grad():
                measured_on = self._reconstruct(held_out, position)
            self.model.train()
        return self.objective(self._reconstruct(batch, position), measured_on)

    def _reconstruct(self, batch: Batch, position: Tensor | None) -> Reconstruction:
        where = () if position is None else (position,)
        out = self.model(*where, batch.x, batch.context)
        if position is not None:
            position = position.repeat_interleave(len(batch.x) // len(position), dim=0)
        return Reconstruction(batch.x, out.x_hat, out.kl, batch.label, position)
