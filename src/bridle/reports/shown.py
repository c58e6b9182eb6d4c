"""Which images of a data set pages show, and how."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bridle.data import Batch, DataSet
from bridle.reports.grids import side_by_side

__all__ = ["as_shown", "examples"]


def examples(data: DataSet, n: int) -> Batch:
    """The first ``n`` test examples, or all if there are fewer."""
    test = data.split("test")
    return test.batch(torch.arange(min(n, len(test))))


def as_shown(data: DataSet) -> Callable[[Tensor], Tensor]:
    """Images as they are, or with their channels side by side where these are no colours."""
    return (lambda x: x) if data.colored else side_by_side
