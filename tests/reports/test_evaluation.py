"""What `bridle evaluate` measured, on the run's page."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bridle.errors import CheckpointError
from bridle.reports.evaluation import read_evaluation
from bridle.reports.page import write_report

MEASURED = {
    "latents": {"active": 2, "dimensions": 4, "kl": [[0.5, 2.0], [1.0, 0.25]]},
    "holes": {"prior": 0.0883, "data": 0.0788, "ratio": 1.121, "ratio_standard_error": 0.0104},
    "samples": {
        "prior": 0.00583, "prior_standard_error": 0.00021, "data": 0.00086, "data_standard_error": 0.0001,
    },
    "importance": {"log_likelihood": -136.371, "standard_error": 0.672, "n": 1250, "k": 16, "bits_per_dim": 3.0741},
    "marginal": {
        "marginal_kl": 8.5861, "standard_error": 0.0531, "lower_bound": 8.4381, "average_kl": 15.6051,
        "within_bounds": True, "components": 256, "n": 1297, "samples": 100, "precision": "fp32",
    },
}  # fmt: skip


def evaluated(run: Path, **changes: object) -> Path:
    (run / "evaluation.json").write_text(json.dumps({**MEASURED, **changes}))
    return run


def rows(page: Path) -> dict[str, list[str]]:
    root = ElementTree.fromstring(page.read_text().removeprefix("<!DOCTYPE html>"))
    found = [[" ".join("".join(cell.itertext()).split()) for cell in row] for row in root.findall(".//tbody/tr")]
    return {label: cells for label, *cells in found}


def test_every_number_is_told_with_its_unit_and_standard_error(make_run) -> None:
    assert [(line.label, line.unit, line.value) for line in read_evaluation(evaluated(make_run()))] == [
        ("active latents (variance of the mean above 0.01)", "", "2 of 4"),
        ("KL of one latent: greatest, median, least", "nats", "2.000, 0.500, 0.250"),
        ("RMSE of prior samples, encoded and decoded", "pixel units", "0.0883"),
        ("the same of posterior samples", "pixel units", "0.0788"),
        ("ratio of the two, 1 without holes, by its own judgement", "", "1.121 +- 0.010"),
        ("energy distance of prior samples from images", "pixel units", "0.00583 +- 0.00021"),
        ("the same of posterior samples", "pixel units", "0.00086 +- 0.00010"),
        ("log-likelihood, 1,250 held-out images, K = 16", "nats", "-136.37 +- 0.67"),
        ("the same", "bits per dimension", "3.074"),
        ("marginal KL, quick, biased low, 100 samples, fp32", "nats", "8.586 +- 0.053"),
        ("  at least max(0, average KL - log N)", "nats", "8.438"),
        ("  at most the average KL", "nats", "15.605"),
    ]


def test_what_was_not_measured_is_left_out(make_run) -> None:
    run = make_run()
    assert read_evaluation(run) == []
    none = {"importance": None, "marginal": None, "latents": {"active": 0, "dimensions": 4, "kl": None}}
    lines = read_evaluation(evaluated(run, **none, holes={"prior": 0.1, "data": 0.0, "ratio": None}))
    assert len(lines) == 6 and lines[3].value == "not defined"
    outside = read_evaluation(evaluated(run, marginal={**MEASURED["marginal"], "within_bounds": False}))
    assert outside[-1].value == "15.605: the estimate is outside"


def test_the_page_has_them_in_a_group_and_says_where_they_are_from(make_run, tmp_path: Path) -> None:
    runs = [evaluated(make_run("evaluated")), make_run("other")]
    page = write_report(runs, tmp_path / "page.html")
    found = rows(page)
    assert found["Evaluation"] == ["", ""] and list(found)[-1].startswith("at most the average KL")
    assert found["active latents (variance of the mean above 0.01)"] == ["2 of 4", "–"]
    assert "those of evaluation.json, which bridle evaluate wrote" in page.read_text()
    page = write_report(runs[1:], tmp_path / "page.html")
    assert "Evaluation" not in rows(page) and "bridle evaluate" not in page.read_text()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"latents": 3}'])
def test_a_damaged_file_is_named(make_run, tmp_path: Path, text: str) -> None:
    run = make_run()
    (run / "evaluation.json").write_text(text)
    with pytest.raises(CheckpointError, match="evaluation.json is damaged or of another version") as caught:
        write_report([run], tmp_path / "page.html")
    assert "\n" not in str(caught.value) and not (tmp_path / "page.html").exists()
