"""What it takes until something happens."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.speed.timing import in_turn, ratio, table

__all__ = ["measure"]

ROUNDS = 7
PROGRAMS = {
    "import torch": ["-c", "import torch"],
    "import bridle": ["-c", "import bridle"],
    "import torch, and all of bridle's names": [
        "-c",
        "import torch, bridle; [getattr(bridle, n) for n in bridle.__all__]",
    ],
    "bridle --help": ["-m", "bridle", "--help"],
    "bridle train --help": ["-m", "bridle", "train", "--help"],
}
FIRST_BATCH = """
import time
from bridle.data import {name}
began = time.perf_counter()
{name}().split("train").batch(__import__("torch").arange(128))
print(time.perf_counter() - began)
"""
DATA = ("Digits", "MNIST", "CIFAR10", "ColorMNIST", "MNISTSum", "MNISTRotate")


def measure() -> list[str]:
    """The two tables."""
    times = in_turn({name: lambda p=program: _run(p) for name, program in PROGRAMS.items()}, ROUNDS, warmup=1)
    rows = [[name, times[name].milliseconds(), ratio(times[name], times["import torch"])] for name in PROGRAMS]
    return [
        "## Start",
        "The aims: `bridle --help` in under 0.7 times the time of `import torch`, and `import bridle` adds under 10% "
        "to that.",
        table(["program", "ms", "over import torch"], rows),
        "From the call to the first batch of 128, with everything imported and the files in the page cache. The aim: 2 "
        "seconds.",
        table(["data", "seconds"], [[name, _first_batch(name)] for name in DATA]),
    ]


def _run(program: list[str]) -> None:
    subprocess.run([sys.executable, *program], check=True, stdout=subprocess.DEVNULL)


def _first_batch(name: str) -> str:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        made = subprocess.run(
            [sys.executable, "-c", FIRST_BATCH.format(name=name)], check=False, capture_output=True, text=True
        )
        if made.returncode:
            return f"not measured after {time.perf_counter() - began:.1f} s: {made.stderr.splitlines()[-1]}"
        taken.append(float(made.stdout))
    return f"{sorted(taken)[1]:.2f}"
