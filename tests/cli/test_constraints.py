"""Every constraint by the command line: a few steps, a resume to the same bits, and the same numbers again."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import bridle
from bridle.classifiers import load_classifier, store
from bridle.cli.main import main
from bridle.data import DataSet, Digits, SplitName, TensorSplit
from bridle.errors import ConfigError
from bridle.training import ClassifierOptions, Constraints, PatchOptions, TrainConfig
from bridle.training.build import build_objective, check_constraints
from bridle.training.folder import RunFolder

SMALL = [
    *("--model.width", "4", "--model.hidden", "16", "--model.latents", "4"),
    *("--log_every", "3", "--checkpoint_every", "3", "--steps", "6"),
]
GIVEN = {
    "re": "--constraints.re 0.2",
    "re_pixel": "--constraints.re_pixel 0.2",
    "re_channel": "--constraints.re_channel 0.2",
    "l1": "--constraints.l1 0.1",
    "pncc": "--constraints.pncc 0.4",
    "pncc, random": "--constraints.pncc 0.4 --pncc.patch 3 --pncc.stride 1 --pncc.random 5",
    "ssim": "--constraints.ssim 0.5",
    "fre": "--constraints.fre 0.5 --fre.classifier {c} --fre.layer layer2",
    "lpips": "--constraints.lpips 0.1 --lpips.classifier {c} --lpips.layers [layer1,layer3]",
    "cla": "--constraints.cla 0.9 --cla.classifier {c}",
    "kl": "--constraints.kl 5",
    "re and pncc": "--constraints.re 0.1 --constraints.pncc 0.4",
    "fre, cla and kl": (
        "--constraints.fre 0.5 --fre.classifier {c} --constraints.cla 0.9 --cla.classifier {c} --constraints.kl 5"
    ),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDLE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "c"
    assert main(["classifier", "train", "--steps", "20", "--width", "4", "--blocks", "1", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("given", GIVEN)
def test_trains_resumes_and_measures_the_same(given: str, tmp_path: Path, classifier: Path) -> None:
    run, names = (
        tmp_path / "run",
        [word.removeprefix("--constraints.") for word in GIVEN[given].split() if "--co" in word],
    )
    assert main(["train", *GIVEN[given].format(c=classifier).split(), *SMALL, "--out", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary["constraints"]) == sorted(names, key=list(Constraints.__annotations__).index)
    metrics = (run / "metrics.csv").read_bytes()
    rows = list(csv.DictReader(metrics.decode().splitlines()))
    assert all(math.isfinite(float(cell)) for row in rows for cell in row.values())
    for name, constraint in summary["constraints"].items():
        assert math.isfinite(constraint["value"]) and float(rows[-1][f"{name}.nonfinite"]) == 0
        assert constraint["multiplier"] == pytest.approx(float(rows[-1][f"{name}.multiplier"]), rel=1e-5)
        if name in ("re_pixel", "re_channel"):
            values = np.array(constraint["values"])
            assert values.shape == ((1, 8, 8) if name == "re_pixel" else (1,))
            assert values.max() == constraint["value"]
        else:
            assert "values" not in constraint
    if "re_pixel" in names:
        assert summary["constraints"]["re_pixel"]["value"] > summary["rmse_train"]

    assert main(["evaluate", "--importance", "0", "--marginal_kl", "none", str(run)]) == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert {**{key: evaluation[key] for key in summary}, "seconds": 0} == {**summary, "seconds": 0}

    last = RunFolder(run).load_checkpoint()["system"]
    weights = [key for key in last if ".frozen." in key]
    assert all(key.endswith("checksum") for key in weights), "the classifier is in the checkpoint"
    RunFolder(run).checkpoint_files()[-1].unlink()
    (run / "summary.json").unlink()
    assert main(["train", "--resume", str(run)]) == 0
    again = RunFolder(run).load_checkpoint()["system"]
    torch.testing.assert_close(again, last, rtol=0, atol=0)
    assert (run / "metrics.csv").read_bytes() == metrics


def test_a_run_keeps_its_classifier_and_refuses_another_one(
    tmp_path: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, run, kept = tmp_path / "own", tmp_path / "run", tmp_path / "run" / "classifiers" / "cla"
    command = ["classifier", "train", "--steps", "1", "--width", "4", "--blocks", "1", "--out"]
    assert main([*command, str(own)]) == 0
    given = ["--constraints.cla", "0.9", "--cla.classifier", str(own)]
    assert main(["train", *given, *SMALL, "--out", str(run)]) == 0
    (own / "classifier.pt").unlink()
    assert main(["evaluate", str(run)]) == 0
    (kept / "classifier.pt").write_bytes((classifier / "classifier.pt").read_bytes())
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 2
    error = capsys.readouterr().err
    assert "is another than the run was trained by" in error and len(error.splitlines()) == 1
    (kept / "classifier.pt").unlink()
    assert main(["evaluate", str(run)]) == 2
    assert "holds no classifier" in capsys.readouterr().err
    assert bridle.load(run).sample(2).shape == (2, 1, 8, 8)

    # An overwritten run has the classifier that it is given now, not the one that the folder kept.
    assert main([*command, str(own), "--seed", "1"]) == 0
    assert main(["train", *given, *SMALL, "--out", str(run), "--overwrite"]) == 0
    assert torch.equal(load_classifier(kept).head.weight, load_classifier(own).head.weight)


def test_without_a_classifier_one_is_trained_first_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "STEPS", 3)
    for name in ("a", "b"):
        assert main(["train", "--constraints.fre", "0.5", *SMALL, "--out", str(tmp_path / name)]) == 0
        assert ("classifier: step 3/3" in capsys.readouterr().err) == (name == "a")
    assert (tmp_path / "a" / "metrics.csv").read_bytes() == (tmp_path / "b" / "metrics.csv").read_bytes()

    # Neither the cache nor where the folder lies matters to a run that has begun.
    shutil.rmtree(tmp_path / "cache")
    run = (tmp_path / "b").rename(tmp_path / "moved")
    assert main(["evaluate", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--steps", "9"]) == 0
    assert "classifier: step" not in capsys.readouterr().err and not (tmp_path / "cache").exists()
    shutil.rmtree(run / "classifiers")
    assert main(["evaluate", str(run)]) == 2
    assert "lacks the classifier that constraints.fre looked through" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_cla_needs_labels_in_all_that_is_measured(classifier: Path) -> None:
    class Part(DataSet):
        classes = 10

        def split(self, name: SplitName) -> TensorSplit:
            split = Digits().split(name)
            return TensorSplit(split.images, None if name == unlabelled else split.labels, levels=16)

    config = TrainConfig(constraints=Constraints(cla=0.9), cla=ClassifierOptions(str(classifier)))
    for unlabelled in ("train", "test"):
        with pytest.raises(ConfigError, match=f"the data have no labels in the {unlabelled} split"):
            check_constraints(config, (1, 8, 8), Part())
    unlabelled = "validation"
    check_constraints(config, (1, 8, 8), Part())
    config.constrain_on = "validation"
    with pytest.raises(ConfigError, match="the data have no labels in the validation split"):
        check_constraints(config, (1, 8, 8), Part())


def test_the_rate_is_bounded_and_the_error_minimised() -> None:
    objective = build_objective(TrainConfig(constraints=Constraints(kl=7.0)), (1, 8, 8), 1 / 16)
    x_hat, kl = torch.full((4, 1, 8, 8), 0.5, requires_grad=True), torch.full((4,), 7.0, requires_grad=True)
    from bridle.constraints import Reconstruction

    r = Reconstruction(torch.zeros(4, 1, 8, 8), x_hat, kl)
    out = objective(r)
    # At its price it would be an ELBO with the best sigma: as many nats for the error as for the rate. It starts at 32
    # times that.
    sigma = 0.5
    nll = ((r.x - x_hat).square().sum(dim=(1, 2, 3)) / (2 * sigma**2) + 32 * r.kl).mean()
    wanted = torch.autograd.grad(nll, (x_hat, kl))
    got = torch.autograd.grad(out.loss, (x_hat, kl))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--constraints.pncc 1", "constraints.pncc: kappa must lie in (0, 1), got 1"),
        ("--constraints.cla 1.5", "constraints.cla: kappa must lie in (0, 1), got 1.5"),
        ("--constraints.pncc 0.5 --pncc.patch 9", "pncc.patch 9 is greater than the images, 8x8"),
        ("--constraints.re 0.1 --pncc.patch 4", "pncc.* says what constraints.pncc compares: give --constraints.pncc"),
        ("--constraints.kl 5 --constraints.re 0.1", "constraints.kl minimises the error that constraints.re bounds"),
        ("--constraints.fre 0.5 --fre.classifier absent", "absent holds no classifier"),
        ("--constraints.fre 0.5 --fre.classifier {c} --fre.layer layer9", "has no layer 'layer9': there are layer"),
        ("--constraints.fre 0.3 --fre.layer layr2", "has no layer 'layr2': there are layer2"),
        ("--constraints.lpips 0.3 --lpips.layers []", "lpips.layers is empty"),
        ("--constraints.fre 0.3 --constraints.pncc 0.5 --pncc.patch 9", "pncc.patch 9 is greater than the images, 8x8"),
        ("--constraints.fre 0.5 --geco.alpha 1", "geco.alpha must be in [0, 1), got 1"),
        ("--constraints.fre 0.5 --geco.rate -1", "geco.rate must be positive and finite, got -1"),
        ("--constraints.fre 0.5 --fre.layr x", "unknown option --fre.layr: there are --fre.layer"),
        ("--constraints.lpips 0.5 --lpips.classifier {c} --lpips.layers []", "lpips.layers is empty"),
        ("--data ImageFolder --data.root {f} --constraints.fre 0.5", "ImageFolder has no labels to train a classifier"),
        ("--data ImageFolder --data.root {f} --constraints.cla 0.5 --cla.classifier {c}", "the data have no labels"),
    ],
)
def test_refusals_are_one_line(
    command: str, message: str, tmp_path: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    (tmp_path / "folder").mkdir()
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "folder" / f"{i}.png")
    words = command.format(c=classifier, f=tmp_path / "folder").split()
    assert main(["train", *words, *SMALL, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if "read in" not in line]
    assert message in error and len(lines) == 1, error
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache" / "classifiers").exists()


def test_options_of_constraints_are_in_config_yaml(tmp_path: Path) -> None:
    config = TrainConfig(constraints=Constraints(pncc=0.5, l1=0.1), pncc=PatchOptions(patch=4, random=3))
    folder = RunFolder(tmp_path)
    folder.write_config(config)
    assert folder.read_config() == config
