"""What is shown of a sweep comes from the runs' own files, whatever state they are in."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from bridle.sweeps import RunSpec
from bridle.sweeps.progress import SweepView, last_row
from bridle.training import Constraints, TrainConfig

HEADER = "step,kl,re.value,re.kappa,re.multiplier,re.state,re.settled_at\n"
ROW = "25,12.5,0.1234,0.1,30,2,0\n"


@pytest.mark.parametrize(
    ("text", "step"),
    [("", None), (HEADER, None), (HEADER + ROW, 25), (HEADER + ROW + "50,1", 25), (HEADER + ROW * 2000 + "9", 25)],
)
def test_the_last_whole_row(tmp_path: Path, text: str, step: int | None) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    row = last_row(tmp_path / "metrics.csv")
    assert (row and row["step"]) == step
    assert last_row(tmp_path / "absent.csv") is None


def test_a_running_run_has_a_line_and_one_that_waits_has_none(tmp_path: Path) -> None:
    specs = [RunSpec(f"re={kappa}", TrainConfig(constraints=Constraints(re=kappa))) for kappa in (0.1, 0.2)]
    view = SweepView(specs, tmp_path)
    (tmp_path / "re=0.1").mkdir()
    (tmp_path / "re=0.1" / "metrics.csv").write_text(HEADER + ROW)
    console = Console(file=io.StringIO(), width=120)
    console.print(view._running())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "25/5000  kl 12.50  re 0.1234/0.1 x30 approaching" in text and "0/2 runs" in text and "re=0.2" not in text
