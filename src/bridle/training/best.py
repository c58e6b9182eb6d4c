"""The best weights that a run has had: every constraint met, and the least rate on images it is not trained on."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import torch

from bridle.data import DataSet
from bridle.evaluation import measure_split
from bridle.models.dialled import Dialled
from bridle.training.config import TrainConfig
from bridle.training.folder import RunFolder

if TYPE_CHECKING:
    from bridle.training.state import TrainingState

__all__ = ["Best"]

_IMAGES = 2000


class Best:
    """Keeps ``checkpoints/best.pt``: of a run's checkpoints that meet every constraint, or miss it by no more than 1%,
    the one with the least KL on the validation split.

    Both are measured on 2,000 images, or on all where there are fewer; the constraints on the split that moves the
    multipliers. A run without constraints has none. Of a model on a dial it is the ends and the middle of each range
    that have to meet them, and the mean of the KLs there that is least.

    Arguments:
        config: The run.
        data: Its data set.
        folder: Its folder, where it has begun: what is kept there stays the best until it is surpassed.
        device: Where the model is.
    """

    def __init__(self, config: TrainConfig, data: DataSet, folder: RunFolder, device: torch.device) -> None:
        self._folder = folder
        self._least = math.inf
        if config.objective == "geco":
            self._validation = data.split("validation").to(device)
            self._constrained = data.split(config.constrain_on).to(device)
        if folder.best_file.is_file():
            self._least = folder.load_checkpoint(best=True)["kl"]

    def consider(self, state: TrainingState, step: int, seconds: float) -> None:
        """Measures the weights as they are, and keeps them if they are better than those that are kept.

        Raises:
            CheckpointError: The disk refuses.
        """
        system = state.system
        places = [system.at()]
        if isinstance(system.model, Dialled):
            dial = system.model.dial
            places = [system.at(kappas) for name in dial.ranges for kappas in dial.along(name, 3)]
        for model, stands in places:
            if not stands:
                return
            values = measure_split(model, self._constrained, [stand.term for stand in stands], _IMAGES).values
            if not all(stand.term.satisfied(values[stand.term.name]) for stand in stands):
                return
        kl = statistics.mean(measure_split(model, self._validation, most=_IMAGES).kl for model, _ in places)
        if kl < self._least:
            self._least = kl
            kept: dict[str, Any] = state.checkpoint(step, seconds)
            del kept["optimizer"]  # nobody goes on from here
            self._folder.save_best(kept | {"kl": kl})
