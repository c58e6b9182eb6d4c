"""A run of a sweep."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from bridle.training import TrainConfig
from bridle.training.folder import RunFolder

__all__ = ["RunSpec", "holds_another_run"]


@dataclass(frozen=True)
class RunSpec:
    """One run of a sweep.

    ``name`` is that of its folder inside the sweep's folder and says what sets the run apart, such as
    ``re=0.08,objective=geco,seed=1``; ``config`` is all of its settings.
    """

    name: str
    config: TrainConfig


def holds_another_run(spec: RunSpec, folder: RunFolder) -> bool:
    """Whether a folder's config.yaml says something else than ``spec``.

    Raises:
        CheckpointError: config.yaml is damaged.
    """
    # By way of YAML, which turns a tuple into a list, as the folder's own settings went.
    wanted = TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(spec.config.as_dict())))
    return folder.config_file.exists() and folder.read_config() != wanted
