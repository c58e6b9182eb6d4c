"""Which setting of its grid each peer goes into the final with, and what has to be run to know."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.arena.contestants import CONTESTANTS, Setting, edges, setting_name
from benchmarks.arena.problems import PROBLEMS, SET_ASIDE
from benchmarks.arena.rows import Row
from benchmarks.arena.work import Folders, Job, oracle_of
from bridle.errors import ConfigError

__all__ = ["LONGER", "SEEDS", "at_edge", "best_setting", "final_jobs", "settle_steps", "tuning_jobs", "tuning_rank"]

SEEDS = (0, 1, 2)
"""Seeds of the final; the first is the one that is tuned on."""

LONGER = 4
"""How many times the budget the runs of the first seed are in the final, for the rate that is reached in the end."""


def tuning_jobs(folders: Folders) -> list[Job]:
    """Every setting of every grid on every tuning problem that has a budget, on the first seed, problem by problem."""
    jobs = []
    for name in PROBLEMS:
        oracle = oracle_of(name, folders)
        if name not in SET_ASIDE and oracle is not None:
            jobs += [
                Job(name, contestant, setting, SEEDS[0], (oracle.budget,))
                for contestant, entry in CONTESTANTS.items()
                for setting in entry.grid
            ]
    return jobs


def final_jobs(folders: Folders, contestants: Sequence[str]) -> list[Job]:
    """The runs of the final: all problems that have a budget, on all seeds.

    Raises:
        ConfigError: A contestant's best setting is not known yet.
    """
    settings: dict[str, Setting] = {
        name: best_setting(name, folders) if name in CONTESTANTS else {} for name in contestants
    }
    jobs = []
    for name in PROBLEMS:
        oracle = oracle_of(name, folders)
        if oracle is None:
            continue
        for seed in SEEDS:
            for contestant in contestants:
                longer = seed == SEEDS[0] and contestant != "by_hand"
                lengths = (oracle.budget, LONGER * oracle.budget) if longer else (oracle.budget,)
                jobs.append(Job(name, contestant, settings[contestant], seed, lengths))
    return jobs


def best_setting(contestant: str, folders: Folders) -> Setting:
    """The setting with the most successes on the tuning problems, of those the one with the fewest settle steps.

    Raises:
        ConfigError: Not all of its grid has been run.
    """
    grid = CONTESTANTS[contestant].grid
    if len(grid) == 1:
        return grid[0]
    rank = tuning_rank(contestant, folders)
    if missing := [setting_name(s) for s in grid if rank[setting_name(s)] is None]:
        raise ConfigError(f"{contestant} is not tuned yet, {missing[0]} is not done: run the command tune first")
    return max(grid, key=lambda setting: rank[setting_name(setting)] or (0.0, 0.0))


def tuning_rank(contestant: str, folders: Folders) -> dict[str, tuple[float, float] | None]:
    """For each setting of a grid, by its name, the number of successes on the tuning problems and the negative
    logarithm of the geometric mean of settle steps; None while runs are missing."""
    rows = folders.rows.read()
    jobs = [job for job in tuning_jobs(folders) if job.contestant == contestant]
    rank: dict[str, tuple[float, float] | None] = {}
    for setting in CONTESTANTS[contestant].grid:
        keys = [job.key(job.lengths[0]) for job in jobs if job.setting == setting]
        if not keys or not all(key in rows for key in keys):
            rank[setting_name(setting)] = None
            continue
        its = [rows[key] for key in keys]
        logs = [math.log(settle_steps(row)) for row in its]
        rank[setting_name(setting)] = (float(sum(row["success"] == "1" for row in its)), -sum(logs) / len(logs))
    return rank


def settle_steps(row: Row) -> float:
    """Steps until a run settled; the budget where it did not within that."""
    return float(row["settled"]) if row["success"] == "1" and row["settled"] else float(row["budget"])


def at_edge(contestant: str, setting: Setting) -> list[str]:
    """The axes in which a contestant's setting lies at the edge of its grid, which is then to be extended."""
    return edges(setting, CONTESTANTS[contestant].grid)
