"""Measurements of finished runs that take longer than drawing: made once, and kept beside the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import torch

from bridle.data import Split
from bridle.evaluation import MarginalKL, PriorHoles, marginal_kl, prior_holes
from bridle.files import write_whole
from bridle.models import LatentModel
from bridle.reproduce.exhibit import FinishedRuns
from bridle.reproduce.scales import Source
from bridle.reproduce.sources import source_data
from bridle.sweeps import RunSpec

__all__ = ["holes_of_run", "marginal_of_run"]

T = TypeVar("T", MarginalKL, PriorHoles)


def marginal_of_run(finished: FinishedRuns, spec: RunSpec, source: Source, samples: int) -> MarginalKL:
    """The marginal KL over the training split by the full mixture, from so many samples: read from
    ``RUN/marginal_kl-SAMPLES.json``, or measured (on the accelerator, if there is one) and written there."""
    return _kept(finished, spec, source, MarginalKL, f"marginal_kl-{samples}", lambda m, s: marginal_kl(m, s, samples))


def holes_of_run(finished: FinishedRuns, spec: RunSpec, source: Source, pictures: int) -> PriorHoles:
    """The holes in the prior by so many pictures of each kind: read from ``RUN/prior_holes-PICTURES.json``, or measured
    on the training split and written there."""
    return _kept(
        finished, spec, source, PriorHoles, f"prior_holes-{pictures}", lambda m, s: prior_holes(m, s, pictures)
    )


def _kept(
    finished: FinishedRuns,
    spec: RunSpec,
    source: Source,
    kind: type[T],
    name: str,
    measure: Callable[[LatentModel, Split], T],
) -> T:
    file = finished.path(spec) / f"{name}.json"
    if file.is_file():
        return kind(**json.loads(file.read_text()))
    device = (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or "cpu"
    model, split = finished.model(spec, device), source_data(source).split("train").to(torch.device(device))
    measured = measure(model, split)
    with write_whole(file) as content:
        content.write((json.dumps(asdict(measured), indent=2) + "\n").encode())
    return measured
