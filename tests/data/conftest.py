"""Helpers of the tests of data: the real files where they are at hand, and drawn ones in the official layouts."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from bridle.data import DataSet, SplitName, TensorSplit, cifar10, mnist
from bridle.errors import BridleError, DataError


@pytest.fixture
def real_data() -> str:
    """The folder of the official files, which ``BRIDLE_DATA`` names."""
    folder = os.environ.get("BRIDLE_DATA")
    if not folder:
        pytest.skip("BRIDLE_DATA does not name a folder with MNIST/raw and cifar-10-batches-py")
    return folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no ``BRIDLE_DATA``: what lies on this machine cannot be found."""
    monkeypatch.delenv("BRIDLE_DATA", raising=False)
    monkeypatch.setenv("BRIDLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def labels_of() -> Callable[[DataSet, SplitName], Tensor]:
    """The labels of a whole split."""

    def labels(data: DataSet, name: SplitName) -> Tensor:
        split = data.split(name)
        assert isinstance(split, TensorSplit) and split.labels is not None
        return split.labels

    return labels


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[None]]:
    """``with refused("truncated", path): ...`` asserts an error of one line in which all of these occur."""

    @contextmanager
    def check(*words: object, kind: type[BridleError] = DataError) -> Iterator[None]:
        with pytest.raises(kind) as error:
            yield
        message = str(error.value)
        assert message and "\n" not in message
        for word in words:
            assert str(word) in message, message

    return check


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def drawn_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The four files of an MNIST of 30 + 10 images, by name, which MNIST takes for the official ones.

    Image i is all i, of label i % 10; the last five training images are held out. The zipped files are those with
    ``.gz`` in their names.
    """
    files = {}
    for prefix, first, count in (("train", 0, 30), ("t10k", 100, 10)):
        values = np.arange(first, first + count)
        files[f"{prefix}-images-idx3-ubyte"] = idx(np.broadcast_to(values[:, None, None], (count, 28, 28)))
        files[f"{prefix}-labels-idx1-ubyte"] = idx(values % 10)
    files |= {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    sums = {name: md5(content) for name, content in files.items()}
    monkeypatch.setattr(mnist, "PUBLISHED", replace(mnist.PUBLISHED, md5=sums))
    monkeypatch.setattr(mnist, "VALIDATION", 5)
    return files


@pytest.fixture
def drawn_cifar(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The six files of a CIFAR-10 of 5 * 4 + 4 images, by name, which CIFAR10 takes for the official ones.

    Image i is i in red, 100 + i in green and 200 + i in blue; the last three training images are held out.
    """
    files = {}
    for k, name in enumerate(cifar10.PUBLISHED.files):
        values = np.arange(4 * k, 4 * k + 4)
        rows = np.repeat(values[:, None] + np.array([0, 100, 200]), 1024, axis=1).astype(np.uint8)
        files[name] = pickle.dumps({b"data": rows, b"labels": [int(v) % 10 for v in values]}, protocol=4)
    sums = {name: md5(content) for name, content in files.items()}
    monkeypatch.setattr(cifar10, "PUBLISHED", replace(cifar10.PUBLISHED, md5=sums))
    monkeypatch.setattr(cifar10, "VALIDATION", 3)
    return files


@pytest.fixture
def write() -> Callable[[Path, dict[str, bytes]], Path]:
    """Writes files into a folder, which it makes and returns."""

    def write_all(folder: Path, files: dict[str, bytes]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    return write_all
