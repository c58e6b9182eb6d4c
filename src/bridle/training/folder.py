"""A run on disk. Every file is written whole or not at all; metrics.csv alone grows by rows.

::

    RUN/config.yaml                  all settings; training from it repeats the run
        metrics.csv                  a row every log_every steps
        checkpoints/step-00000000.pt everything needed to go on, bit for bit
        checkpoints/best.pt          the weights of the best step that met every constraint
        classifiers/                 those that constraints look through
        summary.json                 the measurements at the last weights
        samples.png, reconstructions.png, report.html
        curve.html                       of a run with a dial
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from bridle.errors import CheckpointError, ConfigError
from bridle.files import write_whole
from bridle.training.config import TrainConfig

__all__ = ["RunFolder"]

# What is made of the weights at the end of a run, and says nothing of any others.
_OF_THE_END = (
    "summary.json",
    "evaluation*.json",
    "samples.png",
    "reconstructions.png",
    "report.html",
    "curve.html",
)


class RunFolder:
    """The files of one run.

    Arguments:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.best_file = self.checkpoints / "best.pt"
        self.classifiers = self.path / "classifiers"
        self.summary_file = self.path / "summary.json"

    @property
    def finished(self) -> bool:
        """Whether the run has been measured at its last weights."""
        return self.summary_file.is_file()

    def refuse_if_used(self) -> None:
        """Raises ConfigError if the folder holds a run already, or cannot be a folder."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"out: {self.path} is a file, not a folder")
        if self.config_file.exists() or self.checkpoints.exists():
            raise ConfigError(
                f"{self.path} holds a run: go on with it by --resume {self.path}, "
                "choose another --out, or replace it by --overwrite"
            )

    def create(self, config: TrainConfig) -> None:
        """Starts an empty run, in place of the one that the folder may hold."""
        for folder in (self.checkpoints, self.classifiers, self.path / "tensorboard"):
            shutil.rmtree(folder, ignore_errors=True)
        self.metrics_file.unlink(missing_ok=True)
        self._drop_end()
        self.write_config(config)

    def go_on(self, config: TrainConfig, step: int) -> None:
        """Takes the run up again from ``step``: later rows of metrics.csv go, and a row that a crash cut off.

        A run that had finished and is given more steps is no longer finished.
        """
        self.write_config(config)
        if step < config.steps:
            self._drop_end()
        if not self.metrics_file.exists():
            return
        lines = self.metrics_file.read_text().splitlines(keepends=True)
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) <= step]
        with write_whole(self.metrics_file) as file:
            file.write("".join([*lines[:1], *kept]).encode())

    def _drop_end(self) -> None:
        for pattern in _OF_THE_END:
            for file in self.path.glob(pattern):
                file.unlink()

    def write_config(self, config: TrainConfig) -> None:
        """Writes config.yaml."""
        with write_whole(self.config_file) as file:
            file.write(yaml.safe_dump(config.as_dict(), sort_keys=False).encode())

    def read_config(self) -> TrainConfig:
        """The configuration of the run.

        Raises:
            CheckpointError: The folder holds no run, or its config.yaml is damaged.
        """
        if not self.config_file.is_file():
            raise CheckpointError(f"{self.path} holds no run: there is no {self.config_file.name} in it")
        try:
            values = yaml.safe_load(self.config_file.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            values = None
        if not isinstance(values, dict):
            raise CheckpointError(f"{self.config_file} is damaged: it is no YAML mapping")
        return TrainConfig.from_dict(values)

    def holds_another(self, config: TrainConfig) -> bool:
        """Whether the folder holds a run of other settings than these.

        Raises:
            CheckpointError: config.yaml is damaged.
        """
        # By way of YAML, which turns a tuple into a list, as the folder's own settings went.
        wanted = TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.as_dict())))
        return self.config_file.exists() and self.read_config() != wanted

    def read_summary(self) -> dict[str, Any]:
        """The contents of summary.json.

        Raises:
            CheckpointError: The run has not finished, or the file is damaged.
        """
        if not self.finished:
            raise CheckpointError(
                f"{self.path} has no summary.json: bridle train --resume {self.path} finishes the run"
            )
        try:
            summary: dict[str, Any] = json.loads(self.summary_file.read_text())
        except ValueError as error:
            raise CheckpointError(
                f"{self.summary_file} is damaged ({error}): write it anew by bridle train --resume {self.path}"
            ) from None
        return summary

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run, such as summary.json."""
        with write_whole(self.path / name) as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())

    def save_checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Saves everything needed to go on from ``step``.

        Raises:
            CheckpointError: The disk refuses; the earlier checkpoints are as they were.
        """
        try:
            _save(state, self.checkpoints / f"step-{step:08d}.pt")
        except OSError as error:
            saved = self.checkpoint_files()
            survives = f"{saved[-1].name} survives" if saved else "there is no earlier one"
            raise CheckpointError(
                f"cannot save the checkpoint of step {step} ({error.strerror}): {survives}; "
                f"make room, then bridle train --resume {self.path}"
            ) from None

    def save_best(self, state: Mapping[str, Any]) -> None:
        """Saves what :meth:`load_checkpoint` is to give for ``best``, in place of what was saved before.

        Raises:
            CheckpointError: The disk refuses; what was saved before is as it was.
        """
        try:
            _save(state, self.best_file)
        except OSError as error:
            raise CheckpointError(
                f"cannot save {self.best_file} ({error.strerror}): make room, then bridle train --resume {self.path}"
            ) from None

    def checkpoint_files(self) -> list[Path]:
        """Checkpoints from the earliest to the latest."""
        return sorted(self.checkpoints.glob("step-*.pt"))

    def load_checkpoint(self, device: torch.device | str = "cpu", best: bool = False) -> dict[str, Any]:
        """The latest checkpoint, or the best one.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        files = self.checkpoint_files()
        if best:
            if not self.best_file.is_file():
                raise CheckpointError(
                    f"{self.path} holds no best checkpoint: none of its checkpoints met every constraint within 1%"
                )
            files = [*files, self.best_file]
        if not files:
            raise CheckpointError(f"{self.path} holds no checkpoint")
        try:
            state = torch.load(files[-1], map_location=device, weights_only=True)
        except Exception as error:  # torch.load raises many kinds for damaged files
            remedy = f"delete it to use {files[-2].name}" if len(files) > 1 else "train again"
            raise CheckpointError(
                f"{files[-1]} is truncated or no checkpoint ({type(error).__name__}): {remedy}"
            ) from None
        if not isinstance(state, dict) or "step" not in state:
            raise CheckpointError(f"{files[-1]} is no checkpoint of bridle")
        return state

    def append_metrics(self, row: Mapping[str, float]) -> None:
        """Adds a row to metrics.csv; the first one writes the header."""
        with self.metrics_file.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow({name: f"{value:.7g}" for name, value in row.items()})


def _save(state: Mapping[str, Any], path: Path) -> None:
    serialized = io.BytesIO()  # so that a full disk is told by the system's own error
    torch.save(dict(state), serialized)
    with write_whole(path) as file:
        file.write(serialized.getbuffer())
