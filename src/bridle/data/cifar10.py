"""CIFAR-10: photographs of ten classes, 32x32, from the official batches in Python's pickle format."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from bridle.data.base import DataSet, SplitName, TensorSplit
from bridle.data.files import Published, locate
from bridle.errors import DataError

__all__ = ["CIFAR10", "read_cifar_batch"]

# The last examples of the official training set, in the files' order, are held out for validation.
VALIDATION = 5000

_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
PUBLISHED = Published(
    name="CIFAR10",
    folder="cifar-10-batches-py",
    files=tuple(_MD5),
    md5=_MD5,
    urls={"https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz": "c58f30108f718f92721af3d95e74349a"},
)


class CIFAR10(DataSet):
    """Photographs (Krizhevsky, 2009), 32x32, three channels, ten classes.

    The splits are the first 45,000 and the last 5,000 images of the official training batches, and the official test
    batch of 10,000.

    Arguments:
        root: Folder of the Python batches, or the one that holds ``cifar-10-batches-py``, and the only one that is
            looked in. Without it they are looked for under ``BRIDLE_DATA``, then in the cache folder.
        download: Fetch the files when they are not found (170 MB).
    """

    classes = 10

    def __init__(self, root: str | None = None, download: bool = False) -> None:
        self.root = root
        self.download = download

    def split(self, name: SplitName) -> TensorSplit:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, TensorSplit]:
        *batches, test = [read_cifar_batch(path) for path in locate(PUBLISHED, self.root, self.download)]
        images = torch.cat([images for images, _ in batches])
        labels = torch.cat([labels for _, labels in batches])
        return {
            "train": TensorSplit(images[:-VALIDATION], labels[:-VALIDATION]),
            "validation": TensorSplit(images[-VALIDATION:], labels[-VALIDATION:]),
            "test": TensorSplit(*test),
        }


def read_cifar_batch(path: str | Path) -> tuple[Tensor, Tensor]:
    """The images and labels of one batch file, unpickled without running any code that the file asks for.

    Returns:
        uint8 of shape ``(N, 3, 32, 32)``, and int64 of shape ``(N,)`` with values 0 to 9.

    Raises:
        DataError: The file cannot be read, is truncated, asks for anything but arrays and plain values, or holds
            something else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="bytes").load()
    except _RefusedError as error:
        raise DataError(
            f"{path} is refused: its pickle asks for {error}, and an official batch holds only arrays and plain values"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything: EOFError, KeyError, TypeError, ...
        raise DataError(f"{path} is truncated or damaged: not a whole pickle; get the file again") from error

    data, labels = (content.get(b"data"), content.get(b"labels")) if isinstance(content, dict) else (None, None)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * 32 * 32:
        raise DataError(f"{path} is not a CIFAR-10 batch: it has no 'data', an array of rows of 3,072 bytes")
    if (
        not isinstance(labels, list)
        or len(labels) != len(data)
        or not all(isinstance(label, int) and 0 <= label < 10 for label in labels)
    ):
        raise DataError(f"{path} is not a CIFAR-10 batch: it has no 'labels', a number from 0 to 9 for each image")
    return torch.from_numpy(np.ascontiguousarray(data).reshape(-1, 3, 32, 32)), torch.tensor(labels, dtype=torch.int64)


class _RefusedError(Exception):
    """A pickle that asks for more than arrays and plain values; its message is the name asked for."""


def _dtype(name: str, align: int = 0, copy: int = 0) -> np.dtype[Any]:
    # The files give 0 and 1 for the flags, which numpy no longer takes.
    return np.dtype(name, align=bool(align), copy=bool(copy))


def _bytes(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes into a pickle that Python 2 can read; the codec is always this one.
    return text.encode("latin1")


# What the numpy at hand makes an empty array by, wherever it keeps that function.
_reconstruct = cast(Callable[..., Any], np.empty(0).__reduce__()[0])


class _PlainUnpickler(pickle.Unpickler):
    """Loads dicts, lists, tuples, bytes, strings, numbers and numpy arrays; everything else is refused before it runs.

    The names are those of old and of new numpy.
    """

    _allowed: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("_codecs", "encode"): _bytes,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None
