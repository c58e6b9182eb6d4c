"""MNIST and the idx format: the official files, drawn ones, and damaged ones."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridle.data import MNIST, DataSet, SplitName
from bridle.data import mnist as module
from bridle.data.files import Published
from bridle.data.idx import read_idx

Labels = Callable[[DataSet, SplitName], Tensor]
Refused = Callable[..., AbstractContextManager[None]]
Write = Callable[[Path, dict[str, bytes]], Path]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def test_official_files(real_data: str, labels_of: Labels) -> None:
    data = MNIST()
    assert data.classes == 10
    assert [len(data.split(name)) for name in SPLITS] == [55_000, 5_000, 10_000]
    train, validation = data.split("train"), data.split("validation")
    assert train.image_shape == (1, 28, 28) and train.context_shape is None and train.bin == 1 / 255
    # The published beginnings of the two label files, and the published mean and deviation of the 60,000 images.
    assert labels_of(data, "train")[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert labels_of(data, "test")[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    pixels = torch.cat([train.images, validation.images]).numpy()
    assert pixels.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    x = train.batch(torch.arange(1000)).x
    assert x.dtype == torch.float32 and x.min() == 0 and x.max() == 1
    # A zero has ink around its centre and a one has it there: the images belong to the labels.
    centre = x[:, 0, 13:15, 13:15].mean((1, 2))
    labels = labels_of(data, "train")[:1000]
    assert centre[labels == 0].mean() < 0.1
    assert centre[labels == 1].mean() > 0.7


def test_official_zipped_files_hold_the_same(real_data: str) -> None:
    raw = Path(real_data, "MNIST", "raw")
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        assert torch.equal(read_idx(raw / name), read_idx(raw / f"{name}.gz"))
    assert {path.name for path in raw.iterdir()} == set(module.PUBLISHED.md5)


@pytest.mark.parametrize("zipped", [False, True])
def test_drawn_files(
    tmp_path: Path, drawn_mnist: dict[str, bytes], write: Write, labels_of: Labels, zipped: bool
) -> None:
    root = write(tmp_path / "data", {n: c for n, c in drawn_mnist.items() if n.endswith(".gz") == zipped})
    data = MNIST(str(root))
    expected = {"train": range(25), "validation": range(25, 30), "test": range(100, 110)}
    for name in SPLITS:
        split = data.split(name)
        assert split.images[:, 0, 3, 4].tolist() == list(expected[name])
        assert labels_of(data, name).tolist() == [value % 10 for value in expected[name]]
        assert split.image_shape == (1, 28, 28) and labels_of(data, name).dtype == torch.int64


def test_plain_file_is_preferred(tmp_path: Path, drawn_mnist: dict[str, bytes], write: Write) -> None:
    damaged = {name: b"\x1f\x8bdamaged" if name.endswith(".gz") else c for name, c in drawn_mnist.items()}
    assert len(MNIST(str(write(tmp_path, damaged))).split("test")) == 10


def test_files_are_read_once(tmp_path: Path, drawn_mnist: dict[str, bytes], write: Write) -> None:
    root = write(tmp_path / "data", drawn_mnist)
    data = MNIST(str(root))
    train = data.split("train")
    for path in root.iterdir():
        path.unlink()
    assert len(data.split("test")) == 10 and data.split("train") is train


def test_constructor_reads_nothing(tmp_path: Path) -> None:
    MNIST(str(tmp_path / "absent"), download=True)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_wrong_checksum(
    tmp_path: Path, drawn_mnist: dict[str, bytes], write: Write, refused: Refused, name: str
) -> None:
    files = {n: c for n, c in drawn_mnist.items() if n.endswith(".gz") == name.endswith(".gz")}
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    with refused(name, "md5", module.PUBLISHED.md5[name], "delete it"):
        MNIST(str(write(tmp_path, files))).split("train")


def test_images_and_labels_of_different_files(
    tmp_path: Path,
    drawn_mnist: dict[str, bytes],
    write: Write,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PUBLISHED", Published("MNIST", "MNIST/raw", module.PUBLISHED.files))
    files = drawn_mnist | {"train-labels-idx1-ubyte": drawn_mnist["t10k-labels-idx1-ubyte"]}
    with refused("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "do not belong together"):
        MNIST(str(write(tmp_path, files))).split("train")


HEADER = struct.pack(">BBBBII", 0, 0, 8, 2, 2, 3)


# mtime=0: the two processes of the suite name the tests by these bytes.
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEADER + bytes(5), ("truncated", "17 bytes", "promises 18", "again")),
        (HEADER[:-2], ("truncated", "header", "10 of 12")),
        (HEADER + bytes(7), ("damaged", "19 bytes", "promises 18")),
        (b"", ("not an idx file", "nothing")),
        (b"<html>not found</html>", ("not an idx file", "3c 68 74 6d")),
        (b"\0\0\x0d" + HEADER[3:] + bytes(24), ("unsigned bytes", "0x0d")),
        (gzip.compress(HEADER + bytes(6), mtime=0)[:-9], ("truncated", "unzipped")),
        (gzip.compress(HEADER + bytes(5), mtime=0), ("truncated", "17 bytes")),
        (b"\x1f\x8b" + bytes(40), ("damaged", "unzipped")),
    ],
)
def test_bad_idx_file(tmp_path: Path, refused: Refused, content: bytes, words: tuple[str, ...]) -> None:
    path = tmp_path / "drawn-idx"
    path.write_bytes(content)
    with refused(path, *words):
        read_idx(path)


def test_absent_idx_file(tmp_path: Path, refused: Refused) -> None:
    with refused(tmp_path / "absent", "cannot be read"):
        read_idx(tmp_path / "absent")
    with refused(tmp_path, "cannot be read"):
        read_idx(tmp_path)
