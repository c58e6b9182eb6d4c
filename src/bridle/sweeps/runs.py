"""A run of a sweep, and how far its folder has come."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridle.errors import CheckpointError
from bridle.training import TrainConfig
from bridle.training.folder import RunFolder

__all__ = ["RunSpec", "holds_another_run", "is_finished", "read_summary"]


@dataclass(frozen=True)
class RunSpec:
    """One run of a sweep.

    ``name`` is that of its folder inside the sweep's folder and says what sets the run apart, such as
    ``re=0.08,objective=geco,seed=1``; ``config`` is all of its settings.
    """

    name: str
    config: TrainConfig


def is_finished(run: Path) -> bool:
    """Whether a run's folder holds the measurements of its last weights."""
    return (run / "summary.json").is_file()


def holds_another_run(spec: RunSpec, folder: RunFolder) -> bool:
    """Whether a folder's config.yaml says something else than ``spec``.

    Raises:
        CheckpointError: config.yaml is damaged.
    """
    # By way of YAML, which turns a tuple into a list, as the folder's own settings went.
    wanted = TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(spec.config.as_dict())))
    return folder.config_file.exists() and folder.read_config() != wanted


def read_summary(run: Path) -> dict[str, Any]:
    """The contents of a finished run's summary.json.

    Raises:
        CheckpointError: The file is damaged.
    """
    file = run / "summary.json"
    try:
        summary: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged ({error}): write it anew by bridle train --resume {run}") from None
    return summary
