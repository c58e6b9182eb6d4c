"""The commands of a run with a range of kappas, as a person types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

import bridle
from bridle.cli.main import main
from bridle.data import Digits
from bridle.evaluation import measure_split

SMALL = ["--model.width", "8", "--model.hidden", "32", "--model.latents", "4", "--log_every", "10"]
TRAINED = ["--steps", "600", "--batch", "64", "--lr", "5e-3"]  # enough to be at another place for each kappa


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "dial"
    command = ["train", "--constraints.re", "0.2:0.27", *TRAINED, *SMALL, "--out", str(out)]
    assert main(command) == 0
    return out


def test_the_config_file_repeats_the_run(run: Path, tmp_path: Path) -> None:
    assert "re: 0.2:0.27" in (run / "config.yaml").read_text()
    assert main(["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert (run / "metrics.csv").read_bytes() == (tmp_path / "again" / "metrics.csv").read_bytes()
    assert (run / "config.yaml").read_bytes() == (tmp_path / "again" / "config.yaml").read_bytes()


def test_the_page_to_choose_by(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curve", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'page.html'}\n"
    text = (tmp_path / "page.html").read_text()
    assert text == (run / "curve.html").read_text(), "training writes the same page"
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    rows = list(root.iter("tr"))
    points = json.loads((run / "summary.json").read_text())["dial"]["curve"]["re"]
    assert len(rows) == 2 + len(points)  # the heading, and the data
    for row, point in zip(rows[2:], points, strict=True):
        cells = ["".join(cell.itertext()) for cell in row]
        assert cells[0] == f"{point['kappas']['re']:g}" and float(cells[1]) == pytest.approx(point["rmse"], abs=1e-4)
        pictures = [image.attrib["src"] for image in row.iter("img")]
        assert len(pictures) == 2 and pictures[0] != pictures[1]
    assert len({image.attrib["src"] for image in root.iter("img")}) == 2 + 2 * len(points)
    assert f"bridle sample {run} --kappa 0.2324" in text
    assert f"bridle train --init {run} --constraints.re 0.2324 --out" in text
    assert "http" not in text and not list(root.iter("script"))


def test_the_report_shows_the_curve(run: Path, tmp_path: Path) -> None:
    one = ["train", "--constraints.re", "0.3", "--steps", "10", *SMALL, "--out", str(tmp_path / "one")]
    assert main(one) == 0
    assert main(["report", str(run), str(tmp_path / "one"), "--out", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text()
    assert text.count("Over the range of kappas") == 1
    assert (run / "report.html").read_text().count("Over the range of kappas") == 1


def test_evaluate_gives_the_curve(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--importance", "2", "--marginal_samples", "5"]) == 0
    out = capsys.readouterr().out
    found = json.loads((run / "evaluation.json").read_text())
    assert found["ranges"] == {"re": [0.2, 0.27]}
    points = found["curve"]["re"]
    assert [point["kappas"]["re"] for point in points][::9] == [0.2, 0.27] and len(points) == 10
    for point in points:
        assert point["constraints"]["re"]["kappa"] == point["kappas"]["re"]
        assert point["marginal"]["marginal_kl"] <= point["kl_train"] + 0.1
        assert f"{point['kappas']['re']:>16g}  {point['rmse_train']:>10.4f}" in out
    assert main(["report", str(run), "--out", str(run / "again.html")]) == 0


def test_evaluate_gives_a_point_of_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--kappa", "0.25", "--marginal_kl", "none", "--importance", "0"]) == 0
    found = json.loads((run / "evaluation-0.25.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    expected = measure_split(bridle.load(run, kappa=0.25), Digits().split("train"))
    assert found["constraints"]["re"]["kappa"] == 0.25 and found["kl_train"] != summary["kl_train"]
    assert (found["rmse_train"], found["kl_train"]) == pytest.approx((expected.rmse, expected.kl), rel=1e-5)
    assert summary.keys() - {"dial"} <= found.keys() and "latents" in found


def test_recomputation_on_a_dial_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--constraints.re", "0.2:0.4", "--model", "ConvDRAW", "--model.recompute", "true"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "read in" not in line]
    assert lines == ["bridle train: a ConvDRAW with recompute cannot follow a dial: leave recompute out"]
    assert not (tmp_path / "run").exists()


def test_sample_reconstruct_and_encode_at_a_kappa(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (8, 8), 90).save(tmp_path / "grey.png")
    for command in (
        ["sample", str(run), "--out", str(tmp_path / "{}.png")],
        ["reconstruct", str(run), str(tmp_path / "grey.png"), "--out", str(tmp_path / "{}.png")],
        ["encode", str(run), str(tmp_path / "grey.png"), "--out", str(tmp_path / "{}.npz")],
    ):
        written = []
        for kappa in ("0.2", "re=0.27"):
            assert main([*(part.format(f"{command[0]}-{kappa}") for part in command), "--kappa", kappa]) == 0
            written.append((tmp_path / command[-1].rpartition("/")[2].format(f"{command[0]}-{kappa}")).read_bytes())
        assert written[0] != written[1]
        assert main(command) == 2
        assert "was trained for re from 0.2 to 0.27: choose one by --kappa" in capsys.readouterr().err


def test_going_on_to_one_kappa(run: Path, tmp_path: Path) -> None:
    """Data, model, batch and learning rate are the run's, steps a fifth of its; what is given beside it wins."""
    out = tmp_path / "one"
    assert main(["train", "--init", str(run), "--constraints.re", "0.25", "--lr", "1e-4", "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    config = (out / "config.yaml").read_text()
    assert summary["steps"] == 120 and summary["constraints"]["re"]["kappa"] == 0.25
    assert "batch: 64" in config and "lr: 0.0001" in config and "hidden: 32" in config and f"init: {run}" in config
    assert bridle.load(out).latents == bridle.load(run, kappa=0.25).latents == 4


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "--constraints.re", "abc", "--out", "o"], "constraints.re: expected a number, or a range such as"),
        (["train", "--constraints.re", "0.4:0.2", "--out", "o"], "a range is from its least kappa to its greatest"),
        (["train", "--constraints.kl", "5:20", "--out", "o"], "constraints.kl: expected a number, got '5:20'"),
        (["train", "--init", "nothing", "--constraints.re", "0.1", "--out", "o"], "--init: nothing holds no run"),
        (["train", "--init", "RUN", "--preset", "tiny", "--constraints.re", "0.3", "--out", "o"], "leave out --preset"),
        (["train", "--init", "RUN", "--constraints.re", "0.5", "--out", "o"], "re must lie in 0.2 to 0.27, got 0.5"),
        (["sample", "RUN", "--kappa", "0.1"], "RUN: kappa of re must lie in 0.2 to 0.27, got 0.1"),
        (["sample", "RUN", "--kappa", "low"], "--kappa: expected a number, or re=0.08,pncc=0.4 for several, got 'low'"),
        (["evaluate", "RUN", "--kappa", "pncc=0.3"], "a kappa for each of its ranges (re), got pncc"),
        (["curve", "nothing"], "nothing holds no run"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Path, arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN").symlink_to(run)
    assert main(arguments) == 2
    (error,) = re.findall(r"^bridle .*$", capsys.readouterr().err, re.MULTILINE)
    assert line in error
    assert not (tmp_path / "o").exists()
