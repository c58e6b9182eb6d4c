"""What is handed to a worker, what the worker does with it, and what hands it out."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch

from bridle.data import DataSet
from bridle.errors import BridleError, Interrupted
from bridle.sweeps.runs import RunSpec
from bridle.training import resume, train
from bridle.training.build import build_data
from bridle.training.folder import RunFolder

__all__ = ["Engine", "Finish", "Job", "is_reported", "work"]

Finish: TypeAlias = Callable[[Path, DataSet], object]
"""Draws a finished run's pictures and page into its folder, such as :func:`bridle.reports.finish.finish_run`. Workers
find it by its import path, so it is a function of a module."""


@dataclass(frozen=True)
class Job:
    """What one worker does at a time.

    ``runs``: one, or those that are trained together as one stacked model; ``out``: the sweep's folder; ``finish``:
    what draws a finished run's pictures and page, if anything does.
    """

    runs: tuple[RunSpec, ...]
    out: Path
    finish: Finish | None = None


class Engine(Protocol):
    """Hands jobs to workers."""

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, str]], None, None]:
        """Does all jobs by :func:`work` and gives each with what came of it, in the order in which they end.

        An iterator that is closed early stops its workers, each after the step in hand, and waits for them.
        """


def work(job: Job, threads: int) -> dict[str, str]:
    """Trains a job's runs from where they are to their end, and finishes them. What they print goes to ``log.txt`` in
    the run's folder (of several trained together, the first one's).

    Arguments:
        job: The runs.
        threads: Threads of torch.

    Returns:
        The failures: the run's name to one line. Nothing else is raised than an interruption by the keyboard.
    """
    log = job.out / job.runs[0].name / "log.txt"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
            try:
                data = build_data(job.runs[0].config)  # runs that are trained together have the same
            except Exception as error:
                return _all_failed(job, error, log)
            return _train(job, data, log) | _finish(job, data, log)
    except (Interrupted, OSError) as error:  # the latter by log.txt itself
        return _all_failed(job, error, log)
    finally:
        torch.set_num_threads(before)


def is_reported(run: Path) -> bool:
    """Whether a run's folder holds its page, which is written last."""
    return (run / "report.html").is_file()


def _train(job: Job, data: DataSet, log: Path) -> dict[str, str]:
    unfinished = [spec for spec in job.runs if not RunFolder(job.out / spec.name).finished]
    try:
        if len(unfinished) > 1:
            from bridle.training.together import train_together

            train_together([spec.config for spec in unfinished], [job.out / spec.name for spec in unfinished], data)
        elif unfinished:
            spec = unfinished[0]
            folder = RunFolder(job.out / spec.name)
            if folder.checkpoint_files():
                resume(folder.path, data=data)
            else:
                # A run that was killed before its first checkpoint has left no more than its settings.
                train(spec.config, folder.path, overwrite=folder.config_file.exists(), data=data)
    except Interrupted:
        raise
    except Exception as error:
        line = _one_line(error, log)
        # Of several trained together, some may have got to their end all the same.
        return {spec.name: line for spec in unfinished if not RunFolder(job.out / spec.name).finished}
    return {}


def _finish(job: Job, data: DataSet, log: Path) -> dict[str, str]:
    failures = {}
    for spec in job.runs:
        run = job.out / spec.name
        if job.finish is not None and RunFolder(run).finished and not is_reported(run):
            try:
                job.finish(run, data)
            except Exception as error:
                failures[spec.name] = _one_line(error, log)
    return failures


def _all_failed(job: Job, error: Exception, log: Path) -> dict[str, str]:
    return dict.fromkeys((spec.name for spec in job.runs), _one_line(error, log))


def _one_line(error: Exception, log: Path) -> str:
    if isinstance(error, BridleError):
        return str(error)
    if isinstance(error, OSError):
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    traceback.print_exc()
    message = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {message} (more in {log})"
