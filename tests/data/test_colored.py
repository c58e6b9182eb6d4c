"""Digits in one colour each."""

from __future__ import annotations

import colorsys

import numpy as np
import torch

from bridle.data import ColoredMNIST, Digits, SplitName
from bridle.data.colored import ColoredSplit

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def _split(data: ColoredMNIST, name: SplitName) -> ColoredSplit:
    split = data.split(name)
    assert isinstance(split, ColoredSplit)
    return split


def test_images_are_the_base_sets_in_one_colour() -> None:
    data, base = ColoredMNIST("Digits"), Digits()
    assert data.classes == 10
    for name in SPLITS:
        split, source = _split(data, name), base.split(name)
        index = torch.arange(len(split))
        batch, grey = split.batch(index), source.batch(index)
        assert len(split) == len(source) and split.image_shape == (3, 8, 8) and split.context_shape is None
        assert split.bin == 1 / 16 and batch.context is None
        assert batch.label is not None and grey.label is not None and torch.equal(batch.label, grey.label)
        # The brightest channel is the grey image itself, since the value is full.
        assert torch.equal(batch.x.amax(1, keepdim=True), grey.x)
        assert torch.allclose(batch.x, grey.x * split.colors[:, :, None, None])
        assert batch.x.dtype == torch.float32 and batch.x.min() == 0 and batch.x.max() == 1


def test_colours_are_all_hues() -> None:
    colors = _split(ColoredMNIST("Digits"), "train").colors
    hsv = np.array([colorsys.rgb_to_hsv(*color) for color in colors.double().tolist()])
    assert np.allclose(hsv[:, 1:], 1)
    sixths = np.bincount((hsv[:, 0] * 6).astype(int), minlength=6) / len(hsv)
    assert np.abs(sixths - 1 / 6).max() < 0.04


def test_seed() -> None:
    first, again, other = (_split(ColoredMNIST("Digits", seed=s), "test") for s in (0, 0, 1))
    assert torch.equal(first.colors, again.colors) and not torch.equal(first.colors, other.colors)
    validation = _split(ColoredMNIST("Digits"), "validation")
    assert not torch.equal(first.colors, validation.colors)


def test_device_follows() -> None:
    batch = _split(ColoredMNIST("Digits"), "test").to(torch.device("meta")).batch(torch.arange(7, device="meta"))
    assert batch.x.is_meta and batch.x.shape == (7, 3, 8, 8)
