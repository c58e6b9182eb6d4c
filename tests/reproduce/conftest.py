"""Everything reproduced once in the quick form, and made-up records of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridle.judge import Verdict
from bridle.reports.record import ConstraintRecord, RunRecord
from bridle.reproduce import Reproduced, reproduce
from bridle.reproduce.exhibit import FinishedRuns
from bridle.sweeps import RunSpec

MakeRecord = Callable[..., RunRecord]


class MadeUpRuns(FinishedRuns):
    """All runs finished, with the same record (a baseline's without constraints) and the same model."""

    def __init__(self, record: RunRecord, model: Any = None) -> None:
        super().__init__(Path("runs"))
        self.record, self.made_up_model = record, model

    def has(self, spec: RunSpec) -> bool:
        return True

    def model(self, spec: RunSpec, device: Any = "cpu") -> Any:
        return self.made_up_model

    def __getitem__(self, spec: RunSpec) -> RunRecord:
        return self.record if spec.config.objective == "geco" else replace(self.record, constraints={})


@pytest.fixture
def made_up_runs() -> type[MadeUpRuns]:
    return MadeUpRuns


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reproduced]:
    """The folder of ``bridle reproduce all --quick``, and what came of it."""
    out = tmp_path_factory.mktemp("reproduce") / "all"
    return out, reproduce(["all"], "tiny", out, quick=True)


@pytest.fixture
def make_record() -> MakeRecord:
    """``make_record(error=[0.3, 0.1], kl=[1, 5], multiplier=[40, 30], kappa=0.1)`` gives a run under ``re``."""

    def make(
        error: list[float], kl: list[float], multiplier: list[float], kappa: float = 0.1, every: int = 10
    ) -> RunRecord:
        columns = {"re.value": error, "rmse": error, "kl": kl, "re.multiplier": multiplier}
        metrics = {name: np.array(values, dtype=float) for name, values in columns.items()}
        metrics["step"] = every * (1.0 + np.arange(len(error)))
        re = ConstraintRecord(
            kappa, error[-1], error[-1] <= 1.01 * kappa, multiplier[-1], "relative", Verdict("settled", 100)
        )
        return RunRecord(
            path=Path("run"),
            summary={},
            config={},
            config_text="",
            metrics=metrics,
            objective="geco",
            constraints={"re": re},
            image_shape=(1, 8, 8),
            bin=1 / 16,
            kl=kl[-1],
            curves={},
            rmse=error[-1],
            kl_train=kl[-1],
            rmse_train=error[-1],
            sigma_opt=error[-1],
            nll=2.0,
            nll_bits=2.9,
            bits_per_dim=3.0,
            steps=every * len(error),
            seconds=1.0,
            parameters=1,
        )

    return make
