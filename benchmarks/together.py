"""Five runs that differ in kappa, trained together against one after another; see README.md beside this file.

The two take turns, so that whatever else the machine does falls on both; what is reported is the ratio of their
medians. What counts is the time of training, without that of reading the data and of measuring the finished runs; to
keep the latter short, each split is cut to its first images.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

from bridle.data import DataSet, SplitName, TensorSplit
from bridle.training import ClassSpec, Constraints, TrainConfig, train
from bridle.training.build import build_data
from bridle.training.presets import PRESETS, PresetName
from bridle.training.together import train_together

KAPPAS = (0.06, 0.08, 0.1, 0.125, 0.175)
IMAGES = 1000


class First(DataSet):
    """The first images of each split of a data set in memory."""

    def __init__(self, whole: DataSet) -> None:
        self.whole = whole

    def split(self, name: SplitName) -> TensorSplit:
        split = self.whole.split(name)
        assert isinstance(split, TensorSplit)
        return TensorSplit(split.images[:IMAGES], levels=split.levels)


class Problem(NamedTuple):
    """A data set, the preset of the models for it, and how many steps a round has."""

    data: str
    preset: PresetName
    steps: int


PROBLEMS = {"digits": Problem("Digits", "tiny", 100), "mnist": Problem("MNIST", "small", 20)}


class Result(NamedTuple):
    """Medians over the rounds, in ms: a step of all five runs."""

    one_by_one: float
    together: float


def configs(family: str, problem: Problem) -> list[TrainConfig]:
    preset = PRESETS[family][problem.preset]
    return [
        TrainConfig(
            data=ClassSpec(f"bridle.data.{problem.data}"),
            model=ClassSpec(f"bridle.models.{family}", dict(preset.model)),
            constraints=Constraints(re=kappa),
            steps=problem.steps,
            batch=preset.batch,
            lr=preset.lr,
            checkpoint_every=problem.steps,
        )
        for kappa in KAPPAS
    ]


def measure(family: str, problem: Problem, data: DataSet, rounds: int) -> Result:
    """Trains the five in both ways in turn, each time from nothing. The first round is not counted."""
    runs = configs(family, problem)
    contestants: list[Callable[[list[Path]], list[dict[str, float]]]] = [
        lambda outs: [train(run, out, data=data) for run, out in zip(runs, outs, strict=True)],
        lambda outs: train_together(runs, outs, data),
    ]
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(-1, rounds):
        for contestant, times in zip(contestants, taken, strict=True):
            with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
                summaries = contestant([Path(folder) / str(i) for i in range(len(runs))])
            if turn >= 0:
                times.append(1e3 * sum(summary["seconds"] for summary in summaries) / problem.steps)
    return Result(*(statistics.median(times) for times in taken))


def device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--models", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads, a row each")
    parser.add_argument("--rounds", type=int, default=5, help="trainings of each kind that are timed")
    options = parser.parse_args()

    print("# Five runs together\n")
    print(f"{device()}; Python {platform.python_version()}, torch {torch.__version__}; {date.today()}.")
    print(f"`{' '.join(['python', *sys.argv])}`: medians over {options.rounds} rounds.\n")
    print("| data | model | threads | one after another, ms | together, ms | times faster |")
    print("|---|---|---|---|---|---|")
    for name in options.data:
        problem = PROBLEMS[name]
        data = First(build_data(TrainConfig(data=ClassSpec(f"bridle.data.{problem.data}"))))
        for family in options.models:
            for threads in options.threads:
                torch.set_num_threads(threads)
                result = measure(family, problem, data, options.rounds)
                numbers = f"{result.one_by_one:.1f} | {result.together:.1f} | {result.one_by_one / result.together:.2f}"
                print(f"| {problem.data} | {family} | {threads} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
