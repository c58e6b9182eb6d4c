"""What is done for a row, and the files that it ends in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.ablation import ABLATION
from benchmarks.arena.by_hand import by_hand
from benchmarks.arena.contestants import CONTESTANTS, Contestant, Fixed, Setting, setting_name
from benchmarks.arena.oracle import Oracle, active, consult, trained_at
from benchmarks.arena.problems import PROBLEMS, SET_ASIDE
from benchmarks.arena.rows import KEY, RowFile, claim
from benchmarks.arena.scores import Answer, Score, judge, reached, settled_of_itself
from benchmarks.arena.terms import Terms, terms_of
from benchmarks.arena.trajectory import Trajectory
from benchmarks.arena.trial import run
from bridle.errors import ConfigError

__all__ = [
    "WITHOUT_AIM",
    "Folders",
    "Job",
    "consult_oracle",
    "do",
    "find_price",
    "oracle_of",
    "price_of",
    "trajectory_file",
]

Array = NDArray[np.float64]

_ORACLE_COLUMNS = (
    "problem",
    "multipliers",
    "values",
    "kl",
    "settled",
    "budget",
    "oracle_steps",
    "trainings",
    "note",
    "status",
)
_PRICE_COLUMNS = ("problem", "steps", "multipliers", "values", "kl", "trainings", "note", "status")
_SCORE_COLUMNS = (
    "success",
    "settled",
    "finite",
    "accuracy",
    "value",
    "within",
    "kl",
    "c",
    "overshoot",
    "multiplier",
    "state",
    "alarms",
)


WITHOUT_AIM = {"oracle": settled_of_itself, "error_alone": reached}
"""What stands for the settling of those that know nothing of kappa: fixed multipliers, and no rate in the loss."""


@dataclass(frozen=True)
class Folders:
    """Where results go.

    ``results``: the CSV files, which are committed; ``out``: the trajectories, which are not.
    """

    results: Path
    out: Path

    @property
    def oracle(self) -> RowFile:
        """The oracle's answers and the budgets, a row a problem."""
        return RowFile(self.results / "oracle.csv", _ORACLE_COLUMNS, ("problem",))

    @property
    def prices(self) -> RowFile:
        """The right multipliers of trainings of other lengths, a row a problem and length."""
        return RowFile(self.results / "prices.csv", _PRICE_COLUMNS, ("problem", "steps"))

    @property
    def rows(self) -> RowFile:
        """The scores, a row a run and length."""
        return RowFile(self.results / "rows.csv", (*KEY, "budget", "aside", *_SCORE_COLUMNS, "seconds", "status"), KEY)


@dataclass(frozen=True)
class Job:
    """A run to be made: its problem, contestant, setting and seed, and the lengths in steps at which it is scored,
    each a row."""

    problem: str
    contestant: str
    setting: Setting = field(default_factory=dict)
    seed: int = 0
    lengths: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """It in one line."""
        return " ".join(filter(None, (self.problem, self.contestant, setting_name(self.setting), f"seed {self.seed}")))

    def key(self, steps: int) -> tuple[str, ...]:
        """The key of its row."""
        return (self.problem, self.contestant, setting_name(self.setting), str(self.seed), str(steps))


def consult_oracle(name: str, folders: Folders) -> str:
    """Finds the oracle's multipliers of a problem and writes their row, with the budget, unless it is there; what
    became of it in one line. Its trainings are kept, so that a search that was broken off goes on where it was."""
    return _search(name, PROBLEMS[name].oracle_steps, folders.oracle, "oracle_steps", (name,), folders)


def find_price(name: str, steps: int, folders: Folders) -> str:
    """Finds the right multipliers of a training of so many steps: the longer it is, the lower they are, since the model
    gets better at both rate and error. Writes their row as :func:`consult_oracle` does."""
    return _search(name, steps, folders.prices, "steps", (name, str(steps)), folders)


def _search(name: str, steps: int, file: RowFile, steps_column: str, key: tuple[str, ...], folders: Folders) -> str:
    with claim(folders.out / "claims", (file.path.stem, *key)) as mine:
        if not mine or key in file.read():
            return "in other hands"
        row: dict[str, object] = {**dict.fromkeys(file.columns, ""), "problem": name, "status": "ok"}
        row[steps_column] = steps
        try:
            oracle = _consulted(name, steps, folders)
        except Exception as error:
            row["status"] = _failure(error)
        else:
            row |= {k: v for k, v in oracle._asdict().items() if k in file.columns}
            row |= {"multipliers": _joined(oracle.multipliers), "values": _joined(oracle.value)}
        file.append(row)
        if row["status"] != "ok":
            return str(row["status"])
        return f"multiplier {row['multipliers']}, {oracle.trainings} trainings {row['note']}"


def price_of(name: str, steps: int, folders: Folders) -> Array | None:
    """The right multipliers of a training of so many steps, shape ``(rows,)``; None where they are not known yet."""
    row = folders.prices.read().get((name, str(steps)))
    return None if row is None or row["status"] != "ok" else _split(row["multipliers"])


def oracle_of(name: str, folders: Folders) -> Oracle | None:
    """The oracle's answer for a problem, None where there is none yet."""
    row = folders.oracle.read().get((name,))
    if row is None or row["status"] != "ok":
        return None
    return Oracle(
        _split(row["multipliers"]),
        _split(row["values"]),
        float(row["kl"]),
        int(row["settled"]),
        int(row["budget"]),
        int(row["trainings"]),
        row["note"],
    )


def do(job: Job, folders: Folders) -> str:
    """Makes a run and writes its rows, those that are not there yet; what became of it in one line."""
    with claim(folders.out / "claims", job.key(max(job.lengths))) as mine:
        done = folders.rows.read()
        lengths = [steps for steps in job.lengths if job.key(steps) not in done]
        if not mine or not lengths:
            return "in other hands"
        oracle = oracle_of(job.problem, folders)
        if oracle is None:
            raise ConfigError(f"{job.problem} has no budget yet: run the command oracle first")
        if job.contestant == "oracle" and PROBLEMS[job.problem].kind == "feasible":
            for steps in lengths:
                if price_of(job.problem, steps, folders) is None:
                    raise ConfigError(
                        f"{job.problem} has no multiplier for {steps} steps: run the command oracle first"
                    )
        problem, terms = PROBLEMS[job.problem], terms_of(job.problem)
        answer = Answer(oracle.multipliers, oracle.value)
        common: dict[str, object] = dict(zip(KEY[:-1], job.key(0)[:-1], strict=True))
        common |= {"budget": str(oracle.budget), "aside": str(int(job.problem in SET_ASIDE))}
        try:
            trajectory = _made(job, oracle, terms, max(lengths), folders)
            scored = []
            for steps in lengths:
                part = trajectory if job.contestant == "by_hand" else trajectory.beginning(steps)
                score = judge(part, terms.yardstick, answer, problem.kind)
                if job.contestant in WITHOUT_AIM and score.finite:
                    of_its_own = WITHOUT_AIM[job.contestant](part, terms.yardstick, active(oracle.multipliers))
                    score = score._replace(settled=of_its_own)
                scored.append((steps, score, score.success(problem.kind, oracle.budget), part.seconds))
        except Exception as error:
            empty = dict.fromkeys((*_SCORE_COLUMNS, "seconds"), "")
            for steps in lengths:
                folders.rows.append({**common, **empty, "steps": steps, "status": _failure(error)})
            return _failure(error)
        for steps, score, success, seconds in scored:
            cells = score._asdict() | {"c": _joined(score.c), "success": success, "seconds": seconds}
            folders.rows.append({**common, **cells, "steps": steps, "status": "ok"})
        return _told(scored[0][1])


def trajectory_file(job: Job, steps: int, folders: Folders) -> Path:
    """Where a run's trajectory is kept."""
    setting = setting_name(job.setting) or "default"
    return folders.out / "trajectories" / job.problem / f"{job.contestant},{setting},seed{job.seed},{steps}.npz"


def _made(job: Job, oracle: Oracle, terms: Terms, steps: int, folders: Folders) -> Trajectory:
    """The trajectory of a job, from its file or trained now."""
    price = terms.price.double().numpy()
    if job.contestant == "by_hand":
        answer, problem = Answer(oracle.multipliers, oracle.value), PROBLEMS[job.problem]

        def good(trajectory: Trajectory) -> bool:
            return judge(trajectory, terms.yardstick, answer, problem.kind).settled is not None

        def train(multipliers: Array) -> Trajectory:
            return _fixed(job.problem, multipliers, job.seed, steps, folders)

        return _kept(job, steps, folders, lambda: by_hand(train, price, terms.yardstick.bound, good))
    if job.contestant == "oracle":
        right = price_of(job.problem, steps, folders) if PROBLEMS[job.problem].kind == "feasible" else None
        multipliers = trained_at(oracle.multipliers if right is None else right, price)
        return _fixed(job.problem, multipliers, job.seed, steps, folders)
    if job.contestant == "error_alone":
        multipliers = np.where(active(oracle.multipliers), math.inf, 0.0)
        return _fixed(job.problem, multipliers, job.seed, steps, folders)
    entry = (CONTESTANTS | ABLATION)[job.contestant]
    return _trained(job, lambda terms: entry.make(terms, **job.setting), steps, folders)


def _consulted(name: str, steps: int, folders: Folders) -> Oracle:
    problem, terms = PROBLEMS[name], terms_of(name)
    price = terms.price.double().numpy()

    def train(multipliers: Array) -> Trajectory:
        return _fixed(name, multipliers, 0, steps, folders)

    first = price
    if problem.kind != "cannot be met":
        job = Job(name, "bridle", CONTESTANTS["bridle"].grid[0])
        entry = CONTESTANTS["bridle"]
        guess = _trained(job, lambda terms: entry.make(terms, **job.setting), steps, folders)
        ended = guess.multipliers[-50:].astype(np.float64).mean(axis=0)
        first = np.where(np.isfinite(ended), ended, price)
    return consult(problem, train, terms.yardstick, price, first)


def _fixed(name: str, multipliers: Array, seed: int, steps: int, folders: Folders) -> Trajectory:
    setting = {"multipliers": _joined(multipliers)}
    # As a file says them, so that an oracle read from its row is the one that was found.
    told = _split(setting["multipliers"]).tolist()
    return _trained(Job(name, "fixed", setting, seed), lambda terms: Fixed(terms, told), steps, folders)


def _trained(job: Job, enter: Callable[[Terms], Contestant], steps: int, folders: Folders) -> Trajectory:
    return _kept(job, steps, folders, lambda: run(PROBLEMS[job.problem], enter, job.seed, steps))


def _kept(job: Job, steps: int, folders: Folders, make: Callable[[], Trajectory]) -> Trajectory:
    """A trajectory from its file, or the file of a longer run; made and kept where there is none."""
    path = trajectory_file(job, steps, folders)
    if path.exists():
        return Trajectory.load(path)
    if job.contestant != "by_hand":  # whose runs are as long as it takes
        stem = path.stem.rpartition(",")[0]
        for file in path.parent.glob("*.npz"):
            same, _, length = file.stem.rpartition(",")
            if same == stem and int(length) > steps:
                return Trajectory.load(file).beginning(steps)
    trajectory = make()
    trajectory.save(path)
    return trajectory


def _told(score: Score) -> str:
    if not score.finite:
        return "not finite"
    settled = "not settled" if score.settled is None else f"settled {score.settled}"
    return f"{settled}, {100 * score.accuracy:.1f}% off, KL {score.kl:.3g}"


def _failure(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _joined(numbers: Sequence[float] | Array) -> str:
    return ";".join(f"{number:.6g}" for number in numbers)


def _split(text: str) -> Array:
    return np.array([float(number) for number in text.split(";")])
