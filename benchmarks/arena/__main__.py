"""``python -m benchmarks.arena oracle | tune | ablate | final | table``; see README.md beside this file."""

from __future__ import annotations

import argparse
import sys
import time
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from benchmarks.arena.contestants import CONTESTANTS, PEERS, WITHOUT_RULE, setting_name
from benchmarks.arena.pool import Task, run_all
from benchmarks.arena.problems import PROBLEMS
from benchmarks.arena.table import write_table
from benchmarks.arena.tuning import SEEDS, ablation_jobs, at_edge, best_setting, final_jobs, priced_lengths, tuning_jobs
from benchmarks.arena.work import Folders, Job, consult_oracle, do, find_price
from bridle.errors import BridleError, ConfigError

FINALISTS = (*CONTESTANTS, *WITHOUT_RULE)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; the exit status."""
    options = _parser().parse_args(arguments)
    folders = Folders(options.results, options.out)
    try:
        if options.command == "table":
            print(write_table(folders))
            return 0
        left = _run(options, folders)
    except BridleError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the rows that are finished are kept, and the same command goes on", file=sys.stderr)
        return 130
    if left:
        print(f"{left} left: the same command goes on")
    if options.command == "tune":
        _tell_tuning(folders)
    return 0


def _run(options: argparse.Namespace, folders: Folders) -> int:
    """Does the tasks of a command, and those that follow from what they found; how many are left."""
    end = None if options.limit_minutes is None else time.monotonic() + 60 * options.limit_minutes
    told: set[str] = set()
    while True:
        tasks = [task for task in _tasks(options, folders) if task[0] not in told]
        if not tasks:
            return 0
        minutes = None if end is None else (end - time.monotonic()) / 60
        if left := run_all(tasks, options.workers, minutes):
            return left
        told |= {label for label, _ in tasks}


def _tasks(options: argparse.Namespace, folders: Folders) -> list[Task]:
    if options.command == "oracle":
        known = folders.oracle.read()
        names = [name for name in PROBLEMS if (name,) not in known and _chosen(name, options.only)]
        priced = folders.prices.read()
        lengths = [(name, steps) for name, steps in priced_lengths(folders) if _chosen(name, options.only)]
        budgets: list[Task] = [(name, partial(consult_oracle, name, folders)) for name in names]
        return budgets + [
            (f"{name}, {steps} steps", partial(find_price, name, steps, folders))
            for name, steps in lengths
            if (name, str(steps)) not in priced
        ]
    if options.command == "tune":
        jobs = [job for job in tuning_jobs(folders) if _wanted(job, options.only)]
    elif options.command == "ablate":
        jobs = [job for job in ablation_jobs(folders) if _wanted(job, options.only)]
    else:
        entered = [name for name in FINALISTS if any(_chosen(f"{p}/{name}", options.only) for p in PROBLEMS)]
        jobs = [job for job in final_jobs(folders, entered, options.seeds) if _wanted(job, options.only)]
    rows = folders.rows.read()
    return [
        (job.label, partial(do, job, folders))
        for job in jobs
        if any(job.key(steps) not in rows for steps in job.lengths)
    ]


def _wanted(job: Job, only: str | None) -> bool:
    return _chosen(f"{job.problem}/{job.contestant}", only) or _chosen(
        f"{job.problem}/{job.contestant}/{setting_name(job.setting)}", only
    )


def _chosen(name: str, only: str | None) -> bool:
    return only is None or fnmatchcase(name, only)


def _tell_tuning(folders: Folders) -> None:
    for name in PEERS:
        try:
            setting = best_setting(name, folders)
        except ConfigError as error:
            print(error)
            continue
        edge = f", at the edge of {', '.join(at_edge(name, setting))}" if at_edge(name, setting) else ""
        print(f"{name}: {setting_name(setting)}{edge}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arena", description="The judge of multiplier rules.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        (
            "oracle",
            "find each problem's budget, and its right multiplier for each number of steps; once, before all else",
        ),
        ("tune", "find each peer's best setting, in rounds over the tuning problems"),
        ("ablate", "run our rule without each of its parts on the tuning problems"),
        ("final", "run every contestant at its best setting on all problems and seeds"),
        ("table", "write arena.md and its plots from the CSV files"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--results", type=Path, default=Path("results/arena"), help="folder of the CSV files")
        command.add_argument("--out", type=Path, default=Path("runs/arena"), help="folder of the trajectories")
        if name != "table":
            pattern = "problems" if name == "oracle" else "PROBLEM/CONTESTANT or PROBLEM/CONTESTANT/SETTING"
            command.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
            command.add_argument(
                "--only", metavar="PATTERN", help=f"do no other {pattern} than these, such as 'digits-*'"
            )
            command.add_argument("--limit-minutes", type=float, metavar="M", help="begin nothing new after M minutes")
        if name == "final":
            command.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="others than these: to confirm")
    return parser


if __name__ == "__main__":
    sys.exit(main())
