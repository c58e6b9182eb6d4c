"""Sweeps of the smallest runs, and an engine without processes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from bridle.sweeps import Job, RunSpec, run_sweep
from bridle.sweeps.work import work
from bridle.training import ClassSpec, Constraints, TrainConfig

SMALL = ClassSpec("bridle.models.ConvVAE", {"latents": 4, "width": 4, "hidden": 16})


class HereEngine:
    """Does all jobs in this process, and keeps the names of their runs."""

    def __init__(self) -> None:
        self.done: list[list[str]] = []

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, str]], None, None]:
        for job in jobs:
            self.done.append([spec.name for spec in job.runs])
            yield job, work(job, threads=1)


def tiny(**settings: object) -> TrainConfig:
    values: dict[str, object] = {"model": SMALL, "steps": 12, "batch": 32, "log_every": 3, "checkpoint_every": 4}
    if settings.get("objective", "geco") == "geco":
        values["constraints"] = Constraints(re=0.2)
    return TrainConfig(**{**values, **settings})  # type: ignore[arg-type]


def three_runs() -> list[RunSpec]:
    return [
        RunSpec("objective=elbo", tiny(objective="elbo")),
        RunSpec("re=0.2", tiny()),
        RunSpec("re=0.3,seed=1", tiny(constraints=Constraints(re=0.3), seed=1)),
    ]


@pytest.fixture
def here() -> HereEngine:
    return HereEngine()


@pytest.fixture
def specs() -> list[RunSpec]:
    return three_runs()


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three runs, one after another in this process."""
    out = tmp_path_factory.mktemp("straight") / "sweep"
    result = run_sweep(three_runs(), out, engine=HereEngine())
    assert list(result.runs) == [spec.name for spec in three_runs()] and not result.failures
    return out
