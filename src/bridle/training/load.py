"""A run from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bridle.dial import Dial
from bridle.errors import CheckpointError, ConfigError
from bridle.models.base import ImageShape, LatentModel
from bridle.models.dialled import Dialled
from bridle.training.build import build_model, build_objective
from bridle.training.config import TrainConfig
from bridle.training.folder import RunFolder
from bridle.training.system import System

__all__ = ["LoadedRun", "chosen_kappas", "load_dialled", "load_model", "load_run", "load_weights"]


@dataclass(frozen=True)
class LoadedRun:
    """A run at a checkpoint: its model and objective (in eval mode), its settings, and where it stands."""

    system: System
    config: TrainConfig
    step: int
    seconds: float


def load_model(
    run: str | Path,
    device: torch.device | str = "cpu",
    best: bool = False,
    kappa: float | Mapping[str, float] | None = None,
) -> LatentModel:
    """A run's model at its latest checkpoint, or its best, in eval mode; neither its data nor its classifiers need to
    be there.

    Arguments:
        run: The run's folder.
        device: Where to put it.
        best: The best checkpoint instead of the latest, see :class:`bridle.training.best.Best`.
        kappa: Where a run has a dial: what to turn it to, by constraint if it has several ranges.

    Raises:
        CheckpointError: The folder holds no run, or its checkpoint is damaged or of another model.
        ConfigError: A kappa for a run without a dial, or none for one with; a kappa outside of its range.
    """
    model = _load(run, device, best)
    kappas = chosen_kappas(run, model, kappa)
    if isinstance(model, Dialled):
        if kappas is None:
            raise ConfigError(f"{run} was trained for {_told(model.dial)}: choose one by --kappa, or kappa= in Python")
        return model.at(**kappas)
    return model


def chosen_kappas(
    run: str | Path, model: LatentModel | Dialled[LatentModel], kappa: float | Mapping[str, float] | None
) -> dict[str, float] | None:
    """A choice of kappa by the names of a run's ranges, None where none was made.

    Raises:
        ConfigError: A kappa for a run without a dial; one that is missing, unknown, or outside of its range.
    """
    if kappa is None:
        return None
    if not isinstance(model, Dialled):
        raise ConfigError(f"{run} was trained for one kappa, not for a range of which one could be chosen")
    names = list(model.dial.ranges)
    if not isinstance(kappa, Mapping) and len(names) > 1:
        raise ConfigError(f"{run} was trained for {_told(model.dial)}: give a kappa by name for each")
    kappas = dict(kappa) if isinstance(kappa, Mapping) else {names[0]: float(kappa)}
    try:
        model.dial.position(kappas)
    except ValueError as error:
        raise ConfigError(f"{run}: {error}") from None
    return kappas


def _told(dial: Dial) -> str:
    """A dial's ranges in words."""
    return " and ".join(f"{name} from {least:g} to {greatest:g}" for name, (least, greatest) in dial.ranges.items())


def load_dialled(run: str | Path, device: torch.device | str = "cpu", best: bool = False) -> Dialled[LatentModel]:
    """A run's model on its dial; else as :func:`load_model`.

    Raises:
        CheckpointError: As :func:`load_model`.
        ConfigError: The run has no dial.
    """
    model = _load(run, device, best)
    if not isinstance(model, Dialled):
        raise ConfigError(f"{run} was trained for one kappa, not for a range such as --constraints.re 0.05:0.25")
    return model


def _load(run: str | Path, device: torch.device | str, best: bool) -> LatentModel | Dialled[LatentModel]:
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
    return LoadedRun(system, config, checkpoint["step"], checkpoint["seconds"])


def _model(config: TrainConfig, checkpoint: dict[str, Any]) -> tuple[LatentModel | Dialled[LatentModel], ImageShape]:
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
