"""Data sets of triplets of digits: stacked, or with some of the three as the context of the others."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bridle.data.base import Batch, TensorSplit
from bridle.data.composed import Composed
from bridle.data.rotation import rotate
from bridle.errors import DataError

__all__ = ["ColorMNIST", "MNISTRotate", "MNISTSum", "MNISTSumHard", "MNISTTriplets", "TripletSplit"]

DEGREES = 30
"""What a digit of one turns another one by in MNISTRotate."""

Places = tuple[int, ...]


class TripletSplit:
    """A split whose examples are put together of three base images (I0, I1, I2) each.

    Arguments:
        base: Images of one channel and their labels.
        triplets: The three base images of each example: int64, shape ``(N, 3)``.
        target: Which of the three are the channels of ``x``.
        context: Which of the three are the channels of the context; none without a context.
        named: Which of the three labels, read as the digits of one number, are ``label``.
        turned: Turn ``x`` counter-clockwise by 30 degrees times the label of I1.

    ``digits`` holds the labels of all three, int64, shape ``(N, 3)``; ``labels`` those that :meth:`batch` gives, shape
    ``(N,)``. ``bin`` is the base set's; turned digits lie between its grey values, since they are interpolated.

    Example:
        >>> base = TensorSplit(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([1, 3, 4, 7]))
        >>> split = TripletSplit(base, torch.tensor([[1, 2, 3], [0, 0, 0]]), (2,), context=(0, 1), named=(0, 2))
        >>> batch = split.batch(torch.tensor([0]))
        >>> batch.x.shape, batch.context.shape, batch.label, split.digits[0]
        (torch.Size([1, 1, 8, 8]), torch.Size([1, 2, 8, 8]), tensor([37]), tensor([3, 4, 7]))
    """

    def __init__(
        self,
        base: TensorSplit,
        triplets: Tensor,
        target: Places,
        context: Places = (),
        named: Places = (2,),
        turned: bool = False,
    ) -> None:
        assert base.labels is not None
        self.base, self.triplets = base, triplets
        self.target, self.context, self.named, self.turned = target, context, named, turned
        self.digits = base.labels[triplets]
        self.labels = torch.zeros_like(self.digits[:, 0])
        for place in named:
            self.labels = 10 * self.labels + self.digits[:, place]
        _, height, width = base.image_shape
        self.image_shape = (len(target), height, width)
        self.context_shape = (len(context), height, width) if context else None
        self.bin = base.bin
        # Chosen here, since an index made in every batch would be a copy to the device in every batch.
        self._x, self._context = triplets[:, list(target)], triplets[:, list(context)]

    def __len__(self) -> int:
        return len(self.triplets)

    def batch(self, index: Tensor) -> Batch:
        x = self._pick(self._x[index])
        if self.turned:
            x = rotate(x, DEGREES * self.digits[index, 1])
        return Batch(x, self.labels[index], self._pick(self._context[index]) if self.context else None)

    def to(self, device: torch.device) -> TripletSplit:
        return TripletSplit(
            self.base.to(device), self.triplets.to(device), self.target, self.context, self.named, self.turned
        )

    def _pick(self, index: Tensor) -> Tensor:
        """The base images of an index of shape ``(B, K)``, as ``(B, K, H, W)``."""
        return self.base.images[index].flatten(1, 2).to(torch.float32).div_(self.base.levels)


class _Triplets(Composed):
    target: ClassVar[Places]
    context: ClassVar[Places] = ()
    named: ClassVar[Places]
    turned: ClassVar[bool] = False

    def _compose(self, base: TensorSplit, random: np.random.RandomState) -> TripletSplit:
        assert base.labels is not None
        labels = base.labels.numpy()
        # Every base image is I0 once and I1 once.
        first, second = np.arange(len(base)), random.permutation(len(base))
        third = self._third(first, second, labels, random)
        triplets = torch.from_numpy(np.stack([first, second, third], 1).astype(np.int64))
        return TripletSplit(base, triplets, self.target, self.context, self.named, self.turned)

    @abstractmethod
    def _third(
        self, first: np.ndarray, second: np.ndarray, labels: np.ndarray, random: np.random.RandomState
    ) -> np.ndarray:
        """I2 of every example, given I0 and I1: numbers of base images, shape ``(N,)``."""


class _Sum(_Triplets):
    def _third(
        self, first: np.ndarray, second: np.ndarray, labels: np.ndarray, random: np.random.RandomState
    ) -> np.ndarray:
        return _any_with_label((labels[first] + labels[second]) % 10, labels, random)


class ColorMNIST(_Triplets):
    """Three digits as red, green and blue: 1,000 modes.

    After Metz et al., *Unrolled Generative Adversarial Networks* (2016). Every base image is used once in each
    channel: channel 0 in the base set's order, channels 1 and 2 in random ones. The label is the three digits as one
    number, 0 to 999, red first.
    """

    classes = 1000
    target, named = (0, 1, 2), (0, 1, 2)

    def _third(
        self, first: np.ndarray, second: np.ndarray, labels: np.ndarray, random: np.random.RandomState
    ) -> np.ndarray:
        return random.permutation(len(labels))


class MNISTTriplets(_Sum):
    """Three digits as channels, the third the sum of the first two, modulo 10.

    Every base image is I0 once and I1 once; I2 is drawn from those with the right label. The label is the first two
    digits as one number, 0 to 99, which decides the third.
    """

    classes = 100
    colored = False
    target, named = (0, 1, 2), (0, 1)


class MNISTSum(_Sum):
    """Given two digits, a digit that is their sum modulo 10.

    The triplets are those of MNISTTriplets with the same base and seed: the context is (I0, I1), two channels, and the
    target I2. The label is the target's digit.
    """

    classes = 10
    target, context, named = (2,), (0, 1), (2,)


class MNISTSumHard(_Sum):
    """Given a digit, two digits of which it is the sum modulo 10: ten right answers each.

    The triplets are those of MNISTTriplets with the same base and seed: the context is I2, and the target (I0, I1), two
    channels. The label is the target's two digits as one number, 0 to 99.
    """

    classes = 100
    target, context, named = (0, 1), (2,), (0, 1)


class MNISTRotate(_Triplets):
    """Given two digits, another instance of the first one, turned by 30 degrees times the second.

    Every base image is I0 once and I1 once; I2 is drawn from the others with the label of I0. The context is (I0, I1),
    two channels, and the target I2, turned counter-clockwise about its centre by bilinear interpolation. The label is
    the target's digit; ``split(...).digits[:, 1]`` is the second digit, hence the angle.
    """

    classes = 10
    target, context, named, turned = (2,), (0, 1), (2,), True

    def _third(
        self, first: np.ndarray, second: np.ndarray, labels: np.ndarray, random: np.random.RandomState
    ) -> np.ndarray:
        return _another_with_label(first, labels, random)


def _any_with_label(wanted: np.ndarray, labels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """For each wanted label, an example that has it, each as likely as the others."""
    order, start, count = _by_label(labels)
    _refuse_fewer(1, count, wanted)
    return order[start[wanted] + _below(count[wanted], random)]


def _another_with_label(index: np.ndarray, labels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """For each example, another one with its label, each of the others as likely."""
    order, start, count = _by_label(labels)
    own = labels[index]
    _refuse_fewer(2, count, own)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    # A step of 1 to count - 1 round the examples of the label never ends where it began.
    step = 1 + _below(count[own] - 1, random)
    return order[start[own] + (place[index] - start[own] + step) % count[own]]


def _by_label(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The examples sorted by label, and where each of the ten labels starts among them and how many it has."""
    count = np.bincount(labels, minlength=10)
    return np.argsort(labels, kind="stable"), np.cumsum(count) - count, count


def _below(limit: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Whole numbers from 0 to below each limit."""
    return (random.random_sample(len(limit)) * limit).astype(np.int64)


def _refuse_fewer(least: int, count: np.ndarray, wanted: np.ndarray) -> None:
    if (few := np.unique(wanted[count[wanted] < least])).size:
        raise DataError(
            f"triplets need at least {least} example{'s' * (least > 1)} of each digit in a split, "
            f"and one has {count[few[0]]} of digit {few[0]}; use a larger base set"
        )
