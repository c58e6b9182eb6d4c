"""What all measurements share: eval mode, no gradients, noise that repeats, and a split taken a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Generator, Tensor

from bridle.constraints import ImageConstraint
from bridle.data import Batch, Split
from bridle.models.base import LatentModel

__all__ = ["BATCH", "SEED", "batches", "measuring", "number_of_batches", "progress", "random_points"]

SEED = 20180731
BATCH = 256


@contextmanager
def measuring(model: LatentModel, *constraints: ImageConstraint) -> Iterator[Generator]:
    """The model and the constraints in eval mode and without gradients, and noise on the model's device from a seed
    of its own, so that a measurement repeats and disturbs no training. Afterwards all modes are as they were."""
    modes = [(module, module.training) for module in (model, *constraints)]
    try:
        for module, _ in modes:
            module.eval()
        with torch.no_grad():
            yield Generator(next(model.parameters()).device).manual_seed(SEED)
    finally:
        for module, was_training in modes:
            module.train(was_training)


def batches(model: LatentModel, split: Split, index: Tensor | None = None) -> Iterator[Batch]:
    """The split, or the examples of ``index``, in batches of 256, on the model's device, where the split must be."""
    index = torch.arange(len(split)) if index is None else index
    for part in index.to(next(model.parameters()).device).split(BATCH):
        yield split.batch(part)


def random_points(split: Split, most: int) -> Tensor:
    """Indices of ``most`` different examples, or of all if there are fewer: the same ones at every call."""
    return torch.randperm(len(split), generator=Generator().manual_seed(SEED))[:most]


def number_of_batches(examples: int) -> int:
    """How many batches :func:`batches` makes of so many examples."""
    return math.ceil(examples / BATCH)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, and nothing elsewhere: what it gives is to be called after each of ``total``
    steps."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
