"""The default rule beside Algorithm 1 by the paper's own protocol, scaled down to runs of a few thousand steps.

The paper trains with Adam at 1e-5 (ConvDRAW) and 1e-6 (VAE+NVP), a moving average of 0.99 and multipliers from one. It
gives no number of steps; by experience such rates need about a million. So the learning rate of a run of N steps is
the paper's times a million over N, constant to its end, and everything else is as the paper has it. The constant of
Algorithm 1, which the paper leaves open, is the best of a grid: chosen for each model by seed 0, by the most runs
settled, and of equals by the fewest steps. The default has no setting. With ``--times 4`` all runs are four times as
long, and the learning rate and the grid are a quarter: nearer to the paper's, in which a step moves next to nothing.

A row is in the CSV as soon as its run is finished; the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from benchmarks.arena.contestants import setting_name
from benchmarks.arena.intervals import bootstrap, geometric_mean
from benchmarks.arena.problems import SIZES
from benchmarks.arena.rows import Row, RowFile
from bridle.errors import TrainingError
from bridle.training import ClassSpec, Constraints, TrainConfig, train
from bridle.training.config import Geco

DATA = "Digits"
PAPER_STEPS = 1_000_000
PAPER_LR = {"ConvDRAW": 1e-5, "NVPVAE": 1e-6}
STEPS = {"ConvDRAW": 4000, "NVPVAE": 6000}
KAPPAS = (0.1, 0.125, 0.175)
SEEDS = (0, 1, 2)
RATES = (0.03, 0.1, 0.3, 1.0)
KEY = ("data", "model", "rule", "kappa", "seed", "steps")
COLUMNS = (*KEY, "rmse", "kl", "multiplier", "state", "settled_at", "status")


@dataclass(frozen=True)
class Run:
    """One training; ``rate`` of Algorithm 1, None for the default rule; ``times`` as long as the shortest."""

    data: str
    model: str
    times: int
    rate: float | None
    kappa: float
    seed: int

    @property
    def steps(self) -> int:
        return self.times * STEPS[self.model]

    @property
    def lr(self) -> float:
        return PAPER_LR[self.model] * PAPER_STEPS / self.steps

    @property
    def rule(self) -> str:
        return "default" if self.rate is None else f"algorithm1,{setting_name({'rate': self.rate})}"

    @property
    def key(self) -> tuple[str, ...]:
        return (self.data, self.model, self.rule, f"{self.kappa:g}", str(self.seed), str(self.steps))

    def config(self) -> TrainConfig:
        return TrainConfig(
            data=ClassSpec(f"bridle.data.{self.data}"),
            model=ClassSpec(f"bridle.models.{self.model}", dict(SIZES[self.model])),
            constraints=Constraints(re=self.kappa),
            geco=Geco() if self.rate is None else Geco("algorithm1", self.rate, alpha=0.99),
            steps=self.steps,
            batch=64,
            lr=self.lr,
            lr_final=self.lr,
            seed=self.seed,
            device="cpu",
        )


def done(run: Run, file: RowFile, out: Path) -> Row:
    """A run's row, made where the file does not have it."""
    if (row := file.read().get(run.key)) is not None:
        return row
    new: dict[str, object] = dict.fromkeys(COLUMNS, "") | dict(zip(KEY, run.key, strict=True))
    try:
        summary = train(run.config(), out / ",".join(run.key), overwrite=True)
    except TrainingError as error:
        new["status"] = f"failed: {' '.join(str(error).split())[:100]}"
    else:
        re = summary["constraints"]["re"]
        new |= {"rmse": re["value"], "kl": summary["kl_train"], "multiplier": re["multiplier"], "status": "ok"}
        new |= {"state": re["state"], "settled_at": re["settled_at"]}
    file.append(new)
    return file.read()[run.key]


def settle_steps(row: Row) -> float:
    """Steps until a run settled; all of its steps where it never did."""
    return float(row["settled_at"] or row["steps"])


def best_rate(data: str, model: str, times: int, file: RowFile, out: Path) -> float:
    """The setting of Algorithm 1 that settles the most runs of seed 0, and of equals in the fewest steps."""

    def rank(rate: float) -> tuple[int, float]:
        rows = [done(Run(data, model, times, rate, kappa, SEEDS[0]), file, out) for kappa in KAPPAS]
        return sum(bool(row["settled_at"]) for row in rows), -sum(math.log(settle_steps(row)) for row in rows)

    return max((rate / times for rate in RATES), key=rank)


def table(data: str, model: str, times: int, rate: float, file: RowFile, out: Path) -> Iterator[str]:
    """Both rules at each kappa, the seeds of each parted by commas."""
    yield "| kappa | rule | settled at | RMSE / kappa | KL, nats | multiplier, relative |\n|---|---|---|---|---|---|"
    for kappa in KAPPAS:
        for at in (None, rate):
            runs = [Run(data, model, times, at, kappa, seed) for seed in SEEDS]
            rows = [done(run, file, out) for run in runs]
            cells = [
                ", ".join(f"{int(row['settled_at']):,}" if row["settled_at"] else "never" for row in rows),
                ", ".join(f"{float(row['rmse']) / kappa:.3f}" if row["rmse"] else "not finite" for row in rows),
                ", ".join(f"{float(row['kl']):.2f}" if row["kl"] else "" for row in rows),
                ", ".join(f"{relative_multiplier(row):.3g}" if row["kl"] else "" for row in rows),
            ]
            yield f"| {kappa:g} | {runs[0].rule} | {' | '.join(cells)} |"


def relative_multiplier(row: Row) -> float:
    """Of ``C`` relative to the bound, kappa squared: Algorithm 1's is that of the difference."""
    scale = 1.0 if row["rule"] == "default" else float(row["kappa"]) ** 2
    return float(row["multiplier"]) * scale


def verdict(data: str, model: str, times: int, rate: float, file: RowFile, out: Path) -> Iterator[str]:
    """How many runs settled, and the ratios of steps and of KL at kappa, with intervals of 95% over all runs."""
    pairs = [
        [done(Run(data, model, times, at, kappa, seed), file, out) for at in (None, rate)]
        for kappa in KAPPAS
        for seed in SEEDS
    ]
    for column, name in enumerate(("default", "algorithm1")):
        rows = [pair[column] for pair in pairs]
        off = [abs(float(row["rmse"]) / float(row["kappa"]) - 1) for row in rows if row["rmse"]]
        yield (
            f"{name}: settled {sum(bool(row['settled_at']) for row in rows)} of {len(rows)}, {len(off)} finite, off "
            f"kappa by {100 * statistics.median(off or [math.nan]):.1f}% in the median and "
            f"{100 * max(off, default=math.nan):.1f}% at most"
        )
    steps = bootstrap([settle_steps(ours) / settle_steps(theirs) for ours, theirs in pairs], geometric_mean)
    yield f"settle steps of the default over Algorithm 1's: {steps.value:.2f} ({steps.low:.2f} to {steps.high:.2f})"
    both = [pair for pair in pairs if all(row["settled_at"] for row in pair)]
    # The multiplier of the default is the price of what either is off kappa.
    at_kappa = [[kl_at_kappa(row, relative_multiplier(pair[0])) for row in pair] for pair in both]
    if at_kappa:
        rates = bootstrap([ours / theirs for ours, theirs in at_kappa], geometric_mean)
        yield (
            f"KL at kappa of the default over Algorithm 1's, where both settled ({len(both)} runs): "
            f"{rates.value:.3f} ({rates.low:.3f} to {rates.high:.3f})"
        )


def kl_at_kappa(row: Row, multiplier: float) -> float:
    return float(row["kl"]) + multiplier * ((float(row["rmse"]) / float(row["kappa"])) ** 2 - 1)


def report(data: str, models: Sequence[str], times: int, file: RowFile, out: Path) -> None:
    grid = ", ".join(f"{rate / times:g}" for rate in RATES)
    for model in models:
        rate = best_rate(data, model, times, file, out)
        run = Run(data, model, times, rate, KAPPAS[0], SEEDS[0])
        print(f"\n## {model}, {data}: {run.steps:,} steps of 64 at {run.lr:.2g}; Algorithm 1: {rate:g}, of {grid}\n")
        lines = [*table(data, model, times, rate, file, out), "", *verdict(data, model, times, rate, file, out)]
        print(*lines, sep="\n")
    print(f"\ntorch {torch.__version__}, {date.today()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(PAPER_LR), choices=list(PAPER_LR))
    parser.add_argument("--times", type=int, default=1, help="how many times as long the runs are")
    parser.add_argument("--results", type=Path, default=Path("results/protocol.csv"))
    parser.add_argument("--out", type=Path, default=Path("runs/protocol"), help="folder of the runs")
    given = parser.parse_args()
    report(DATA, given.models, given.times, RowFile(given.results, COLUMNS, KEY), given.out)


if __name__ == "__main__":
    main()
