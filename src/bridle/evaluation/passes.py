"""What all measurements share: eval mode, no gradients, noise that repeats, and a split taken a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Generator, Tensor

from bridle.data import Batch, Split
from bridle.models.base import LatentModel

__all__ = ["BATCH", "SEED", "batches", "measuring", "random_points", "with_progress"]

SEED = 20180731
BATCH = 256

T = TypeVar("T")


@contextmanager
def measuring(model: LatentModel) -> Iterator[Generator]:
    """The model in eval mode and without gradients, and noise on its device from a seed of its own, so that a
    measurement repeats and disturbs no training. Afterwards the model is as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield Generator(next(model.parameters()).device).manual_seed(SEED)
    finally:
        model.train(was_training)


def batches(model: LatentModel, split: Split, index: Tensor | None = None) -> Iterator[Batch]:
    """The split, or the examples of ``index``, in batches of 256, on the model's device, where the split must be."""
    index = torch.arange(len(split)) if index is None else index
    for part in index.to(next(model.parameters()).device).split(BATCH):
        yield split.batch(part)


def random_points(split: Split, most: int) -> Tensor:
    """Indices of ``most`` different examples, or of all if there are fewer: the same ones at every call."""
    return torch.randperm(len(split), generator=Generator().manual_seed(SEED))[:most]


def with_progress(parts: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """The parts one by one, with a progress bar on a terminal, and in silence elsewhere."""
    console = Console(stderr=True)
    total = len(parts) if total is None and isinstance(parts, Sized) else total
    return track(parts, title, total, console=console, transient=True, disable=not console.is_terminal)
