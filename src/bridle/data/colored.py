"""Digits in one colour each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bridle.data.base import Batch, TensorSplit
from bridle.data.composed import Composed

__all__ = ["ColoredMNIST", "ColoredSplit"]


class ColoredSplit:
    """A split of grey images, each shown in a colour of its own on black.

    Arguments:
        base: Images of one channel, and their labels.
        colors: Red, green and blue of each image in [0, 1], float32, shape ``(N, 3)``.

    ``bin`` is the base set's; the products of grey value and colour lie between its values.
    """

    def __init__(self, base: TensorSplit, colors: Tensor) -> None:
        self.base, self.colors = base, colors
        _, height, width = base.image_shape
        self.image_shape: tuple[int, int, int] = (3, height, width)
        self.context_shape: tuple[int, int, int] | None = None
        self.bin = base.bin

    def __len__(self) -> int:
        return len(self.base)

    def batch(self, index: Tensor) -> Batch:
        grey, label, _ = self.base.batch(index)
        return Batch(grey * self.colors[index, :, None, None], label)

    def to(self, device: torch.device) -> ColoredSplit:
        return ColoredSplit(self.base.to(device), self.colors.to(device))


class ColoredMNIST(Composed):
    """A digit in a random colour on black, three channels.

    The images are the base set's, in its order. A colour is a hue, uniform over the circle, at full saturation and
    value. The label is the digit.
    """

    classes = 10

    def _compose(self, base: TensorSplit, random: np.random.RandomState) -> ColoredSplit:
        hue = 6 * random.random_sample((len(base), 1))
        # How far the hue is from red, green and blue on a circle of 6: full up to 1 away, nothing from 2 on.
        away = np.abs((hue - [0, 2, 4] + 3) % 6 - 3)
        return ColoredSplit(base, torch.from_numpy((2 - away).clip(0, 1).astype(np.float32)))
