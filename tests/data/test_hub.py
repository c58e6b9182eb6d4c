"""Data sets of the Hugging Face hub's library, from local files: no test goes to the hub."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bridle.data import HuggingFace, SplitName
from bridle.errors import ConfigError

datasets = pytest.importorskip("datasets")

Refused = Callable[..., AbstractContextManager[None]]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")


def _png(value: int, side: int = 8, colour: bool = False) -> bytes:
    """An image of one value, ``[value, 0, 9]`` in colour."""
    pixels = np.full((side, side, 3), [value, 0, 9]) if colour else np.full((side, side), value)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def _table(values: range, **columns: Any) -> Any:
    """Images and labels as the hub keeps them."""
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd", "none"])}
    rows = {"image": [{"bytes": _png(v), "path": None} for v in values], "label": [v % 2 for v in values]}
    return datasets.Dataset.from_dict(rows | columns, features=datasets.Features(features))


def _values(data: HuggingFace, name: SplitName) -> list[int]:
    return [int(v) for v in data.split(name).images[:, 0, 0, 0]]


def test_parquet_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "images.parquet"
    _table(range(50)).to_parquet(path)
    data = HuggingFace(str(path))
    with caplog.at_level(logging.INFO, "bridle"):
        assert [len(data.split(name)) for name in SPLITS] == [40, 5, 5]
    (told,) = [r.getMessage() for r in caplog.records if r.name == "bridle"]
    assert ": 40 train, 5 validation, 5 test images of 1x8x8, read in " in told
    assert sorted(v for name in SPLITS for v in _values(data, name)) == list(range(50))
    assert data.classes == 3
    for name in SPLITS:
        split = data.split(name)
        assert split.labels is not None and split.labels.tolist() == [v % 2 for v in _values(data, name)]
        assert split.bin == 1 / 255 and split.context_shape is None
    assert data.split("train") is data.split("train")
    batch = data.split("test").batch(torch.tensor([1]))
    assert batch.x.flatten().tolist() == pytest.approx([_values(data, "test")[1] / 255] * 64)


def test_held_out_images_depend_on_their_bytes(tmp_path: Path) -> None:
    for name, values in (("a", range(50)), ("b", range(49, -1, -1)), ("c", range(52))):
        _table(values).to_parquet(tmp_path / f"{name}.parquet")
    a, b, c = (HuggingFace(str(tmp_path / f"{name}.parquet")) for name in "abc")
    for name in SPLITS:
        assert set(_values(a, name)) == set(_values(b, name))
    assert len(set(_values(c, "test")) - set(_values(a, "test"))) <= 2


def test_equal_images_fall_into_one_split(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    _table(range(5)).to_parquet(path)
    order = _values(HuggingFace(str(path)), "validation") + _values(HuggingFace(str(path)), "test")
    # Of 12 images one each is held out: the two that come first are there five times, on both sides of the first cut.
    rows = [_png(v) for v in [*range(5), *(5 - 1) * order[:1], *(4 - 1) * order[1:]]]
    datasets.Dataset.from_dict({"image": rows}).to_parquet(path)
    data = HuggingFace(str(path))
    assert [_values(data, "validation"), _values(data, "test")] == [5 * order[:1], 4 * order[1:]]
    assert sorted(_values(data, "train")) == sorted(set(range(5)) - set(order))


def test_folder_with_its_own_splits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    _table(range(30)).to_parquet(folder / "train.parquet")
    _table(range(30, 37)).to_parquet(folder / "test.parquet")
    data = HuggingFace(str(folder))
    assert _values(data, "test") == list(range(30, 37))
    assert [len(data.split(name)) for name in SPLITS] == [27, 3, 7]
    _table(range(37, 42)).to_parquet(folder / "validation.parquet")
    assert _values(HuggingFace(str(folder)), "validation") == list(range(37, 42))
    assert _values(HuggingFace(str(folder)), "train") == list(range(30))


def test_files_that_others_wrote(tmp_path: Path) -> None:
    """Bytes without any word of what they are, as pandas or Spark write them; whole numbers as labels."""
    rows = {"picture": [_png(v, colour=True) for v in range(20)], "digit": [v % 7 for v in range(20)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    data = HuggingFace(str(tmp_path / "a.parquet"))
    assert data.split("train").image_shape == (3, 8, 8) and data.classes is None
    assert data.split("train").images[:, 1:, 0, 0].unique(dim=0).tolist() == [[0, 9]]
    labelled = HuggingFace(str(tmp_path / "a.parquet"), label="digit")
    assert labelled.classes == 7
    labels = labelled.split("train").labels
    assert labels is not None and labels.tolist() == [v % 7 for v in _values(labelled, "train")]


def test_size_and_channels(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    rows = {"image": [_png(v, side) for v, side in ((1, 20), (2, 90), (3, 30), (4, 20))]}
    datasets.Dataset.from_dict(rows).to_parquet(path)
    assert HuggingFace(path).split("train").image_shape == (1, 20, 20)
    assert HuggingFace(path, size=12, channels=3).split("train").image_shape == (3, 12, 12)
    datasets.Dataset.from_dict({"image": [_png(v, 100) for v in range(4)]}).to_parquet(path)
    assert HuggingFace(path).split("train").image_shape == (1, 64, 64)


def test_rows_without_an_image_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "a.parquet")
    images = [_png(v) for v in range(12)]
    rows = {"image": [*images[:5], None, *images[5:10], images[10][:40], b"text"], "label": list(range(13))}
    datasets.Dataset.from_dict(rows).to_parquet(path)
    data = HuggingFace(path, label="label")
    with caplog.at_level(logging.WARNING, "bridle"):
        assert sorted(v for name in SPLITS for v in _values(data, name)) == list(range(10))
    assert len(caplog.messages) == 1 and "3 of 13 rows skipped; row 5: it has no image" in caplog.messages[0]
    for name in SPLITS:
        expected = [v + (v >= 5) for v in _values(data, name)]
        assert data.split(name).labels.tolist() == expected  # type: ignore[union-attr]


def test_labels_that_are_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    _table(range(20)).to_parquet(folder / "train.parquet")
    _table(range(20, 25), label=[-1] * 5).to_parquet(folder / "test.parquet")
    data = HuggingFace(str(folder))
    with caplog.at_level(logging.WARNING, "bridle"):
        assert data.split("test").labels is None and data.split("train").labels is not None
    assert "labels are left out" in caplog.text


def test_wrong_columns(tmp_path: Path, refused: Refused) -> None:
    path = str(tmp_path / "a.parquet")
    rows = {"left": [_png(v) for v in range(5)], "right": [_png(v) for v in range(5)], "name": list("abcde")}
    datasets.Dataset.from_dict(rows).to_parquet(path)
    with refused("left, right", "--data.image", kind=ConfigError):
        HuggingFace(path).split("train")
    with refused("'middle'", "left, right, name", kind=ConfigError):
        HuggingFace(path, image="middle").split("train")
    with refused("'name' holds no images", kind=ConfigError):
        HuggingFace(path, image="name").split("train")
    with refused("'name' holds no whole numbers", kind=ConfigError):
        HuggingFace(path, image="left", label="name").split("train")
    assert len(HuggingFace(path, image="right").split("train")) == 3
    datasets.Dataset.from_dict({"name": ["a"]}).to_parquet(path)
    with refused("no column of images", "name"):
        HuggingFace(path).split("train")


def test_too_few_or_no_images(tmp_path: Path, refused: Refused) -> None:
    path = str(tmp_path / "a.parquet")
    datasets.Dataset.from_dict({"image": [_png(1), _png(2)]}).to_parquet(path)
    with refused("too few images, 2, 2 of them different"):
        HuggingFace(path).split("train")
    datasets.Dataset.from_dict({"image": 20 * [_png(1)]}).to_parquet(path)
    with refused("too few images, 20, 1 of them different"):
        HuggingFace(path).split("train")
    datasets.Dataset.from_dict({"image": [b"text"]}).to_parquet(path)
    with refused("no image that can be read", "row 0"):
        HuggingFace(path).split("train")


def test_cannot_be_loaded(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    HuggingFace("someone/something")  # reads nothing
    with refused("--data.path", kind=ConfigError):
        HuggingFace().split("train")
    with refused("absent.parquet does not exist"):
        HuggingFace("absent.parquet").split("train")
    with refused("does not exist"):
        HuggingFace(str(tmp_path / "absent")).split("train")
    (tmp_path / "damaged.parquet").write_bytes(b"text")
    with refused("damaged.parquet cannot be loaded"):
        HuggingFace(str(tmp_path / "damaged.parquet")).split("train")
    (tmp_path / "empty").mkdir()
    with refused("empty cannot be loaded"):
        HuggingFace(str(tmp_path / "empty")).split("train")

    def offline(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with refused("someone/something cannot be loaded: Couldn't reach the Hub"):
        HuggingFace("someone/something").split("train")


def test_without_the_library(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refused("pip install bridle[hub]"):
        HuggingFace("someone/something").split("train")


def test_two_splits_for_one(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"train": _table(range(9)), "val": _table(range(9, 12)), "validation": _table(range(12, 15))}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: found)
    with refused("several splits for validation: its splits are train, val, validation"):
        HuggingFace("someone/something").split("train")


def test_bad_settings(refused: Refused) -> None:
    with refused("subset is 'b', and a parquet file has none", kind=ConfigError):
        HuggingFace("a.parquet", subset="b")
    with refused("size is 0", kind=ConfigError):
        HuggingFace("a", size=0)
    with refused("channels is 2", kind=ConfigError):
        HuggingFace("a", channels=2)  # type: ignore[arg-type]
