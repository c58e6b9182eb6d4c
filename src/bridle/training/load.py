"""A run from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bridle.errors import CheckpointError
from bridle.models.base import ImageShape, LatentModel
from bridle.objectives import Objective
from bridle.training.build import build_model, build_objective
from bridle.training.config import TrainConfig
from bridle.training.folder import RunFolder
from bridle.training.system import System

__all__ = ["LoadedRun", "load_model", "load_run", "load_weights"]


@dataclass(frozen=True)
class LoadedRun:
    """A run at a checkpoint: its model (in eval mode), objective and settings, and where it stands."""

    model: LatentModel
    objective: Objective
    config: TrainConfig
    step: int
    seconds: float


def load_model(run: str | Path, device: torch.device | str = "cpu", best: bool = False) -> LatentModel:
    """A run's model at its latest checkpoint, or its best, in eval mode; neither its data nor its classifiers need to
    be there.

    Raises:
        CheckpointError: The folder holds no run, or its checkpoint is damaged or of another model.
    """
    folder = RunFolder(run)
    checkpoint = folder.load_checkpoint(device, best)
    model, _ = _model(folder.read_config(), checkpoint)
    weights = {k.removeprefix("model."): v for k, v in checkpoint["system"].items() if k.startswith("model.")}
    load_weights(model, weights, folder)
    return model.to(device).eval()


def load_run(run: str | Path, device: torch.device | str = "cpu", best: bool = False) -> LoadedRun:
    """A run at its latest checkpoint, or its best, with its constraints and their multipliers.

    Arguments:
        run: The run's folder.
        device: Where to put it.
        best: The best checkpoint instead of the latest, see :class:`bridle.training.best.Best`.

    Raises:
        CheckpointError: The folder holds no run, or its checkpoint is damaged or of another model.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    checkpoint = folder.load_checkpoint(device, best)
    model, image_shape = _model(config, checkpoint)
    system = System(model, build_objective(config, image_shape, checkpoint["bin"], begun=folder.path))
    load_weights(system, checkpoint["system"], folder)
    system.to(device).eval()
    return LoadedRun(model, system.objective, config, checkpoint["step"], checkpoint["seconds"])


def _model(config: TrainConfig, checkpoint: dict[str, Any]) -> tuple[LatentModel, ImageShape]:
    """The model of a checkpoint with fresh weights, and the shape of its images."""
    context_shape = checkpoint["context_shape"]
    image_shape: ImageShape = tuple(checkpoint["image_shape"])
    return build_model(config, image_shape, None if context_shape is None else tuple(context_shape)), image_shape


def load_weights(module: torch.nn.Module, weights: dict[str, Any], folder: RunFolder) -> None:
    """Loads weights, and says so in one line where they do not fit.

    Raises:
        CheckpointError: The weights are of another model or objective.
    """
    try:
        module.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"the checkpoint in {folder.path} is of another model or objective than its config.yaml: {reason[:200]}"
        ) from None
