"""MNIST: handwritten digits, 28x28, from the official idx files."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from torch import Tensor

from bridle.data.base import DataSet, SplitName, TensorSplit
from bridle.data.files import Published, locate
from bridle.data.idx import read_idx
from bridle.errors import DataError

__all__ = ["MNIST"]

# The last examples of the official training set, in the files' order, are held out for validation.
VALIDATION = 5000

# The authors' own address no longer answers; this mirror is the one that PyTorch users fetch from.
_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"

_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_MD5_GZ = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
PUBLISHED = Published(
    name="MNIST",
    folder="MNIST/raw",
    files=tuple(_MD5),
    suffixes=("", ".gz"),
    md5=_MD5 | _MD5_GZ,
    urls={f"{_MIRROR}/{name}": md5 for name, md5 in _MD5_GZ.items()},
)


class MNIST(DataSet):
    """Handwritten digits (LeCun, Cortes), 28x28, one channel, ten classes.

    The splits are the first 55,000 and the last 5,000 images of the official training set, and the official test set
    of 10,000. The four idx files are read plain or gzipped; the plain one is preferred.

    Arguments:
        root: Folder of the idx files, or the one that holds ``MNIST/raw``, and the only one that is looked in. Without
            it the files are looked for under ``BRIDLE_DATA``, then in the cache folder.
        download: Fetch the files when they are not found (11 MB).
    """

    classes = 10

    def __init__(self, root: str | None = None, download: bool = False) -> None:
        self.root = root
        self.download = download

    def split(self, name: SplitName) -> TensorSplit:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, TensorSplit]:
        train_images, train_labels, test_images, test_labels = locate(PUBLISHED, self.root, self.download)
        images, labels = _examples(train_images, train_labels)
        return {
            "train": TensorSplit(images[:-VALIDATION], labels[:-VALIDATION]),
            "validation": TensorSplit(images[-VALIDATION:], labels[-VALIDATION:]),
            "test": TensorSplit(*_examples(test_images, test_labels)),
        }


def _examples(image_path: Path, label_path: Path) -> tuple[Tensor, Tensor]:
    """Images, uint8 ``(N, 1, H, W)``, and labels, int64 ``(N,)``."""
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{image_path} and {label_path} do not belong together: shapes {tuple(images.shape)}, {tuple(labels.shape)}"
        )
    return images.unsqueeze(1), labels.long()
