"""The page and the plane of a sweep."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from bridle.reports.information_plane import nll_per_dimension, sweep_plane
from bridle.reports.record import RunRecord
from bridle.reports.sweep import write_sweep_report
from bridle.sweeps import RunSpec
from bridle.training import TrainConfig


def reseeded(run: Path, seed: int) -> Path:
    values = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**values, "seed": seed}))
    return run


@pytest.fixture
def runs(make_run) -> list[Path]:
    """GECO at three kappas, out of order and the middle one with two seeds, and two baselines."""
    return [
        make_run("high", kappas={"re": 0.2}, rmse=0.2, kl=4),
        make_run("low", kappas={"re": 0.06}, rmse=0.06, kl=30),
        make_run("middle", kappas={"re": 0.1}, rmse=0.1, kl=14),
        reseeded(make_run("middle-1", kappas={"re": 0.1}, rmse=0.11, kl=12), 1),
        make_run("elbo", objective="elbo", rmse=0.08, kl=25),
        make_run("annealed", objective="annealed", rmse=0.09, kl=22),
    ]


def test_geco_s_points_are_joined_in_the_order_of_kappa(runs: list[Path]) -> None:
    axes = sweep_plane([RunRecord.read(run) for run in runs]).axes[0]
    (line,) = [line for line in axes.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    middle = (nll_per_dimension(0.1, 1 / 16) + nll_per_dimension(0.11, 1 / 16)) / 2
    expected = [nll_per_dimension(0.06, 1 / 16), middle, nll_per_dimension(0.2, 1 / 16)]
    assert np.allclose(line.get_xdata(), expected) and np.allclose(line.get_ydata(), [30, 13, 4])
    bars = [c.get_segments()[0] for c in axes.collections if hasattr(c, "get_segments")]
    assert any(np.allclose(bar[:, 1], [12, 14]) for bar in bars), "the spread over seeds is not shown"
    assert [t.get_text() for t in axes.texts if t.get_text()] == ["0.2", "0.06", "0.1"]


def test_what_differs_in_another_setting_has_a_line_of_its_own(make_run) -> None:
    runs = [make_run(f"{steps}-{kappa}", kappas={"re": kappa}, rmse=kappa, steps=steps)
            for steps in (1000, 2000) for kappa in (0.1, 0.2)]  # fmt: skip
    figure = sweep_plane([RunRecord.read(run) for run in runs])
    lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    assert len({line.get_color() for line in lines}) == 2
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "Digits, ConvVAE, steps 1000" in labels and "GECO" in labels and "ELBO" not in labels


def test_constraints_of_two_kinds_are_not_joined(make_run) -> None:
    runs = [make_run(f"{name}-{kappa}", kappas={name: kappa}) for name in ("re", "pncc") for kappa in (0.1, 0.2)]
    axes = sweep_plane([RunRecord.read(run) for run in runs]).axes[0]
    assert [t.get_text() for t in axes.texts if t.get_text()] == ["re 0.1", "re 0.2", "pncc 0.1", "pncc 0.2"]
    assert sum(len(line.get_xdata()) == 2 and line.get_linestyle() == "-" for line in axes.get_lines()) == 2


def test_the_page_has_the_plane_the_runs_and_the_failures(runs: list[Path]) -> None:
    out = runs[0].parent
    (runs[0] / "report.html").write_text("")
    specs = [RunSpec(run.name, TrainConfig()) for run in runs] + [RunSpec("lost", TrainConfig())]
    page = write_sweep_report(specs, out, {"lost": "the loss is <not> finite"})
    text = page.read_text()
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE html>|<style>.*?</style>", "", text, flags=re.DOTALL))
    words = " ".join(" ".join(root.itertext()).split())
    assert page == out / "report.html" and "6 of 7 runs finished; 4 of 4 constraints held." in words
    assert "the loss is <not> finite" in words and "mean over seeds" in words
    assert [a.get("href") for a in root.iter("a")] == ["high/report.html", "table.csv"]
    rows = [["".join(cell.itertext()).strip() for cell in row] for row in root.findall(".//tbody/tr")]
    assert [row[0] for row in rows] == [spec.name for spec in specs]
    assert rows[1][:5] == ["low", "GECO", "0.06", "0.0602", "held"] and rows[-1][1:3] == ["not finished", "–"]
    assert len(list(root.iter("img"))) == 1
    assert write_sweep_report(specs, out, {"lost": "the loss is <not> finite"}).read_text() == text


def test_a_sweep_without_a_finished_run_has_a_page(tmp_path: Path) -> None:
    text = write_sweep_report([RunSpec("a", TrainConfig())], tmp_path).read_text()
    assert "0 of 1 runs finished." in text and "<img" not in text
