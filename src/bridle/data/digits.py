"""Digits: real handwritten digits that come with scikit-learn, so that nothing has to be downloaded."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

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
        # Imported here because it takes a second.
        from sklearn.datasets import load_digits

        digits = load_digits()
        # RandomState, since numpy promises that its stream never changes.
        order = np.random.RandomState(0).permutation(len(digits.target))
        images = torch.from_numpy(digits.images.astype(np.uint8)[order]).unsqueeze(1)
        labels = torch.from_numpy(digits.target.astype(np.int64)[order])
        end = _TRAIN + _VALIDATION
        return {
            "train": TensorSplit(images[:_TRAIN], labels[:_TRAIN], levels=16),
            "validation": TensorSplit(images[_TRAIN:end], labels[_TRAIN:end], levels=16),
            "test": TensorSplit(images[end:], labels[end:], levels=16),
        }
