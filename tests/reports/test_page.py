from __future__ import annotations

import base64
import json
import os
import re
from xml.etree import ElementTree

import pytest

from bridle.errors import BridleError, CheckpointError, ConfigError
from bridle.reports.page import write_report
from bridle.reports.pieces import duration, number


def parse(path) -> ElementTree.Element:
    """The page is written so that it is well-formed XML too."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def words(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def cells(root: ElementTree.Element, label: str) -> list[str]:
    rows = [r for r in root.iter("tr") if words(r.find("th")).startswith(label)]
    return [words(cell) for cell in rows[0].findall("td")]


def test_the_numbers_of_a_run_are_in_its_page(make_run, tmp_path):
    out = write_report([make_run("digits")], tmp_path / "reports" / "digits.html")
    root = parse(out)
    text = words(root)
    assert words(root.find(".//h1")) == "digits"
    assert "The constraint held, at a rate of 13.52 nats per image." in text
    assert "re: 0.1003 against 0.1, settled at 1,500, multiplier 29.9 (relative); on held-out" in text
    assert "on held-out images 0.1194, 19% above kappa" in text
    assert cells(root, "RMSE, training") == ["0.1003"] and cells(root, "RMSE, held-out") == ["0.1194"]
    assert cells(root, "KL, training") == ["13.52"] and cells(root, "KL, held-out") == ["13.32"]
    assert cells(root, "re: multiplier nats, relative") == ["29.94"] and cells(root, "re: within 1%") == ["held"]
    assert cells(root, "re: state") == ["settled at 1,500"]
    assert cells(root, "Parameters") == ["412,929"] and cells(root, "Time") == ["42 s"]
    assert "class_path: bridle.models.ConvVAE" in words(root.find(".//details/pre"))


def test_the_page_needs_nothing_from_outside(make_run, tmp_path):
    out = write_report([make_run("digits"), make_run("elbo", objective="elbo")], tmp_path / "report.html")
    root = parse(out)
    assert not list(root.iter("script"))
    for element in root.iter():
        for name, value in element.attrib.items():
            assert name not in ("src", "href", "srcset") or value.startswith("data:")
    assert "url(" not in out.read_text() and "@import" not in out.read_text() and "http" not in out.read_text()
    for kind, content in re.findall(r"data:(image/[a-z+]+);base64,([^\"]+)", out.read_text()):
        if kind == "image/svg+xml":
            svg = ElementTree.fromstring(base64.b64decode(content))
            assert all(v.startswith("#") for e in svg.iter() for k, v in e.attrib.items() if k.endswith("href"))


def test_every_picture_is_there_with_its_words(make_run, tmp_path):
    run = make_run("digits")
    images = list(parse(write_report([run], tmp_path / "report.html")).iter("img"))
    assert [i.get("src", "").split(";")[0] for i in images] == [
        "data:image/svg+xml",
        "data:image/png",
        "data:image/png",
    ]
    assert all(len(i.get("alt", "")) > 10 and int(i.get("width", 0)) > 0 for i in images)
    assert base64.b64encode((run / "samples.png").read_bytes()).decode() in images[2].get("src", "")


def test_three_runs_stand_side_by_side(make_run, tmp_path):
    runs = [make_run("digits"), make_run("elbo", objective="elbo", rmse=0.0789, kl=19.9), make_run("tight", rmse=0.06)]
    root = parse(write_report(runs, tmp_path / "report.html"))
    assert [words(h) for h in root.findall(".//thead//th")] == ["", "digits", "elbo", "tight"]
    assert cells(root, "RMSE, training") == ["0.1003", "0.0789", "0.0600"]
    assert cells(root, "re: kappa") == ["0.1", "–", "0.1"]
    assert cells(root, "sigma of the likelihood")[0] == "–"
    assert len(list(root.iter("img"))) == 1 + 3 * 3
    assert [words(a.find("h2")) for a in root.iter("article")] == ["digits", "elbo", "tight"]
    assert "Both constraints held; elbo states none." in words(root)


def test_a_baseline_says_what_it_is_and_which_kappa_it_comes_to(make_run, tmp_path):
    text = words(parse(write_report([make_run("e", objective="elbo", rmse=0.0789, kl=20)], tmp_path / "r.html")))
    assert "No constraint was stated" in text
    assert "ELBO, learned sigma: its error is that of kappa = 0.0789; on held-out images 0.0939" in text
    text = words(parse(write_report([make_run("a", objective="annealed")], tmp_path / "r.html")))
    assert "hand-annealed, weight of the KL 0.700" in text


def test_a_missed_constraint_is_said_to_be_missed(make_run, tmp_path):
    run = make_run(kappas={"re": 0.1, "pncc": 0.4}, satisfied=False)
    root = parse(write_report([run], tmp_path / "r.html"))
    assert "Both constraints were missed" in words(root)
    assert words(root).count("✕ missed") == 2 and "pncc: 0.4800 against 0.4" in words(root)


def test_names_and_settings_are_escaped(make_run, tmp_path):
    run = make_run("a<b>&c")
    with (run / "config.yaml").open("a") as file:
        file.write("note: '<script>alert(1)</script> & more'\n")
    root = parse(write_report([run], tmp_path / "r.html"))
    assert words(root.find(".//h1")) == "a<b>&c" and not list(root.iter("script"))


def test_a_picture_that_is_missing_or_damaged_is_named(make_run, tmp_path):
    run = make_run()
    (run / "samples.png").unlink()
    (run / "reconstructions.png").write_bytes((run / "reconstructions.png").read_bytes()[:300])
    root = parse(write_report([run], tmp_path / "r.html"))
    assert "samples.png is not in the run folder" in words(root) and "reconstructions.png is damaged" in words(root)
    assert len(list(root.iter("img"))) == 1


def test_a_run_without_rows_and_one_with_no_number_have_a_page(make_run, tmp_path):
    run = make_run()
    lines = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text(lines[0] + "\n")
    summary = json.loads((run / "summary.json").read_text()) | {"kl": float("nan"), "rmse": float("inf")}
    (run / "summary.json").write_text(json.dumps(summary))
    root = parse(write_report([run], tmp_path / "r.html"))
    assert "metrics.csv has no rows" in words(root) and cells(root, "KL, held-out") == ["not finite"]


def test_the_same_runs_give_the_same_page(make_run, tmp_path):
    run = make_run()
    first = write_report([run], tmp_path / "a.html").read_bytes()
    assert write_report([run], tmp_path / "b.html").read_bytes() == first


def test_a_report_that_fails_leaves_the_old_file(make_run, tmp_path, monkeypatch):
    run, out = make_run(), tmp_path / "out" / "report.html"
    before = write_report([run], out).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BridleError, match="cannot write the report .*: No space left on device"):
            write_report([make_run("other")], out)
    (run / "summary.json").unlink()
    with pytest.raises(CheckpointError, match="has no summary.json"):
        write_report([run], out)
    assert out.read_bytes() == before and [p.name for p in out.parent.iterdir()] == ["report.html"]


def test_no_run_and_a_place_that_cannot_be_written(make_run, tmp_path):
    with pytest.raises(ConfigError, match="at least one run"):
        write_report([], tmp_path / "r.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(BridleError, match="cannot write the report"):
        write_report([make_run()], tmp_path / "file" / "r.html")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.10034, "0.1003"), (0.079, "0.0790"), (0.00234, "0.002340"), (13.52, "13.52"), (0, "0.000"), (29.94, "29.94"),
     (123456.7, "123,457"), (3.2e9, "3.200e+09"), (-4.2e-7, "-4.200e-07"), (float("nan"), "not finite")],
)  # fmt: skip
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(41.7, "42 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")])
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text
