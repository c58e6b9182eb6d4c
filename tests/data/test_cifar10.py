"""CIFAR-10: the official batches, drawn ones, damaged ones, and pickles that ask for code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bridle.data import CIFAR10, DataSet, SplitName
from bridle.data import cifar10 as module
from bridle.data.cifar10 import read_cifar_batch

Labels = Callable[[DataSet, SplitName], Tensor]
Refused = Callable[..., AbstractContextManager[None]]
Write = Callable[[Path, dict[str, bytes]], Path]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@pytest.mark.filterwarnings("error")
def test_official_files(real_data: str, labels_of: Labels) -> None:
    data = CIFAR10()
    assert data.classes == 10
    train, validation, test = (data.split(name) for name in SPLITS)
    assert [len(train), len(validation), len(test)] == [45_000, 5_000, 10_000]
    assert train.image_shape == (3, 32, 32) and train.context_shape is None and train.bin == 1 / 255
    assert labels_of(data, "test").bincount().tolist() == [1000] * 10
    assert torch.cat([labels_of(data, "train"), labels_of(data, "validation")]).bincount().tolist() == [5000] * 10
    # frog, truck, truck, deer, car; cat, ship, ship, plane, frog
    assert labels_of(data, "train")[:5].tolist() == [6, 9, 9, 4, 1]
    assert labels_of(data, "test")[:5].tolist() == [3, 8, 8, 0, 6]
    # The published means of red, green and blue: the channels are not mixed up.
    pixels = torch.cat([train.images, validation.images])
    assert pixels.numpy().mean((0, 2, 3)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)
    # Nor are rows and columns: in photographs of ships it is light above, and not at either side.
    sky = test.images[labels_of(data, "test") == 8].float().mean((0, 1))
    assert sky[:8].mean() - sky[-8:].mean() > 20 and abs(sky[:, :8].mean() - sky[:, -8:].mean()) < 3


def test_drawn_files(tmp_path: Path, drawn_cifar: dict[str, bytes], write: Write, labels_of: Labels) -> None:
    data = CIFAR10(str(write(tmp_path, drawn_cifar)))
    expected = {"train": range(17), "validation": range(17, 20), "test": range(20, 24)}
    for name in SPLITS:
        split = data.split(name)
        for channel, offset in enumerate((0, 100, 200)):
            assert (split.images[:, channel].flatten(1) == split.images[:, channel, :1, 0]).all()
            assert split.images[:, channel, 0, 0].tolist() == [value + offset for value in expected[name]]
        assert labels_of(data, name).tolist() == [value % 10 for value in expected[name]]
    assert data.split("train") is data.split("train")


def test_rows_of_an_image(tmp_path: Path) -> None:
    row = np.arange(3072).astype(np.uint8)[None]
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": row, b"labels": [7]}, protocol=4))
    images, labels = read_cifar_batch(path)
    assert images.shape == (1, 3, 32, 32) and labels.tolist() == [7]
    assert images[0, 0, 1, :3].tolist() == [32, 33, 34]  # one row down is 32 bytes on


def test_wrong_checksum(tmp_path: Path, drawn_cifar: dict[str, bytes], write: Write, refused: Refused) -> None:
    drawn_cifar["data_batch_3"] += b"x"
    with refused("data_batch_3", "md5", module.PUBLISHED.md5["data_batch_3"], "delete it"):
        CIFAR10(str(write(tmp_path, drawn_cifar))).split("train")


class _Asks:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_pickle_that_asks_for_code(tmp_path: Path, refused: Refused) -> None:
    path, trace = tmp_path / "data_batch_1", tmp_path / "trace"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps({b"data": _Asks(os.mkdir, str(trace))}, protocol=protocol))
        with refused(path, "refused", f"{os.mkdir.__module__}.mkdir"):
            read_cifar_batch(path)
        assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "function"),
    [("builtins.eval", eval), ("builtins.getattr", getattr), ("numpy.frombuffer", np.frombuffer)],
)
def test_other_names_are_refused(tmp_path: Path, refused: Refused, name: str, function: Callable[..., Any]) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(_Asks(function, b""), protocol=4))
    with refused(path, "refused", name.rsplit(".")[-1]):
        read_cifar_batch(path)


def test_dotted_name_is_refused(tmp_path: Path, refused: Refused) -> None:
    # Protocol 4 may ask for an attribute of an allowed name.
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile_\x93.")
    with refused(path, "refused", "numpy.ndarray.tofile_"):
        read_cifar_batch(path)


def _batch(**changes: object) -> bytes:
    content = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 9]}
    return pickle.dumps(content | {name.encode(): value for name, value in changes.items()}, protocol=4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_batch()[:-200], ("truncated",)),
        (_batch()[:100], ("truncated",)),
        (b"", ("truncated",)),
        (b"<html>not found</html>", ("truncated or damaged",)),
        (pickle.dumps([1, 2]), ("not a CIFAR-10 batch", "'data'")),
        (_batch(data=None), ("not a CIFAR-10 batch", "'data'")),
        (_batch(data=np.zeros((2, 3072))), ("not a CIFAR-10 batch", "'data'")),
        (_batch(data=np.zeros((2, 784), np.uint8)), ("not a CIFAR-10 batch", "'data'")),
        (_batch(labels=[0]), ("not a CIFAR-10 batch", "'labels'")),
        (_batch(labels=[0, 10]), ("not a CIFAR-10 batch", "'labels'")),
        (_batch(labels=None), ("not a CIFAR-10 batch", "'labels'")),
    ],
)
def test_bad_batch(tmp_path: Path, refused: Refused, content: bytes, words: tuple[str, ...]) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with refused(path, *words):
        read_cifar_batch(path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_good_batch_is_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(pickle.loads(_batch()), protocol=protocol))
    assert read_cifar_batch(path)[1].tolist() == [0, 9]


def test_absent_batch(tmp_path: Path, refused: Refused) -> None:
    with refused(tmp_path / "absent", "cannot be read"):
        read_cifar_batch(tmp_path / "absent")
