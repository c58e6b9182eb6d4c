"""``bridle data``: what is listed, and what is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bridle import data as sets
from bridle.cli.data import contact_sheet
from bridle.cli.main import main
from bridle.data import ColoredMNIST, Digits, MNISTRotate, MNISTSumHard, MNISTTriplets

SHOWN = ["ColorMNIST", "ColoredMNIST", "MNISTTriplets", "MNISTSum", "MNISTSumHard", "MNISTRotate"]


def test_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines}
    assert listed == {"CIFAR10", "MNIST", "CelebA", "Digits", "HuggingFace", "ImageFolder", *SHOWN}
    assert listed <= set(sets.__all__)
    assert all(len(line) < 130 and line.endswith(".") for line in lines), lines


@pytest.mark.parametrize("name", SHOWN)
def test_show_composed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheets" / "grid.png"
    assert main(["data", "show", name, "--data.base", "Digits", "--n", "6", "--split", "test", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"written: {out}\n"
    with Image.open(out) as image:
        assert image.mode == "RGB" and image.width > 200 and image.height > 100


def test_show_repeats_with_its_seeds(tmp_path: Path) -> None:
    options = {"a": [], "b": ["--seed", "0", "--data.seed", "0"], "c": ["--seed", "1"], "d": ["--data.seed", "1"]}
    for name, option in options.items():
        command = ["data", "show", "MNISTRotate", "--data.base", "Digits", *option, "--out", str(tmp_path / name)]
        assert main(command) == 0
    a, b, c, d = ((tmp_path / name).read_bytes() for name in options)
    assert a == b and a != c and a != d and c != d


def test_show_by_option_and_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "show", "bridle.data.Digits", "--n", "3"]) == 0
    first = (tmp_path / "grid.png").read_bytes()
    assert main(["data", "show", "--data", "Digits", "--n", "3"]) == 0
    assert (tmp_path / "grid.png").read_bytes() == first


def test_sheet_shows_context_then_image() -> None:
    data = MNISTRotate("Digits")
    sheet = np.asarray(contact_sheet(data, "test", 1).convert("L"))
    split = data.split("test")
    batch = split.batch(torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:1])
    assert batch.context is not None
    tiles = [*batch.context[0], batch.x[0, 0]]
    # Where the title ends, two context images without a gap and, 6 pixels on, the image; 7 screen pixels a pixel.
    top = 12 + 18 + 22
    for left, tile in zip((12, 12 + 56, 12 + 112 + 6), tiles, strict=True):
        found = sheet[top + 3 : top + 56 : 7, left + 3 : left + 56 : 7] / 255
        assert np.abs(found - tile.numpy()).max() < 0.01


def test_sheet_of_every_kind_of_label() -> None:
    single = contact_sheet(Digits(), "test", 1)
    assert contact_sheet(Digits(), "test", 10_000).height > 10 * single.height  # all 250
    for data in (MNISTTriplets("Digits"), MNISTSumHard("Digits"), ColoredMNIST("Digits")):
        assert contact_sheet(data, "validation", 9).width > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["draw"], ("unknown word 'draw'", "list, show")),
        (["show", "MNISTRotat"], ("unknown data 'MNISTRotat'", "there are MNISTRotate")),
        (["show", "Digits", "--n", "0"], ("--n must be at least 1",)),
        (["show", "Digits", "--data.base", "MNIST"], ("base",)),
        (["show", "MNISTSum", "--data.base", "CIFAR10"], ("CIFAR10", "MNIST")),
        (["show", "Digits", "--split", "tset"], ("tset", "test")),
        (["show", "HuggingFace"], ("--data.path",)),
        (["show"], ("data",)),
        (["list", "--n", "3"], ("--n",)),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for word in words:
        assert word in message, message


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "bridle data show NAME" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "show", "--help"])
    assert "--split" in capsys.readouterr().out
