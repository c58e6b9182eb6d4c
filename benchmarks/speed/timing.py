"""Things that take turns on the clock, and how their times are told."""

from __future__ import annotations

import gc
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["Times", "device_name", "importable", "in_turn", "ratio", "table"]

Step = Callable[[], object]


class Times(NamedTuple):
    """Seconds of every round, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def milliseconds(self) -> str:
        """The median, and the quartiles, in ms."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return f"{1e3 * self.median:.3g} ({1e3 * low:.3g} to {1e3 * high:.3g})"


def in_turn(steps: Mapping[str, Step], rounds: int, warmup: int = 3) -> dict[str, Times]:
    """Times every step once a round, in an order drawn for it, so that a disturbance of the machine falls on all, and
    none has always the same one before it, which leaves the caches to it."""
    names, order = list(steps), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-warmup, rounds):
            for name in order.sample(names, len(names)):
                _wait()
                began = time.perf_counter()
                steps[name]()
                _wait()
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - began)
    finally:
        gc.enable()
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}


def ratio(above: Times, below: Times) -> str:
    """The median of the ratios within a round, and their quartiles."""
    ratios = [a / b for a, b in zip(above.seconds, below.seconds, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of Markdown.

    Example:
        >>> print(table(["a", "b"], [[1, 2]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    text = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    text[1] = "|" + "---|" * len(header)
    return "\n".join(text)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """A folder whose modules can be imported within the block."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def device_name() -> str:
    """The accelerator, or the processor and its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
