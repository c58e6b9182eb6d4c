"""Digits: real handwritten digits that come with scikit-learn, so that nothing has to be downloaded."""

from __future__ import annotations

import gzip
import importlib.util
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bridle.data.base import DataSet, SplitName, TensorSplit

__all__ = ["Digits"]

_TRAIN, _VALIDATION = 1297, 250


class Digits(DataSet):
    """Handwritten digits (UCI, by way of scikit-learn), 8x8, one channel of 17 grey values, ten classes; no download.

    The 1,797 images are put in one fixed random order and cut into 1,297 for training, 250 for validation and 250 for
    the test.

    Example:
        >>> train = Digits().split("train")
        >>> len(train), train.image_shape, train.bin
        (1297, (1, 8, 8), 0.0625)
    """

    classes = 10

    def split(self, name: SplitName) -> TensorSplit:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, TensorSplit]:
        rows = _rows()
        # RandomState, since numpy promises that its stream never changes.
        rows = rows[np.random.RandomState(0).permutation(len(rows))]
        images = torch.from_numpy(rows[:, :-1].astype(np.uint8)).view(-1, 1, 8, 8)
        labels = torch.from_numpy(rows[:, -1].astype(np.int64))
        end = _TRAIN + _VALIDATION
        return {
            "train": TensorSplit(images[:_TRAIN], labels[:_TRAIN], levels=16),
            "validation": TensorSplit(images[_TRAIN:end], labels[_TRAIN:end], levels=16),
            "test": TensorSplit(images[end:], labels[end:], levels=16),
        }


def _rows() -> NDArray[np.float64]:
    """What ``load_digits`` reads, 64 pixels and the digit a row, from the same file: to import scikit-learn, and SciPy
    with it, takes as long as a short training."""
    package = importlib.util.find_spec("sklearn")
    for folder in () if package is None else package.submodule_search_locations or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            with gzip.open(file, "rt") as lines:
                return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack((digits.data, digits.target))
