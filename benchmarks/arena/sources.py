"""The arena's data sets: training images, labels and contexts of each as tensors in memory."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bridle.data import CIFAR10, MNIST, Batch, ColorMNIST, DataSet, Digits, MNISTRotate, MNISTSum, Split, SplitName

__all__ = ["SOURCES", "InMemory", "InMemorySplit", "source"]

MOST = 10_000
"""Images of a split that are used: its first ones."""


class InMemorySplit:
    """The first 10,000 examples of a split as float32 in memory, so that a batch is one indexing.

    Arguments:
        split: The split.
        pool: Side in pixels of the squares whose mean is one pixel here.
    """

    def __init__(self, split: Split, pool: int) -> None:
        x, self.labels, self.contexts = split.batch(torch.arange(min(MOST, len(split))))
        self.images = F.avg_pool2d(x, pool) if pool > 1 else x
        self.image_shape = _shape(self.images)
        self.context_shape = None if self.contexts is None else _shape(self.contexts)
        self.bin = split.bin

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Batch:
        return Batch(
            self.images[index],
            None if self.labels is None else self.labels[index],
            None if self.contexts is None else self.contexts[index],
        )

    def to(self, device: torch.device) -> InMemorySplit:
        moved = copy(self)
        moved.images = self.images.to(device)
        moved.labels = None if self.labels is None else self.labels.to(device)
        moved.contexts = None if self.contexts is None else self.contexts.to(device)
        return moved


class InMemory(DataSet):
    """A data set cut to its first images, smaller by mean pooling.

    Arguments:
        whole: The data set.
        pool: Side in pixels of the squares whose mean is one pixel here.
    """

    def __init__(self, whole: DataSet, pool: int = 1) -> None:
        self.whole, self.pool, self.classes = whole, pool, whole.classes
        self._splits: dict[SplitName, InMemorySplit] = {}

    def split(self, name: SplitName) -> InMemorySplit:
        if name not in self._splits:
            self._splits[name] = InMemorySplit(self.whole.split(name), self.pool)
        return self._splits[name]


SOURCES: dict[str, Callable[[], DataSet]] = {
    "digits": lambda: InMemory(Digits()),
    "mnist14": lambda: InMemory(MNIST(), pool=2),
    "mnist28": lambda: InMemory(MNIST()),
    "colormnist14": lambda: InMemory(ColorMNIST(), pool=2),
    "cifar16": lambda: InMemory(CIFAR10(), pool=2),
    "digits-rotate": lambda: InMemory(MNISTRotate(base="Digits")),
    "digits-sum": lambda: InMemory(MNISTSum(base="Digits")),
    "mnist": MNIST,
    "cifar10": CIFAR10,
}
"""The data sets by name; the last two are whole, for ``full_size.py``. MNIST and CIFAR-10 are looked for under
``BRIDLE_DATA``, as everywhere in Bridle."""


@cache
def source(name: str) -> DataSet:
    """The data set of this name, read once in a process.

    Raises:
        DataError: Its files are not there.
    """
    return SOURCES[name]()


def _shape(images: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = images.shape
    return channels, height, width
