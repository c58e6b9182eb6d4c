"""The whole reproduction in its quick form: a few steps a run."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridle.errors import ConfigError, DataError
from bridle.reproduce import EXHIBITS, SCALES, Reproduced, Scale, reproduce
from bridle.reproduce.scales import Source
from bridle.sweeps import RunSpec
from bridle.training import ClassSpec
from bridle.training.folder import RunFolder

QUICK = SCALES["tiny"].quickly()


@pytest.mark.timeout(900)
def test_everything_is_made(everything: tuple[Path, Reproduced]) -> None:
    out, done = everything
    assert done.page == out / "index.html" and done.failures == {}
    for name in EXHIBITS:
        record = json.loads((out / f"{name}.json").read_text())
        assert record["quick"] and record["claims"] and record["caption"][0].startswith("Scale tiny; "), name
        assert (name == "table2") != (out / f"{name}.png").is_file()
    text = done.page.read_text()
    assert "Nothing here says anything about the paper." in text and "figure3 is left out" not in text
    width, height = Image.open(out / "figure5.png").size
    assert width > 3 * 250 and height > 2 * 250, "seven blocks in two rows"


@pytest.mark.timeout(900)
def test_table_2_has_the_papers_numbers_and_ours_within_their_bounds(everything: tuple[Path, Reproduced]) -> None:
    out, _ = everything
    with (out / "table2.csv").open() as file:
        rows = list(csv.DictReader(file))
    printed = [(r["data"], r["training"], r["marginal KL (nats)"]) for r in rows if "paper" in r["data"]]
    assert printed == [
        ("CIFAR-10 (paper)", "ELBO", "725.2"),
        ("CIFAR-10 (paper)", "GECO", "45.3"),
        ("Color-MNIST (paper)", "ELBO", "182.5"),
        ("Color-MNIST (paper)", "GECO", "10.3"),
    ]
    ours = [r for r in rows if "paper" not in r["data"]]
    assert [r["training"] for r in ours] == 2 * ["ELBO", "GECO", "GECO", "GECO, equal error"]
    for r in ours:
        low, estimate, high = (float(r[k]) for k in ("lower bound", "marginal KL (nats)", "upper bound"))
        assert low - 4 * float(r["standard error"]) <= estimate <= high + 4 * float(r["standard error"]) + 1e-3


@pytest.mark.timeout(900)
def test_geco_at_equal_error_has_the_elbos_error_as_its_kappa(everything: tuple[Path, Reproduced]) -> None:
    out, _ = everything
    runs = out / "runs"
    for data, model in (("Digits", "ConvDRAW"), ("Digits", "NVPVAE"), ("Color-Digits", "NVPVAE")):
        elbo = json.loads((runs / f"{data},{model},elbo,seed=0" / "summary.json").read_text())
        kappa = f"{elbo['rmse_train']:.4g}"
        config = RunFolder(runs / f"{data},{model},re={kappa},seed=0").read_config()
        assert config.constraints.re == float(kappa)
        assert config.steps == RunFolder(runs / f"{data},{model},elbo,seed=0").read_config().steps


@pytest.mark.timeout(900)
def test_what_was_interrupted_goes_on_and_what_is_finished_stays(
    everything: tuple[Path, Reproduced], tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(everything[0], out)
    spec = EXHIBITS["figure1"].runs(QUICK)[0]
    other = EXHIBITS["figure4"].runs(QUICK)[0]
    through_classifier = next(s for s in EXHIBITS["figure3"].runs(QUICK) if s.config.constraints.fre)
    for name in (spec.name, through_classifier.name):
        run = RunFolder(out / "runs" / name)
        # As a kill in the middle leaves it.
        (run.path / "summary.json").unlink()
        for file in run.checkpoint_files()[6:]:
            file.unlink()
    for name in ("figure1", "figure3"):
        (out / f"{name}.json").unlink()
    before = (out / "runs" / other.name / "summary.json").stat().st_mtime_ns
    assert reproduce(["figure1", "figure3", "figure4"], "tiny", out, quick=True, workers=1).failures == {}
    assert (out / "runs" / other.name / "summary.json").stat().st_mtime_ns == before
    config = RunFolder(out / "runs" / through_classifier.name).read_config()
    assert config.fre.classifier == str(out / "classifiers" / "Digits"), "the folder was moved"
    for name in ("figure1.json", "figure1.png", "figure3.json", "figure3.png", "figure4.json"):
        assert (out / name).read_bytes() == (everything[0] / name).read_bytes()
    assert "Table 2" in (out / "index.html").read_text(), "what was made before is still on the page"


@pytest.mark.timeout(900)
def test_a_folder_of_another_scale_is_refused(everything: tuple[Path, Reproduced]) -> None:
    before = (everything[0] / "index.html").read_bytes()
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        reproduce(["figure1"], "tiny", everything[0])
    assert (everything[0] / "index.html").read_bytes() == before


@pytest.mark.timeout(900)
def test_the_classifier_is_trained_only_for_runs_that_will_be(
    everything: tuple[Path, Reproduced], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, classifier = tmp_path / "again", tmp_path / "again" / "classifiers" / "Digits"
    shutil.copytree(everything[0], out)
    shutil.rmtree(classifier)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        reproduce(["figure3"], "tiny", out)
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        reproduce(["figure3"], "tiny", tmp_path / "new", quick=True, workers=0)
    assert reproduce(["figure3"], "tiny", out, quick=True).failures == {}
    assert not classifier.exists() and not (tmp_path / "new").exists(), "refused, or finished"
    # One of other steps, such as the quick form's in the folder of a whole reproduction.
    shutil.copytree(everything[0] / "classifiers", out / "classifiers", dirs_exist_ok=True)
    info = json.loads((classifier / "classifier.json").read_text())
    assert info["steps"] == QUICK.classifier_steps
    (classifier / "classifier.json").write_text(json.dumps(info | {"steps": 3}))
    name = next(s.name for s in EXHIBITS["figure3"].runs(QUICK) if s.config.constraints.fre)
    shutil.rmtree(out / "runs" / name)
    monkeypatch.chdir(tmp_path)
    assert reproduce(["figure3"], "tiny", "again", quick=True).failures == {}
    assert json.loads((classifier / "classifier.json").read_text()) == info
    assert RunFolder(out / "runs" / name).read_config().fre.classifier == "again/classifiers/Digits"


def test_unknown_names_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^name at least one figure or table: there are figure1, .*, all$"):
        reproduce([], "tiny", tmp_path)
    with pytest.raises(ConfigError, match=r"^unknown figure or table 'figure9': there are figure1, figure2, .*, all$"):
        reproduce(["figure1", "figure9"], "tiny", tmp_path)
    with pytest.raises(ConfigError, match="^unknown scale 'huge': there are tiny, small, paper$"):
        reproduce(["figure1"], "huge", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        reproduce(["figure1"], "tiny", tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDLE_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("BRIDLE_CACHE", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_files")
def test_where_no_data_are_left_it_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^nothing is left to reproduce: CelebA \(.*\)$") as refusal:
        reproduce(["figure5"], "paper", tmp_path / "out")
    assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_files")
def test_data_that_are_missing_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = Source("CelebA", ClassSpec("bridle.data.CelebA"), "CelebA")
    monkeypatch.setitem(SCALES, "tiny", replace(SCALES["tiny"], celeba=faces))
    done = reproduce(["figure3", "figure5"], "tiny", tmp_path / "out", quick=True, workers=1)
    text = done.page.read_text()
    assert "Left out: CelebA (" in text and "figure5 is left out: CelebA (" in text
    assert json.loads((tmp_path / "out" / "figure3.json").read_text())["notes"][-1].startswith("Left out: CelebA (")
    assert not (tmp_path / "out" / "figure5.json").exists()


def test_a_run_that_fails_is_named_and_the_others_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Scale.run

    def diverging(self: Scale, *arguments: Any, **settings: Any) -> RunSpec:
        spec = run(self, *arguments, **settings)
        return RunSpec(spec.name, replace(spec.config, lr=1e30)) if spec.config.objective == "annealed" else spec

    monkeypatch.setattr(Scale, "run", diverging)
    done = reproduce(["figure2"], "tiny", tmp_path, quick=True, workers=1, models=["NVPVAE"])
    name = "Digits,NVPVAE,annealed,seed=0"
    assert list(done.failures) == [name] and "the loss is not finite" in done.failures[name]
    assert f"{name} failed: the loss is not finite" in done.page.read_text()
    record = json.loads((tmp_path / "figure2.json").read_text())
    assert record["notes"][0] == f"Run {name} did not finish and is left out."
    assert [row[2] for row in record["table"]["rows"]] == ["elbo", "geco", "geco"]
