"""What a reproduced figure or table is: the runs that it needs, and what is made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from PIL import Image

from bridle.errors import BridleError
from bridle.models import LatentModel
from bridle.reports.record import RunRecord
from bridle.reproduce.scales import MODELS, Model, Scale, Source
from bridle.sweeps import RunSpec
from bridle.training import TrainConfig
from bridle.training.folder import RunFolder
from bridle.training.load import load_model

__all__ = [
    "MET",
    "Claim",
    "Drawn",
    "Exhibit",
    "FinishedRuns",
    "MissingRunError",
    "Table",
    "all_met",
    "missing_notes",
    "setting",
]

MET: dict[bool | None, str | None] = {True: "met", False: "not met", None: None}
"""What a table says of :func:`all_met`."""

_PAPER_RATE: dict[Model, str] = {"ConvDRAW": "1e-5", "NVPVAE": "1e-6"}


class MissingRunError(BridleError):
    """A figure that cannot be drawn since a run that it needs did not finish."""


class FinishedRuns:
    """The runs of a reproduction's folder that are finished.

    Arguments:
        folder: Where each run has a folder of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, spec: RunSpec) -> Path:
        """The run's folder."""
        return self.folder / spec.name

    def has(self, spec: RunSpec) -> bool:
        """Whether the run finished."""
        return RunFolder(self.path(spec)).finished

    def model(self, spec: RunSpec, device: torch.device | str = "cpu") -> LatentModel:
        """The run's model at its end, in eval mode."""
        return load_model(self.path(spec), device)

    def __getitem__(self, spec: RunSpec) -> RunRecord:
        """What the run's folder says.

        Raises:
            MissingRunError: The run did not finish.
        """
        if not self.has(spec):
            raise MissingRunError(f"run {spec.name} did not finish")
        return RunRecord.read(self.path(spec))


@dataclass(frozen=True)
class Claim:
    """What the paper says, put to the test. ``text``: one or two sentences with the data and the numbers, the same ones
    wherever the same runs are put to the same test; ``holds``: None where the numbers do not decide it."""

    text: str
    holds: bool | None


@dataclass(frozen=True)
class Table:
    """Numbers in rows; ``None`` is an empty cell. ``columns`` are names with units."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]


@dataclass(frozen=True)
class Drawn:
    """A figure or table as it came out here.

    ``picture``: None for a table alone. ``caption``: what is seen, the paper's own value where it printed one, what
    differs; whole sentences. ``notes``: what is missing, a line each.
    """

    picture: Figure | Image.Image | None
    caption: Sequence[str]
    claims: Sequence[Claim]
    table: Table | None = None
    notes: Sequence[str] = ()


class Exhibit(ABC):
    """A figure or table of the paper."""

    name: ClassVar[str]
    """``figure1`` and so on: on the command line, and the name of its files."""

    title: ClassVar[str]
    """The paper's title of it, in short."""

    @abstractmethod
    def runs(self, scale: Scale) -> list[RunSpec]:
        """The runs it needs; none where the scale lacks its data."""

    def later_runs(self, scale: Scale, finished: FinishedRuns) -> list[RunSpec]:
        """The runs it needs whose settings depend on what those of :meth:`runs` measured."""
        return []

    @abstractmethod
    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        """The picture or table, and the paper's claims judged by its numbers.

        Raises:
            MissingRunError: A run without which there is nothing to show did not finish.
        """


def all_met(record: RunRecord) -> bool | None:
    """Whether a run ended with all of its constraints met; None for a baseline, which has none."""
    return all(c.satisfied for c in record.constraints.values()) if record.constraints else None


def kappa_of(spec: RunSpec) -> float | None:
    """The kappa of a run's constraint re; None for a baseline, or a run with a range."""
    kappa = spec.config.constraints.given().get("re")
    return None if isinstance(kappa, tuple) else kappa


def missing_notes(specs: Sequence[RunSpec], finished: FinishedRuns) -> list[str]:
    """A line for each run that did not finish."""
    return [f"Run {spec.name} did not finish and is left out." for spec in specs if not finished.has(spec)]


def setting(scale: Scale, specs: Sequence[RunSpec], sources: Sequence[Source]) -> str:
    """Scale, data, models, steps and seeds, and how training differs from the paper's.

    Example:
        >>> from bridle.reproduce import SCALES
        >>> small = SCALES["small"]
        >>> setting(small, [small.run(small.celeba, "ConvDRAW", "elbo")], [small.celeba])
        'Scale small; CIFAR-10 for CelebA; ConvDRAW, 4,000 steps of 64 images, learning rate 0.001 (the paper: 1e-5);
        seed 0. The paper prints neither steps nor sizes.'
    """
    data = dict.fromkeys(s.name if s.name == s.paper else f"{s.name} for {s.paper}" for s in sources)
    trained = dict.fromkeys(_training(spec.config) for spec in specs)
    seeds = sorted({spec.config.seed for spec in specs})
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    geco = any(spec.config.objective == "geco" for spec in specs)
    rule = " GECO's multipliers follow this library's rule, pi, not algorithm 1." if geco else ""
    sizes = "The paper prints neither steps nor sizes."
    return f"Scale {scale.name}; {', '.join(data)}; {'; '.join(trained)}; {which}. {sizes}{rule}"


def _training(config: TrainConfig) -> str:
    model: Model = config.model.class_path.rpartition(".")[2]  # type: ignore[assignment]
    rate = f"learning rate {config.lr:g} (the paper: {_PAPER_RATE[model]})"
    return f"{MODELS[model]}, {config.steps:,} steps of {config.batch} images, {rate}"
