from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bridle.errors import CheckpointError
from bridle.reports.record import RunRecord, run_names


def test_a_run_is_read(make_run):
    record = RunRecord.read(make_run("digits"))
    assert (record.name, record.data, record.model, record.objective) == ("digits", "Digits", "ConvVAE", "geco")
    assert record.constraints["re"].kappa == 0.1 and record.constraints["re"].satisfied
    assert record.kl_train == 13.52 and record.rmse_train == 0.1003 and record.steps == 3000
    assert record.image_shape == (1, 8, 8) and record.bin == 1 / 16
    assert len(record.metrics["re.value"]) == len(record.metrics["step"]) == 301
    assert "class_path: bridle.data.Digits" in record.config_text


def test_empty_cells_and_null_are_nan(make_run):
    run = make_run(steps=20)
    lines = (run / "metrics.csv").read_text().splitlines()
    cells = lines[-1].split(",")
    cells[1] = ""
    (run / "metrics.csv").write_text("\n".join([*lines[:-1], ",".join(cells)]))
    edit_summary(run, bits_per_dim=None)
    record = RunRecord.read(run)
    assert math.isnan(record.metrics["kl"][-1]) and math.isnan(record.bits_per_dim)
    assert record.last("kl") == record.metrics["kl"][-2]
    assert math.isnan(record.last("no such column"))


def test_runs_of_one_name_are_told_apart(make_run):
    paths = [make_run(p, steps=20) for p in ("a/digits", "b/digits", "b/elbo")]
    assert run_names([RunRecord.read(p) for p in paths]) == ["a/digits", "b/digits", "elbo"]


def edit_summary(run: Path, **values: object) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | values))


def without(key: str):
    def edit(run: Path) -> None:
        summary = json.loads((run / "summary.json").read_text())
        del summary[key]
        (run / "summary.json").write_text(json.dumps(summary))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.yaml").unlink(), "has no config.yaml"),
        (lambda run: (run / "metrics.csv").unlink(), "has no metrics.csv"),
        (lambda run: (run / "summary.json").unlink(), "has no summary.json: bridle train --resume .* finishes the run"),
        (lambda run: (run / "config.yaml").write_text("a: [1,\nb: 2"), "config.yaml is damaged"),
        (lambda run: (run / "config.yaml").write_text("- 1"), "config.yaml is damaged"),
        (lambda run: (run / "summary.json").write_text('{"kl": 1'), "summary.json is damaged"),
        (lambda run: (run / "summary.json").write_text("[]"), "summary.json: expected names and numbers"),
        (lambda run: (run / "summary.json").write_bytes(b"\xff\xfe\x00"), "summary.json is damaged .*codec"),
        (without("rmse_train"), "lacks rmse_train"),
        (lambda run: edit_summary(run, kl="low"), "kl must be a number, got 'low'"),
        (lambda run: edit_summary(run, steps=1.5), "steps must be a whole number"),
        (lambda run: edit_summary(run, bin=0), "bin must be positive"),
        (lambda run: edit_summary(run, image_shape=[8, 8]), "image_shape must be"),
        (lambda run: edit_summary(run, constraints=[1]), "constraints must map"),
        (lambda run: edit_summary(run, constraints={"re": {"kappa": 1}}), r"lacks constraints\.re\."),
        (lambda run: edit_summary(run, constraints={"re": 3}), r"expected names and numbers under constraints\.re"),
        (lambda run: (run / "metrics.csv").write_text(""), "lacks the column step"),
        (lambda run: (run / "metrics.csv").write_text("step,kl,rmse\n1,2"), "line 2: 2 cells under 3 columns"),
        (lambda run: (run / "metrics.csv").write_text("step,kl,rmse\n1,2,x"), "line 2: could not convert"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(make_run, damage, message):
    run = make_run(steps=20)
    damage(run)
    with pytest.raises(CheckpointError, match=message) as refusal:
        RunRecord.read(run)
    assert "\n" not in str(refusal.value)


def test_a_folder_that_is_absent_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is no run folder"):
        RunRecord.read(tmp_path / "nothing")
