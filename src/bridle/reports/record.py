"""A finished run, read from its folder: the files are the only thing that reports and training share."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bridle.errors import CheckpointError
from bridle.judge import Verdict
from bridle.training.folder import RunFolder

__all__ = ["OBJECTIVES", "ConstraintRecord", "CurvePoint", "RunRecord", "run_names"]

OBJECTIVES = {"geco": "GECO", "elbo": "ELBO", "annealed": "hand-annealed", "beta": "beta-VAE"}
"""What each objective is called on a page."""


@dataclass(frozen=True)
class ConstraintRecord:
    """Where a constraint ended: ``value`` on the training images, in the units of ``kappa``; ``multiplier`` of the
    constraint in its ``scale``, in nats; ``verdict``: what :class:`bridle.Judge` said of the training."""

    kappa: float
    value: float
    satisfied: bool
    multiplier: float
    scale: str
    verdict: Verdict


@dataclass(frozen=True)
class CurvePoint:
    """What a run with a dial gives at one kappa: by constraint ``kappas``, ``values`` (on training images, in the units
    of kappa) and ``multipliers`` (nats); ``kl`` (nats per image) and ``rmse`` (pixel units), with standard errors."""

    kappas: dict[str, float]
    values: dict[str, float]
    multipliers: dict[str, float]
    kl: float
    kl_standard_error: float
    rmse: float
    rmse_standard_error: float


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run's folder says. KL in nats per image; errors and ``sigma_opt`` in pixel units (the range is [0, 1]);
    ``nll`` in nats and ``bits_per_dim`` in bits per pixel and channel. Unmarked numbers are of the held-out split.

    ``summary`` is summary.json as it stands; ``metrics`` holds the columns of ``metrics.csv`` as float64 arrays of one
    length, empty cells as NaN. ``curves``: of a run with a dial, by constraint the points over its range; the numbers
    above are then those of the middle.
    """

    path: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    metrics: dict[str, np.ndarray]
    objective: str
    constraints: dict[str, ConstraintRecord]
    curves: dict[str, tuple[CurvePoint, ...]]
    image_shape: tuple[int, int, int]
    bin: float
    kl: float
    rmse: float
    kl_train: float
    rmse_train: float
    sigma_opt: float
    nll: float
    nll_bits: float
    bits_per_dim: float
    steps: int
    seconds: float
    parameters: int

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read ``config.yaml``, ``metrics.csv`` and ``summary.json`` of a run.

        Raises:
            CheckpointError: A folder that is no finished run, or a file of it that is damaged; one line.
        """
        if not path.is_dir():
            raise CheckpointError(f"{path} is no run folder: name one that `bridle train --out` has written")
        config, config_text = _read_config(path / "config.yaml")
        metrics = _read_metrics(path / "metrics.csv")
        folder = RunFolder(path)
        summary, file = folder.read_summary(), folder.summary_file
        fields = _Fields(summary, file)
        shape = fields.get("image_shape")
        if not (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)):
            raise CheckpointError(f"{file}: image_shape must be channels, height and width, got {shape!r}")
        bin_ = fields.number("bin")
        if not bin_ > 0:
            raise CheckpointError(f"{file}: bin must be positive, got {bin_}")
        constraints = fields.get("constraints") or {}
        if not isinstance(constraints, dict):
            raise CheckpointError(f"{file}: constraints must map names to numbers, got {constraints!r}")
        return cls(
            path=path,
            summary=summary,
            config=config,
            config_text=config_text,
            metrics=metrics,
            objective=str(fields.get("objective")),
            constraints={str(k): _constraint(_Fields(v, file, f"constraints.{k}.")) for k, v in constraints.items()},
            curves=_curves(summary, file),
            image_shape=(shape[0], shape[1], shape[2]),
            bin=bin_,
            kl=fields.number("kl"),
            rmse=fields.number("rmse"),
            kl_train=fields.number("kl_train"),
            rmse_train=fields.number("rmse_train"),
            sigma_opt=fields.number("sigma_opt"),
            nll=fields.number("nll"),
            nll_bits=fields.number("nll_bits"),
            bits_per_dim=fields.number("bits_per_dim"),
            steps=fields.integer("steps"),
            seconds=fields.number("seconds"),
            parameters=fields.integer("parameters"),
        )

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def objective_name(self) -> str:
        """What the objective is called on a page, such as ``beta-VAE``."""
        return OBJECTIVES.get(self.objective, self.objective)

    @property
    def data(self) -> str:
        """The data set's class, without its module."""
        return _class_name(self.config.get("data"))

    @property
    def model(self) -> str:
        """The model's class, without its module."""
        return _class_name(self.config.get("model"))

    def last(self, column: str) -> float:
        """The last finite number of a column of ``metrics``; NaN where there is none."""
        values = self.metrics.get(column, np.empty(0))
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else math.nan


def run_names(records: Sequence[RunRecord]) -> list[str]:
    """The runs' folder names, with the parent's in front where two would be the same."""
    count = Counter(r.name for r in records)
    return [r.name if count[r.name] == 1 else f"{r.path.resolve().parent.name}/{r.name}" for r in records]


class _Fields:
    """Typed access to a JSON object, with the file and the key in every complaint."""

    def __init__(self, values: Any, file: Path, prefix: str = "") -> None:
        self.file, self.prefix = file, prefix
        if not isinstance(values, dict):
            raise CheckpointError(f"{file}: expected names and numbers{f' under {prefix[:-1]}' if prefix else ''}")
        self.values = values

    def get(self, key: str) -> Any:
        if key not in self.values:
            raise CheckpointError(f"{self.file} lacks {self.prefix}{key}: write it anew by `bridle train --resume`")
        return self.values[key]

    def number(self, key: str) -> float:
        value = self.get(key)
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{self.file}: {self.prefix}{key} must be a number, got {value!r}")
        return float(value)

    def integer(self, key: str) -> int:
        value = self.number(key)
        if not value.is_integer():
            raise CheckpointError(f"{self.file}: {self.prefix}{key} must be a whole number, got {value}")
        return int(value)


def _constraint(fields: _Fields) -> ConstraintRecord:
    return ConstraintRecord(
        kappa=fields.number("kappa"),
        value=fields.number("value"),
        satisfied=bool(fields.get("satisfied")),
        multiplier=fields.number("multiplier"),
        scale=str(fields.get("scale")),
        verdict=Verdict(
            str(fields.get("state")), None if fields.get("settled_at") is None else fields.integer("settled_at")
        ),
    )


def _curves(summary: dict[str, Any], file: Path) -> dict[str, tuple[CurvePoint, ...]]:
    """The curves of a run with a dial, none of another."""
    try:
        told = summary.get("dial", {"curve": {}})["curve"]
        return {str(name): tuple(CurvePoint(**point) for point in points) for name, points in told.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}: dial is damaged or of another version ({error!r}): write it anew by `bridle train --resume`"
        ) from None


def _read_config(file: Path) -> tuple[dict[str, Any], str]:
    text = _text(file)
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CheckpointError(f"{file} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} is damaged: expected settings by name")
    return config, text


def _read_metrics(file: Path) -> dict[str, np.ndarray]:
    rows = csv.reader(_text(file).splitlines())
    header = next(rows, [])
    missing = [c for c in ("step", "kl", "rmse") if c not in header]
    if missing:
        raise CheckpointError(f"{file} is damaged: its first line lacks the column {missing[0]}")
    cells = []
    for row in rows:
        try:
            numbers = [float(cell) if cell else math.nan for cell in row]
        except ValueError as error:
            raise CheckpointError(f"{file}, line {rows.line_num}: {error}") from None
        if len(numbers) != len(header):
            raise CheckpointError(f"{file}, line {rows.line_num}: {len(row)} cells under {len(header)} columns")
        cells.append(numbers)
    table = np.array(cells, dtype=np.float64).reshape(len(cells), len(header))
    return {name: table[:, i] for i, name in enumerate(header)}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} has no {file.name}: is it the folder of a run?") from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{file} is damaged: it is no text") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from None


def _class_name(setting: Any) -> str:
    path = setting.get("class_path") if isinstance(setting, dict) else setting
    return str(path).rsplit(".", 1)[-1] if path else "unknown"
