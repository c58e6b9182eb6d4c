"""Digits: shapes, ranges, the fixed split, and labels that belong to their images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from bridle.data import DataSet, Digits, SplitName

Labels = Callable[[DataSet, SplitName], Tensor]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def test_shapes_range_and_bin() -> None:
    data = Digits()
    assert data.classes == 10
    assert [len(data.split(name)) for name in SPLITS] == [1297, 250, 250]
    for name in SPLITS:
        split = data.split(name)
        batch = split.batch(torch.arange(len(split)))
        assert split.image_shape == (1, 8, 8) and split.context_shape is None and split.bin == 1 / 16
        assert batch.x.dtype == torch.float32 and batch.x.min() == 0 and batch.x.max() == 1
        assert torch.equal(batch.x * 16, (batch.x * 16).round())
        assert batch.label is not None and batch.label.dtype == torch.int64 and batch.context is None
        assert set(batch.label.tolist()) == set(range(10))


def test_splits_are_a_partition_with_the_right_labels(labels_of: Labels) -> None:
    data = Digits()
    images = torch.cat([data.split(name).images for name in SPLITS]).flatten(1).long()
    found = torch.cat([images, torch.cat([labels_of(data, name) for name in SPLITS])[:, None]], 1)
    digits = load_digits()
    expected = torch.cat([torch.tensor(digits.data).long(), torch.tensor(digits.target).long()[:, None]], 1)
    assert sorted(found.tolist()) == sorted(expected.tolist())
    assert not torch.equal(found, expected)  # shuffled: scikit-learn's order is by writer


def test_split_is_the_same_everywhere(labels_of: Labels) -> None:
    # Frozen: a change of these numbers changes every published result on Digits.
    assert labels_of(Digits(), "train")[:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5]
    assert labels_of(Digits(), "validation")[:10].tolist() == [0, 9, 6, 9, 8, 4, 5, 8, 1, 6]
    assert labels_of(Digits(), "test")[:10].tolist() == [1, 0, 5, 6, 6, 8, 0, 7, 0, 4]


def test_read_once() -> None:
    data = Digits()
    assert data.split("test") is data.split("test")
