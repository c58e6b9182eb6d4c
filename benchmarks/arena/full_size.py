"""The arena's MNIST and CIFAR-10 problems with whole images, all of them, and models of the preset "small".

    python -m benchmarks.arena.full_size --workers 16 --device cuda

It is for a GPU: on two cores it takes days. There is no budget, since nothing is tuned here: a run is about twice as
long as the arena's longest budget, and has to be settled by its end. Nor is there an oracle; ``fixed`` is the same
training with the multipliers that ours ended with on that seed, from its first step to its last: the rate to compare
with. Peers have the settings of the final. A row is in the CSV as soon as its run is finished; the same command goes on
where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.arena.contestants import CONTESTANTS, Contestant, Fixed, Setting
from benchmarks.arena.intervals import bootstrap, geometric_mean, wilson
from benchmarks.arena.oracle import SLACK, trained_at
from benchmarks.arena.pool import run_all
from benchmarks.arena.problems import PROBLEMS, Problem
from benchmarks.arena.rows import Row, RowFile
from benchmarks.arena.scores import Answer, Score, judge, lagrangian
from benchmarks.arena.terms import Terms, built
from benchmarks.arena.trajectory import Trajectory
from benchmarks.arena.trial import run
from bridle.errors import ConfigError
from bridle.training.presets import Preset, preset_for

__all__ = ["FULL_SIZE", "FullSize", "Job", "jobs", "table"]

WHOLE = {"mnist14": "mnist", "mnist28": "mnist", "cifar16": "cifar10"}
"""The whole data set of each that is made smaller."""

PEERS: dict[str, Setting] = {
    "algorithm1": {"scale": "mean", "nu": 0.1},
    "softplus": {"ascent": "adam", "rate": 0.03},
    "mdmm": {"rate": 0.3, "damping": 1000},
}
"""The paper's rule, and the peers that came next to ours on the problems set aside, in rate and in steps."""

Array = NDArray[np.float64]

ENTERED = ("bridle", *PEERS, "fixed")
ORDER = (("bridle", 0), ("algorithm1", 0), ("fixed", 0), ("bridle", 1), ("mdmm", 0), ("bridle", 2), ("softplus", 0))
"""What is run first, in case that time is short: contestants and seeds."""

STEPS = {"ConvVAE": 10_000, "NVPVAE": 10_000, "ConvDRAW": 4_000}
"""Steps at the learning rate 1e-3; at 3e-4 twice as many."""

KEY = ("problem", "contestant", "seed", "steps")
COLUMNS = (*KEY, "kind", "success", *Score._fields, "multipliers", "device", "seconds", "status")


class FullSize(Problem):
    """A problem of the arena with the whole data set; the model, and the batch where the problem states none, are those
    of the preset "small"."""

    @property
    def preset(self) -> Preset:
        return preset_for(self.model, "small")

    @property
    def batch(self) -> int:
        return self.images or self.preset.batch

    @property
    def settings(self) -> dict[str, int]:
        return self.preset.model | dict(self.changed)

    @property
    def steps(self) -> int:
        return STEPS[self.model] * (2 if self.lr < 1e-3 else 1)


FULL_SIZE: dict[str, FullSize] = {
    large.name: large
    for problem in PROBLEMS.values()
    if problem.data in WHOLE
    for large in [FullSize(**vars(replace(problem, data=WHOLE[problem.data])))]
}
"""The problems by name."""


@dataclass(frozen=True)
class Job:
    """A run to be made; ``times``: its steps over the problem's."""

    problem: str
    contestant: str
    seed: int
    times: float = 1.0

    @property
    def steps(self) -> int:
        return 10 * round(self.times * FULL_SIZE[self.problem].steps / 10)

    @property
    def key(self) -> tuple[str, ...]:
        return (self.problem, self.contestant, str(self.seed), str(self.steps))


def jobs(times: float) -> Iterator[Job]:
    """What is to be run, the longest runs of each contestant first."""
    names = sorted(FULL_SIZE, key=lambda name: (FULL_SIZE[name].model != "ConvDRAW", -FULL_SIZE[name].steps))
    for contestant, seed in ORDER:
        for name in names:
            if contestant != "fixed" or FULL_SIZE[name].kind == "feasible":
                yield Job(name, contestant, seed, times)


@cache
def terms_on(name: str, device: str) -> Terms:
    """The constraints of a problem on a device, built once in a process."""
    return built(FULL_SIZE[name], device)


def do(job: Job, file: RowFile, out: Path, device: str) -> str:
    """Makes a job's row; what came of it in a line."""
    problem, terms = FULL_SIZE[job.problem], terms_on(job.problem, device)
    row: dict[str, object] = {**dict.fromkeys(COLUMNS, ""), **dict(zip(KEY, job.key, strict=True))}
    row |= {"kind": problem.kind, "device": _name(device), "status": "ok"}
    setting = PEERS.get(job.contestant) or CONTESTANTS["bridle"].grid[0]

    def enter(terms: Terms) -> Contestant:
        if job.contestant == "fixed":
            return Fixed(terms, _ended(replace(job, contestant="bridle"), terms, file))
        return CONTESTANTS[job.contestant].make(terms, **setting)

    began = time.monotonic()
    try:
        trajectory = run(problem, enter, job.seed, job.steps, terms)
    except Exception as error:
        row["status"] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        file.append(row)
        return str(row["status"])
    trajectory.save(out / ",".join((job.problem, job.contestant, f"seed{job.seed}.npz")))
    multipliers = trajectory.multipliers[-20:].astype(np.float64).mean(axis=0)
    score = scored(trajectory, terms, problem, multipliers)
    row |= score._asdict() | {
        "success": score.success(problem.kind, job.steps),
        "c": ";".join(f"{c:.6g}" for c in score.c),
        "multipliers": ";".join(f"{multiplier:.6g}" for multiplier in multipliers),
        "seconds": time.monotonic() - began,
    }
    file.append(row)
    return f"settled {score.settled}, {100 * score.accuracy:.1f}% off, KL {score.kl:.3g}, {row['seconds']:.0f} s"


def scored(trajectory: Trajectory, terms: Terms, problem: Problem, multipliers: Array) -> Score:
    """The scores of a run, by the contest's rules. Which of its constraints are slack, its last multipliers say: those
    below a share of their price, as for the oracle."""
    active = multipliers >= SLACK * terms.price.double().cpu().numpy()
    return judge(
        trajectory, terms.yardstick, Answer(np.where(active, multipliers, 0.0), terms.yardstick.kappa), problem.kind
    )


def _ended(job: Job, terms: Terms, file: RowFile) -> list[float]:
    """The multipliers that a run ended with, as soon as it has."""
    while (row := file.read().get(job.key)) is None:
        time.sleep(1)
    if row["status"] != "ok":
        raise ConfigError(f"{job.problem}: ours ended with no multipliers to train with")
    ended, price = np.array(numbers(row["multipliers"])), terms.price.double().cpu().numpy()
    return trained_at(np.where(ended >= SLACK * price, ended, 0.0), price).tolist()


def without_ours(todo: Sequence[Job], have: Container[tuple[str, ...]]) -> str | None:
    """A problem whose ``fixed`` would wait for a run of ours that is neither there nor to be made; None if all is
    well."""
    made = {job.key for job in todo}
    for job in todo:
        if job.contestant == "fixed" and (key := replace(job, contestant="bridle").key) not in made and key not in have:
            return job.problem
    return None


def numbers(cell: str) -> list[float]:
    """The numbers of a cell."""
    return [float(number) for number in cell.split(";")]


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device


def paid(row: Row, fixed: Row) -> float:
    """``KL + lambda C``, nats, at the multipliers of ``fixed``."""
    return lagrangian(float(row["kl"]), np.array(numbers(row["c"])), np.array(numbers(fixed["multipliers"])))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Each problem's first seed, then what can be said of each contestant, with intervals of 95%."""
    by = {(row["contestant"], row["problem"], row["seed"]): row for row in rows}
    entered = [name for name in ENTERED if any(row["contestant"] == name for row in rows)]
    yield f"| problem | steps | {' | '.join(entered)} |"
    yield "|---|---|" + "---|" * len(entered)
    for name in FULL_SIZE:
        steps = next((f"{int(row['steps']):,}" for row in rows if row["problem"] == name), "")
        cells = []
        for contestant in entered:
            own = [row for (c, p, _), row in by.items() if (c, p) == (contestant, name)]
            cells.append("; ".join(told(row, by.get(("fixed", name, row["seed"]))) for row in own))
        yield f"| {name} | {steps} | {' | '.join(cells)} |"
    yield ""
    yield (
        "| contestant | seeds | success | off kappa: median, 95th percentile | settle steps over ours "
        "| rate over fixed: median, 95th percentile |"
    )
    yield "|---|---|---|---|---|---|"
    for contestant in entered:
        own = [row for row in rows if row["contestant"] == contestant]
        success = wilson(sum(row["success"] == "1" for row in own), len(own))
        off = [
            float(row["accuracy"]) for row in own if row["kind"] == "feasible" and row["accuracy"] not in ("", "nan")
        ]
        ratios, over = [], []
        for row in own:
            ours = by.get(("bridle", row["problem"], row["seed"]))
            fixed = by.get(("fixed", row["problem"], row["seed"]))
            if row["kind"] == "feasible" and ours is not None:
                ratios.append(settle_steps(row) / settle_steps(ours))
            if fixed is not None and row["within"] == "1" and fixed["within"] == "1":
                over.append(paid(row, fixed) / paid(fixed, fixed) - 1)
        ratio = bootstrap(ratios, geometric_mean)
        yield (
            f"| {contestant} | {len({row['seed'] for row in own})} | {success.value * len(own):.0f} of {len(own)} "
            f"({success.low:.0%} to {success.high:.0%}) | {_quantiles(off)} | {ratio.value:.2f} ({ratio.low:.2f} to "
            f"{ratio.high:.2f}) | {_quantiles(over)} ({len(over)} runs) |"
        )


def told(row: Row, fixed: Row | None) -> str:
    """A run in a cell: when it settled, how far off kappa it ended, its KL, and its rate over that of ``fixed``."""
    if row["status"] != "ok":
        return "failed"
    if row["finite"] != "1":
        return "not finite"
    if row["kind"] != "feasible":
        return f"{row['state'] or 'says nothing'}, KL {float(row['kl']):.3g}"
    settled = f"{int(row['settled']):,}" if row["settled"] else "never"
    over = "" if fixed is None or fixed is row else f" ({paid(row, fixed) / paid(fixed, fixed) - 1:+.1%})"
    return f"{settled}, {float(row['accuracy']):.1%} off, KL {float(row['kl']):.3g}{over}"


def settle_steps(row: Row) -> float:
    """Steps until a run settled; all of its steps where it never did."""
    return float(row["settled"] or row["steps"])


def _quantiles(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{np.quantile(values, 0.5):.1%}, {np.quantile(values, 0.95):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--times", type=float, default=1.0, help="how many times the steps, to try it out")
    parser.add_argument("--only", default="*", help="PROBLEM/CONTESTANT, such as 'mnist-*/bridle'")
    parser.add_argument("--limit-minutes", type=float, help="begin nothing new after so many")
    parser.add_argument("--results", type=Path, default=Path("results/arena/full_size.csv"))
    parser.add_argument("--out", type=Path, default=Path("runs/full_size"), help="folder of the trajectories")
    given = parser.parse_args()
    file = RowFile(given.results, COLUMNS, KEY)
    have, every = file.read(), list(jobs(given.times))
    todo = [job for job in every if job.key not in have and fnmatchcase(f"{job.problem}/{job.contestant}", given.only)]
    if waiting := without_ours(todo, have):
        parser.error(f"{waiting} needs the multipliers that ours ended with: let --only choose {waiting}/bridle too")
    tasks = [(" ".join(job.key), partial(do, job, file, given.out, given.device)) for job in todo]
    left = run_all(tasks, given.workers, given.limit_minutes) if tasks else 0
    rows = file.read()
    print(*table([rows[job.key] for job in every if job.key in rows]), sep="\n")
    if left:
        print(f"\n{left} left: the same command goes on")


if __name__ == "__main__":
    main()
