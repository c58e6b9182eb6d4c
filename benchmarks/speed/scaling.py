"""Time and memory against what a user may choose: steps of ConvDRAW, batch, image size, images, constraints, runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.speed.timing import table
from bridle.files import write_whole
from bridle.reports.style import COLOURS, FONT, new_figure, style

__all__ = ["measure"]


class Curve(NamedTuple):
    """``axis`` is what grows, through ``values``, as the setting ``name`` of a kind of point."""

    axis: str
    kind: str
    name: str
    values: Sequence[int]
    settings: dict[str, Any]


STEPS, SIZES = (2, 4, 8, 16, 32), (16, 32, 64, 128)
CURVES = {
    "ConvDRAW's T": Curve("T", "draw", "steps", STEPS, {}),
    "T, recomputed": Curve("T", "draw", "steps", STEPS, {"recompute": True}),
    "batch": Curve("batch", "draw", "batch", (8, 16, 32, 64, 128), {}),
    "image side": Curve("pixels a side", "draw", "side", SIZES, {"batch": 4}),
    "images": Curve("training images", "images", "n", (1_000, 10_000, 100_000, 300_000), {}),
    "constraints": Curve("constraints", "constraints", "number", (1, 4, 16, 64, 256), {}),
    "stacked runs": Curve("stacked runs", "runs", "number", (1, 2, 4, 8, 16), {}),
}
PANELS = (
    ("ConvDRAW's T", "T, recomputed"),
    ("batch",),
    ("image side",),
    ("images",),
    ("constraints",),
    ("stacked runs",),
)
PLOT = "images/scaling.png"
SHARED = ("--data", "Digits", "--model", "ConvDRAW", "--preset", "tiny", "--constraints.re", "0.1")
TRAINED = (100, 300)
"""Steps of a short and a long training, whose difference is told."""


def measure(page: Path | None) -> list[str]:
    """The tables, and beside the page that they are for, if there is one, the plot."""
    points = {name: [_point(curve, value) for value in curve.values] for name, curve in CURVES.items()}
    rows = [
        [name, _listed(curve.values), _listed(_times(points[name])), _listed(_megabytes(points[name]))]
        for name, curve in CURVES.items()
    ]
    if page is not None:
        _draw(points, page.parent / PLOT)
    return [
        "## Scaling",
        "A step, and the most memory that its process took beyond its imports; each point in a process of its own. "
        "ConvDRAW as at `small` on 32x32 (T 6, batch 16; batch 4 where the image grows), ConvVAE as at `small` where "
        "the images are counted and as at `tiny` where runs are stacked, constraints by themselves.",
        *([f"![time and memory]({PLOT})"] if page is not None else []),
        table(["what grows", "to", "ms", "MB"], rows),
        "ConvDRAW on Digits by `bridle train`, a step of one batch of 64:",
        table(["processes", "threads of each", "ms"], _processes()),
    ]


def _point(curve: Curve, value: int) -> dict[str, float]:
    given = {"kind": curve.kind, "threads": torch.get_num_threads(), curve.name: value, **curve.settings}
    command = [sys.executable, "-m", "benchmarks.speed.point", json.dumps(given)]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    point: dict[str, float] = json.loads(made.stdout)
    return point


def _processes() -> list[list[str]]:
    """One process with two threads beside two of one, which share a batch by gloo (nccl where there are devices)."""
    rows = []
    for processes, threads in ((1, 2), (2, 1)):
        short, long = (_trained(processes, threads, steps) for steps in TRAINED)
        rows.append([str(processes), str(threads), f"{1e3 * (long - short) / (TRAINED[1] - TRAINED[0]):.1f}"])
    return rows


def _trained(processes: int, threads: int, steps: int) -> float:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        size = ["--steps", str(steps), "--checkpoint_every", str(steps), "--out", str(run)]
        subprocess.run(
            [sys.executable, *launch, "-m", "bridle", "train", *SHARED, *size],
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        seconds: float = json.loads((run / "summary.json").read_text())["seconds"]
    return seconds


def _times(points: Sequence[dict[str, float]]) -> list[float]:
    return [1e3 * point["seconds"] for point in points]


def _megabytes(points: Sequence[dict[str, float]]) -> list[float]:
    return [point["megabytes"] for point in points]


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:,}" if isinstance(number, int) else f"{number:.3g}" for number in numbers)


def _draw(points: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Time above memory, three panels side by side."""
    figure = new_figure(10)
    grid = figure.subplots(4, 3)
    for place, names in enumerate(PANELS):
        for below, (values, unit) in enumerate(((_times, "ms"), (_megabytes, "MB"))):
            axes = grid[2 * (place // 3) + below, place % 3]
            for name, colour in zip(names, COLOURS, strict=False):
                axes.plot(CURVES[name].values, values(points[name]), marker="o", color=colour, label=name)
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.locator_params(axis="x", nbins=4)
            style(axes, CURVES[names[0]].axis, unit)
            if len(names) > 1:
                axes.legend(frameon=False, fontsize=FONT)
    with write_whole(path) as file:
        figure.savefig(file, format="png")
