"""The classifier: its network, its training, its files, and its cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bridle.classifiers import Classifier, accuracy, default_classifier, load_classifier, store, train_classifier
from bridle.cli.main import main
from bridle.data import DataSet, Digits, SplitName, TensorSplit
from bridle.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifier") / "c"
    assert main(["classifier", "train", "--data", "Digits", "--steps", "120", "--width", "8", "--out", str(out)]) == 0
    return out


def test_it_learns_and_says_how_well(folder: Path) -> None:
    info = json.loads((folder / "classifier.json").read_text())
    assert info["accuracy"] > 0.9
    assert (info["data"], info["classes"], info["image_shape"], info["steps"]) == ("Digits", 10, [1, 8, 8], 120)
    network = load_classifier(folder)
    assert not network.training
    assert accuracy(network, Digits().split("test")) == info["accuracy"]
    assert sorted(p.name for p in folder.iterdir()) == ["classifier.json", "classifier.pt"]


def test_the_command_prints_the_accuracy_and_overwrites_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["classifier", "train", "--data", "Digits", "--steps", "2", "--out"]
    assert main([*command, str(tmp_path / "c")]) == 0
    shown = capsys.readouterr()
    assert "accuracy on the test split: " in shown.out and "classifier: step 2/2" in shown.err
    before = (folder / "classifier.pt").read_bytes()
    assert main([*command, str(folder)]) == 2
    assert "holds a classifier" in capsys.readouterr().err and (folder / "classifier.pt").read_bytes() == before


def test_training_repeats_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    a, b, c = (train_classifier(Digits(), steps=3, width=4, blocks=1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert not torch.equal(a.head.weight, c.head.weight)


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_images_of_many_sizes(side: int) -> None:
    network = Classifier(channels=3, classes=7, width=4, blocks=1).eval()
    grey = torch.rand(2, 1, side, side)
    assert torch.equal(network(grey), network(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ConfigError, match="sees images of 3 channels, not 2"):
        network(torch.rand(2, 2, side, side))
    assert {"layer1", "layer2", "layer3", "layer2.0"} <= dict(network.named_modules()).keys()


class Unlabelled(DataSet):
    def split(self, name: SplitName) -> TensorSplit:
        return TensorSplit(torch.zeros(8, 1, 8, 8, dtype=torch.uint8))


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Unlabelled has no labels to train a classifier on"):
        train_classifier(Unlabelled())
    with pytest.raises(ConfigError, match=r"constraints.fre: Set has no labels .* give one by --fre.classifier"):
        default_classifier("a.Set", {}, Unlabelled(), "fre")
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        train_classifier(Digits(), steps=0)
    with pytest.raises(ConfigError, match="at least 2 classes"):
        Classifier(1, 1)
    with pytest.raises(CheckpointError, match="holds no classifier: make one by bridle classifier train"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.pt").write_bytes(b"PK not")
    with pytest.raises(CheckpointError, match="is damaged or no classifier"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("classifier", "say what to do: bridle classifier train"),
        ("classifier trian", "say what to do: bridle classifier train"),
        ("classifier train", "--out is missing"),
        ("classifier train --data Digit --out q", "unknown data 'Digit': there are Digits"),
        ("classifier train --steps 0 --out q", "steps must be at least 1"),
        ("classifier train --width 0 --out q", "width and blocks of at least 1"),
    ],
)
def test_bad_input_is_one_line(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_the_cache_is_used_and_told_apart_by_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDLE_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "_DEFAULT_STEPS", 2)
    first = default_classifier("bridle.data.Digits", {}, Digits(), "fre")
    (cached,) = (tmp_path / "classifiers").iterdir()
    before = (cached / "classifier.pt").stat().st_mtime_ns
    again = default_classifier("bridle.data.Digits", {}, Digits(), "cla")
    assert (cached / "classifier.pt").stat().st_mtime_ns == before
    assert torch.equal(first.head.weight, again.head.weight)
    default_classifier("bridle.data.Digits", {"seed": 1}, Digits(), "fre")
    assert len(list((tmp_path / "classifiers").iterdir())) == 2
