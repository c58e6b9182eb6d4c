"""Which setting of its grid each peer goes into the final with, and what has to be run to know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from zlib import crc32

from benchmarks.arena.ablation import ABLATION
from benchmarks.arena.contestants import CONTESTANTS, OURS, Setting, edges
from benchmarks.arena.problems import PROBLEMS, SET_ASIDE
from benchmarks.arena.rows import Row
from benchmarks.arena.work import Folders, Job, oracle_of
from bridle.errors import ConfigError

__all__ = [
    "LONGER",
    "ROUNDS",
    "SEEDS",
    "ablation_jobs",
    "at_edge",
    "best_setting",
    "final_jobs",
    "priced_lengths",
    "settle_steps",
    "tuning_jobs",
]

SEEDS = (0, 1, 2)
"""Seeds of the final; the first is the one that is tuned on."""

ROUNDS = ((2, 6), (4, 2), (12, 1))
"""The rounds of the tuning: a round ends after so many problems, those with the quickest runs first, and so many
settings of each grid go on."""

LONGER = 4
"""How many times the budget our runs and the oracle's of the first seed are on the problems set aside, for the rate
that is reached in the end."""


def tuning_jobs(folders: Folders) -> list[Job]:
    """The runs on the first seed that can be told by now: those of the rounds that are over, and of the one in which
    each contestant is."""
    return [job for contestant in CONTESTANTS for job in _tuned(contestant, folders).jobs]


def final_jobs(folders: Folders, contestants: Sequence[str], seeds: Sequence[int] = SEEDS) -> list[Job]:
    """The runs of the final: all problems that have a budget on all seeds; by hand, and with the error alone, which
    says something of feasible ones only, on the first of :data:`SEEDS`. Those set aside come first, and then seed by
    seed, so that what was not reached yet is what matters least.

    Raises:
        ConfigError: A contestant's best setting is not known yet.
    """
    settings: dict[str, Setting] = {
        name: best_setting(name, folders) if name in CONTESTANTS else {} for name in contestants
    }
    budgets = {name: oracle.budget for name in PROBLEMS if (oracle := oracle_of(name, folders)) is not None}
    jobs = []
    for aside, seed in product((True, False), seeds):
        for name, budget in budgets.items():
            if (name in SET_ASIDE) != aside:
                continue
            for contestant in contestants:
                if contestant in ("by_hand", "error_alone") and seed != SEEDS[0]:
                    continue
                if contestant == "error_alone" and PROBLEMS[name].kind != "feasible":
                    continue
                longer = aside and seed == SEEDS[0] and contestant in (*OURS, "oracle")
                lengths = (budget, LONGER * budget) if longer else (budget,)
                # The oracle's multipliers are others where a run is longer, so that none is the beginning of another.
                runs = [(steps,) for steps in lengths] if contestant == "oracle" else [lengths]
                jobs += [Job(name, contestant, settings[contestant], seed, run) for run in runs]
    return jobs


def priced_lengths(folders: Folders) -> list[tuple[str, int]]:
    """The problems, and numbers of steps, for which right multipliers are needed to judge rates."""
    jobs = final_jobs(folders, ["oracle"])
    return [(job.problem, steps) for job in jobs if job.seed == SEEDS[0] and _feasible(job) for steps in job.lengths]


def _feasible(job: Job) -> bool:
    return PROBLEMS[job.problem].kind == "feasible"


def ablation_jobs(folders: Folders) -> list[Job]:
    """The runs on the first seed of our rule with and without each of its parts, and of the oracle: on the problems
    that settings are chosen on, and after them on the others that are not set aside."""
    chosen = _order(folders)
    names = [*chosen, *(name for name in PROBLEMS if name not in SET_ASIDE and name not in chosen)]
    whole = [job for job in final_jobs(folders, [*OURS, "oracle"]) if job.seed == SEEDS[0] and job.problem in names]
    parts = [
        Job(name, contestant, entry.grid[0], SEEDS[0], (oracle.budget,))
        for name in names
        if (oracle := oracle_of(name, folders)) is not None
        for contestant, entry in ABLATION.items()
    ]
    return sorted(whole + parts, key=lambda job: names.index(job.problem))


def best_setting(contestant: str, folders: Folders) -> Setting:
    """The setting that is left after the last round, or the only one.

    Raises:
        ConfigError: Not all rounds have been run.
    """
    if contestant in ABLATION:
        return ABLATION[contestant].grid[0]
    tuned = _tuned(contestant, folders)
    if len(tuned.settings) > 1:
        raise ConfigError(f"{contestant} is not tuned yet, {tuned.missing} runs are left: run the command tune first")
    return tuned.settings[0]


@dataclass(frozen=True)
class _Tuned:
    """How far a contestant's tuning is.

    ``settings``: those that are still in, the best first; ``jobs``: their runs and those of the settings that are out;
    ``missing``: how many of these are not done.
    """

    settings: tuple[Setting, ...]
    jobs: tuple[Job, ...]
    missing: int


def _tuned(contestant: str, folders: Folders) -> _Tuned:
    rows, order = folders.rows.read(), _order(folders)
    settings, jobs = CONTESTANTS[contestant].grid, []
    begun = missing = 0
    for end, kept in ROUNDS:
        names = order[begun:end]
        budgets = {name: oracle.budget for name in names if (oracle := oracle_of(name, folders)) is not None}
        new = [Job(name, contestant, setting, SEEDS[0], (budgets[name],)) for name in budgets for setting in settings]
        jobs += new
        missing += sum(job.key(job.lengths[0]) not in rows for job in new)
        missing += len(settings) * (len(names) - len(budgets))
        if len(settings) > kept:
            if missing:
                return _Tuned(settings, tuple(jobs), missing)
            settings = tuple(sorted(settings, key=lambda setting: _rank(setting, jobs, rows), reverse=True)[:kept])
        begun = end
    return _Tuned(settings, tuple(jobs), 0)


def _order(folders: Folders) -> list[str]:
    """The problems that settings are chosen on: the smallest images, and else by the checksum of the name, without
    those that have no oracle. Those whose steps are slow or many come last, so that few settings are left for them."""
    failed = {name for (name,), row in folders.oracle.read().items() if row["status"] != "ok"}
    names = [name for name in PROBLEMS if name not in SET_ASIDE and name not in failed]
    chosen = sorted(names, key=lambda name: (not name.startswith("digits-"), crc32(name.encode())))[: ROUNDS[-1][0]]
    return sorted(chosen, key=lambda name: (PROBLEMS[name].model == "ConvDRAW", PROBLEMS[name].lr < 1e-3))


def _rank(setting: Setting, jobs: Sequence[Job], rows: Mapping[tuple[str, ...], Row]) -> tuple[int, float]:
    """The number of a setting's successes so far, and the negative logarithm of the geometric mean of its settle
    steps: the greatest is best."""
    its = [rows[job.key(job.lengths[0])] for job in jobs if job.setting == setting]
    logs = [math.log(settle_steps(row)) for row in its]
    return sum(row["success"] == "1" for row in its), -sum(logs) / len(logs)


def settle_steps(row: Row) -> float:
    """Steps until a run settled; the budget where it did not within that."""
    return float(row["settled"]) if row["success"] == "1" and row["settled"] else float(row["budget"])


def at_edge(contestant: str, setting: Setting) -> list[str]:
    """The axes in which a contestant's setting lies at the edge of its grid, which is then to be extended."""
    return edges(setting, CONTESTANTS[contestant].grid)
