"""The classifier: its network, its training, its files, and its cache."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from bridle.classifiers import (
    Classifier,
    accuracy,
    default_classifier,
    load_classifier,
    store,
    train_and_save,
    train_classifier,
)
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


def test_training_leaves_the_random_state_of_accelerators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    train_classifier(Digits(), steps=1, width=4, blocks=1)
    assert not seeded
    torch.manual_seed(0)
    assert seeded


def test_accuracy_is_that_of_eval_mode_and_changes_nothing() -> None:
    network = train_classifier(Digits(), steps=20, width=4, blocks=1)
    wanted = accuracy(network, Digits().split("test"))
    before = {name: tensor.clone() for name, tensor in network.train().state_dict().items()}
    assert accuracy(network, Digits().split("test")) == wanted and network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(ConfigError, match="a split without labels"):
        accuracy(network, Unlabelled().split("test"))
    assert network.training


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


class HalfLabelled(Unlabelled):
    """Labels for training alone, as hub sets with -1 for the test's labels give them."""

    classes = 2

    def split(self, name: SplitName) -> TensorSplit:
        split = super().split(name)
        return TensorSplit(split.images, torch.arange(8) % 2) if name == "train" else split


def test_what_would_fail_after_the_training_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(store, "train_classifier", trained)
    monkeypatch.setenv("BRIDLE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="HalfLabelled has no labels in the test split to train a classifier on"):
        train_and_save(HalfLabelled(), tmp_path / "c")
    with pytest.raises(ConfigError, match=r"HalfLabelled has no labels in the test split .* give one by --cla"):
        default_classifier(HalfLabelled(), "cla")
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "c"):
        with pytest.raises(ConfigError, match=rf"{out} cannot be a classifier's folder: .*file is a file"):
            train_and_save(Digits(), out)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=rf"{tmp_path} may not be written to"):
        train_and_save(Digits(), tmp_path / "c" / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Unlabelled has no labels to train a classifier on"):
        train_classifier(Unlabelled())
    with pytest.raises(ConfigError, match=r"constraints.fre: Unlabelled has no labels .* give one by --fre.classifier"):
        default_classifier(Unlabelled(), "fre")
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


class Painted(DataSet):
    """Digits with some pixels or labels changed, none of them among the first or last."""

    classes = 10

    def __init__(self, root: str = "", pixel: int = 0, label: int = 0) -> None:
        self.pixel, self.label = pixel, label

    def split(self, name: SplitName) -> TensorSplit:
        digits = Digits().split(name)
        assert digits.labels is not None
        images, labels = digits.images.clone(), digits.labels.clone()
        images[100, 0, 0, 0] += self.pixel
        labels[100] = (labels[100] + self.label) % 10
        return TensorSplit(images, labels, levels=16)


def test_the_cache_is_used_and_told_apart_by_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDLE_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "STEPS", 2)
    first = default_classifier(Painted(), "fre")
    (cached,) = (tmp_path / "classifiers").iterdir()
    before = (cached / "classifier.pt").stat().st_mtime_ns
    again = default_classifier(Painted(root="elsewhere"), "cla")
    assert (cached / "classifier.pt").stat().st_mtime_ns == before
    assert torch.equal(first.head.weight, again.head.weight)
    for count, other in ((2, Painted(pixel=1)), (3, Painted(label=1)), (4, Digits())):
        default_classifier(other, "fre")
        assert len(list((tmp_path / "classifiers").iterdir())) == count
