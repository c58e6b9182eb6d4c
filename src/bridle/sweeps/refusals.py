"""What is refused before the first run of a sweep starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from bridle.data import DataSet
from bridle.errors import ConfigError
from bridle.sweeps.runs import RunSpec, naming
from bridle.training import TrainConfig
from bridle.training.build import build_data, build_model, build_objective, check_constraints
from bridle.training.compiling import refuse_without_compiler
from bridle.training.folder import RunFolder

__all__ = ["refuse_misfits"]


def refuse_misfits(specs: Sequence[RunSpec], out: Path) -> None:
    """Looks at all runs of a sweep: their names, settings and folders, and whether data, model and objective fit.

    Nothing is written. Data, models and objectives are built for runs that have not finished; no classifier is
    trained.

    Raises:
        BridleError: The first misfit, with the name of its run.
    """
    if not specs:
        raise ConfigError("a sweep needs at least one run")
    name, count = Counter(spec.name for spec in specs).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{count} runs of the sweep have the name {name!r}: their folders would be one")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: {out} is a file, not a folder")
    for spec in specs:
        if spec.name in ("", ".", "..") or Path(spec.name).name != spec.name:
            raise ConfigError(f"{spec.name!r} is no name for a folder")
        with naming(spec):
            spec.config.validate()
            if spec.config.compile:
                refuse_without_compiler()
    for spec in specs:
        folder = RunFolder(out / spec.name)
        if folder.holds_another(spec.config):
            raise ConfigError(
                f"{folder.path} holds a run with other settings: choose another --out, or move that folder away"
            )
        if not folder.config_file.exists():
            folder.refuse_if_used()

    data: dict[str, DataSet] = {}
    models: set[str] = set()
    for spec in specs:
        folder = RunFolder(out / spec.name)
        if folder.finished:
            continue
        with naming(spec):
            key = repr(spec.config.data)
            data.setdefault(key, build_data(spec.config))
            split = data[key].split("train")
            with torch.random.fork_rng(devices=[]):
                if (both := key + repr(spec.config.model)) not in models:
                    build_model(spec.config, split.image_shape, split.context_shape)
                    models.add(both)
                _build_objective(spec.config, data[key], folder)


def _build_objective(config: TrainConfig, data: DataSet, folder: RunFolder) -> None:
    split = data.split("train")
    if config.objective == "geco" and not folder.checkpoint_files():
        check_constraints(config, split.image_shape, data)
    else:
        build_objective(config, split.image_shape, split.bin, data, folder.path)
