"""The paper's protocol: what is trained, and how the two rules are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import protocol
from benchmarks.arena.rows import RowFile
from benchmarks.protocol import COLUMNS, KEY, Run, best_rate, done, kl_at_kappa, relative_multiplier
from bridle.errors import TrainingError
from bridle.training import TrainConfig
from bridle.training.build import build_objective

SETTLED = {0.03: 3000, 0.1: 1000}
"""Where pretended runs of Algorithm 1 settle, by its rate in the shortest runs; from 0.3 on they are not finite."""


def pretended(config: TrainConfig, out: Path, overwrite: bool = False) -> dict[str, Any]:
    assert overwrite
    rate = (config.geco.rate or 0) * config.steps / protocol.STEPS["NVPVAE"]
    if rate >= 0.3:
        raise TrainingError("the loss is no longer finite")
    at = SETTLED[rate] if rate else 500
    re = {"value": 0.1, "multiplier": 20.0, "state": "settled" if at else "approaching", "settled_at": at}
    return {"constraints": {"re": re}, "kl_train": 12.0}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RowFile:
    monkeypatch.setattr(protocol, "train", pretended)
    return RowFile(tmp_path / "protocol.csv", COLUMNS, KEY)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize(("model", "lr"), [("ConvDRAW", 1e-5), ("NVPVAE", 1e-6)])
def test_the_learning_rate_is_the_papers_times_a_million_over_the_steps_to_the_end(
    model: str, lr: float, times: int
) -> None:
    config = Run("Digits", model, times, None, 0.1, 0).config()
    assert config.steps == times * protocol.STEPS[model]
    assert config.lr * config.steps == pytest.approx(lr * 1e6)
    assert config.learning_rate(config.steps - 1) == config.learning_rate(0) == config.lr


def test_algorithm_1_is_the_papers_and_the_default_is_untouched() -> None:
    paper, ours = (Run("Digits", "ConvDRAW", 1, rate, 0.1, 0).config() for rate in (0.03, None))
    (stand,) = build_objective(paper, (1, 8, 8), 1 / 16).stands()
    assert (stand.multiplier, stand.scale, paper.geco.alpha, paper.geco.rule) == (1.0, "absolute", 0.99, "algorithm1")
    assert ours.geco == TrainConfig().geco


def test_the_best_rate_settles_most_and_soonest_and_no_run_is_made_twice(
    file: RowFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert best_rate("Digits", "NVPVAE", 1, file, tmp_path) == 0.1
    rows = file.read()
    assert len(rows) == len(protocol.RATES) * len(protocol.KAPPAS)
    assert {row["status"][:6] for key, row in rows.items() if key[2] == "algorithm1,rate=0.3"} == {"failed"}
    monkeypatch.setattr(protocol, "train", None)
    assert best_rate("Digits", "NVPVAE", 1, file, tmp_path) == 0.1


def test_the_grid_of_longer_runs_is_finer_as_their_learning_rate_is(file: RowFile, tmp_path: Path) -> None:
    assert best_rate("Digits", "NVPVAE", 1, file, tmp_path) == 0.1
    assert best_rate("Digits", "NVPVAE", 4, file, tmp_path) == 0.025
    assert len(file.read()) == 2 * len(protocol.RATES) * len(protocol.KAPPAS)


def test_multipliers_are_told_on_the_relative_constraint(file: RowFile, tmp_path: Path) -> None:
    ours, theirs = (done(Run("Digits", "NVPVAE", 1, rate, 0.2, 0), file, tmp_path) for rate in (None, 0.1))
    assert relative_multiplier(ours) == 20
    assert relative_multiplier(theirs) == pytest.approx(20 * 0.2**2)
    # Half of kappa: C is -3/4.
    assert kl_at_kappa(ours, 20) == pytest.approx(12 - 20 * 0.75)


def test_the_page_is_made_of_finished_runs(file: RowFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol.report("Digits", ["NVPVAE"], 1, file, tmp_path)
    page = capsys.readouterr().out
    assert "| 0.1 | default | 500, 500, 500 | 1.000, 1.000, 1.000 | 12.00, 12.00, 12.00 | 20, 20, 20 |" in page
    assert "| 0.1 | algorithm1,rate=0.1 | 1,000, 1,000, 1,000 |" in page
    assert "settle steps of the default over Algorithm 1's: 0.50 (0.50 to 0.50)" in page
