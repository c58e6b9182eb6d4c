"""``bridle reproduce`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridle.cli import reproduce as command
from bridle.cli.main import main
from bridle.reproduce import Reproduced


def test_one_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["reproduce", "figure2", "--scale", "tiny", "--quick", "--model", "NVPVAE", "--workers", "1"]
    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"page: {out / 'index.html'}\n"
    assert {"index.html", "figure2.png", "figure2.csv", "figure2.json", "runs"} == {p.name for p in out.iterdir()}
    assert len([p for p in (out / "runs").iterdir() if p.is_dir()]) == 4
    assert "ConvDRAW (not asked for)" in (out / "index.html").read_text()


def test_figure_2_with_a_dial(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["reproduce", "figure2", "--quick", "--dial", "--model", "NVPVAE", "--workers", "1", "--out", str(out)]
    assert main(command) == 0
    runs = {p.name for p in (out / "runs").iterdir() if p.is_dir()}
    assert len(runs) == 5
    (dialled,) = (name for name in runs if "to" in name)
    assert "dial" in json.loads((out / "runs" / dialled / "summary.json").read_text())
    assert "Dotted lines are what one run with a dial" in (out / "index.html").read_text()
    assert len((out / "figure2.csv").read_text().splitlines()) == 5, "it is a line, not a point"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["figure9", "--out", "o"], "unknown figure or table 'figure9': there are figure1,"),
        (["figure1"], "--out is missing: the folder for the runs and the page"),
        (["figure1", "--scale", "huge", "--out", "o"], "scale: 'huge' is unknown: there are"),
        (["figure1", "--data", "Faces", "--out", "o"], "scale tiny has no 'Faces': there are Digits,"),
        (["figure1", "--model", "NVPVAE", "--out", "o"], "nothing is left to reproduce: ConvDRAW (not asked for)"),
        (["figure1", "--workers", "0", "--out", "o"], "workers must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"bridle reproduce: {line}") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("names", "line"), [(["a"], "1 run failed: a"), (["a", "b"], "2 runs failed: a, b")])
def test_what_failed_is_counted(
    names: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Reproduced(tmp_path / "index.html", dict.fromkeys(names, "the loss is not finite"))
    monkeypatch.setattr(command, "reproduce", lambda *_, **__: done)
    assert main(["reproduce", "figure1", "--out", str(tmp_path)]) != 0
    assert capsys.readouterr().err == f"bridle reproduce: {line}\n"
