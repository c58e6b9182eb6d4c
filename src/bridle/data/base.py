"""What a data set is: three splits that answer any vector of indices with a batch, on the device they live on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Batch", "DataSet", "Split", "SplitName", "TensorSplit", "missing_labels"]

SplitName = Literal["train", "validation", "test"]


class Batch(NamedTuple):
    """``x``: images in [0, 1], shape ``(B, C, H, W)``, float32; ``label``: ``(B,)``, int64, or None; ``context``:
    images in [0, 1], shape ``(B, C', H', W')``, or None."""

    x: Tensor
    label: Tensor | None = None
    context: Tensor | None = None


class Split(Protocol):
    """One split of a data set.

    ``bin`` is the data's own quantisation in pixel units: 1/255 for 8-bit images, 1/16 for Digits.
    """

    image_shape: tuple[int, int, int]
    context_shape: tuple[int, int, int] | None
    bin: float

    def __len__(self) -> int:
        """Number of examples."""

    def batch(self, index: Tensor) -> Batch:
        """The examples with these indices (int64, on the split's device), without a per-item loop."""

    def to(self, device: torch.device) -> Split:
        """The same split on a device."""


class TensorSplit:
    """A split held in memory as integers, turned into [0, 1] a batch at a time.

    Arguments:
        images: uint8, shape ``(N, C, H, W)``, values 0 to ``levels``.
        labels: int64, shape ``(N,)``, or None.
        levels: The greatest pixel value (255 for 8-bit images).
        contexts: uint8, shape ``(N, C', H', W')``, of the same levels, or None.

    Example:
        >>> split = TensorSplit(torch.full((10, 1, 8, 8), 16, dtype=torch.uint8), levels=16)
        >>> split.batch(torch.tensor([3, 7])).x.mean().item(), len(split), split.image_shape
        (1.0, 10, (1, 8, 8))
    """

    def __init__(
        self, images: Tensor, labels: Tensor | None = None, levels: int = 255, contexts: Tensor | None = None
    ) -> None:
        self.images, self.labels, self.contexts = images, labels, contexts
        self.levels = levels
        self.bin = 1 / levels
        self.image_shape = _image_shape(images)
        self.context_shape = None if contexts is None else _image_shape(contexts)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Batch:
        def pick(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[index].to(torch.float32).div_(self.levels)

        x = self.images[index].to(torch.float32).div_(self.levels)
        return Batch(x, None if self.labels is None else self.labels[index], pick(self.contexts))

    def to(self, device: torch.device) -> TensorSplit:
        def move(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device)

        return TensorSplit(self.images.to(device), move(self.labels), self.levels, move(self.contexts))


class DataSet(ABC):
    """A named data set. Its constructor takes its settings, all with defaults where it can, and reads nothing long:
    the files are read by the first :meth:`split`."""

    classes: int | None = None
    """Number of classes of the labels, None where there are none."""

    colored: bool = True
    """Whether three channels are red, green and blue; else each channel is a picture by itself."""

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """The training, validation or test split: deterministic, and disjoint from the others.

        Raises:
            DataError: What is wrong with the files, and what to do, in one line.
        """


def missing_labels(data: DataSet, *names: SplitName) -> str | None:
    """What to say of labels that are not there: "no labels", or "no labels in the test split"; None where all of these
    splits have labels.

    Example:
        >>> from bridle.data import Digits
        >>> missing_labels(Digits(), "train", "test") is None
        True
    """
    if data.classes is None:
        return "no labels"
    first = torch.tensor([0])
    missing = next((name for name in names if data.split(name).batch(first).label is None), None)
    return None if missing is None else f"no labels in the {missing} split"


def _image_shape(images: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = images.shape
    return channels, height, width
