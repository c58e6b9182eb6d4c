"""A model and its objective as one module."""

from __future__ import annotations

import torch
from torch import nn

from bridle.constraints import Reconstruction
from bridle.data import Batch
from bridle.models.base import LatentModel
from bridle.objectives import Objective, ObjectiveOutput

__all__ = ["System"]


class System(nn.Module):
    """A model and its objective as one module, so that processes average the gradients of both."""

    def __init__(self, model: LatentModel, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch, held_out: Batch | None = None) -> ObjectiveOutput:
        measured_on = None
        if held_out is not None:
            self.model.eval()
            with torch.no_grad():
                measured_on = self._reconstruct(held_out)
            self.model.train()
        return self.objective(self._reconstruct(batch), measured_on)

    def _reconstruct(self, batch: Batch) -> Reconstruction:
        out = self.model(batch.x, batch.context)
        return Reconstruction(batch.x, out.x_hat, out.kl, batch.label)
