"""The sweep: all runs of a list to their end, wherever each of them stands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bridle.errors import ConfigError, Interrupted
from bridle.sweeps.classifiers import train_classifiers
from bridle.sweeps.local import LocalEngine
from bridle.sweeps.progress import SweepView
from bridle.sweeps.refusals import refuse_misfits
from bridle.sweeps.runs import RunSpec
from bridle.sweeps.table import write_table
from bridle.sweeps.work import Engine, Finish, Job, is_reported
from bridle.training.folder import RunFolder

__all__ = ["SweepResult", "run_sweep"]


@dataclass(frozen=True)
class SweepResult:
    """What came of a sweep, by the runs' names in the sweep's order.

    ``runs``: the contents of summary.json of those that finished; ``failures``: one line for each other one.
    """

    runs: dict[str, dict[str, Any]]
    failures: dict[str, str]


def run_sweep(
    specs: Sequence[RunSpec],
    out: str | Path,
    *,
    engine: Engine | None = None,
    workers: int | None = None,
    together: bool = False,
    finish: Finish | None = None,
) -> SweepResult:
    """Trains all runs of a sweep, each in its own folder ``out/NAME``, and writes ``table.csv`` and ``table.parquet``.

    A finished run is skipped, an unfinished one taken up from its latest checkpoint, to the same bits as if it had not
    stopped. A run that fails is reported and the others go on.

    Arguments:
        specs: The runs; their order is that of the table.
        out: The sweep's folder; it is made.
        engine: What runs them; worker processes on this machine if not given.
        workers: How many such processes, see :class:`bridle.sweeps.LocalEngine`.
        together: Train runs that :func:`bridle.training.together.group` puts into one group as one stacked model.
        finish: Called with the folder and the data set of each run that has finished, by the worker, to draw its
            pictures and page.

    Raises:
        ConfigError, DataError, CheckpointError: A run that cannot be trained as stated, or whose folder holds another
            run, before anything starts; a folder in which another sweep is running.
        Interrupted: By Ctrl-C or a polite kill. The runs in hand have saved their checkpoints.

    Example:
        >>> from bridle.training import TrainConfig
        >>> run_sweep([RunSpec("a", TrainConfig(objective="elbo", steps=0))], "sweep")
        Traceback (most recent call last):
        bridle.errors.ConfigError: a: steps must be at least 1, got 0
    """
    out = Path(out).absolute()
    if engine is None:
        engine = LocalEngine(workers)
    elif workers is not None:
        raise ConfigError("workers are those of the local engine: leave them out, or the engine")
    refuse_misfits(specs, out)
    with _alone(out):
        return _run_sweep(specs, out, engine, together, finish)


def _run_sweep(
    specs: Sequence[RunSpec], out: Path, engine: Engine, together: bool, finish: Finish | None
) -> SweepResult:
    train_classifiers([spec for spec in specs if not RunFolder(out / spec.name).checkpoint_files()])

    def pending(spec: RunSpec) -> bool:
        run = out / spec.name
        return not RunFolder(run).finished or (finish is not None and not is_reported(run))

    groups = _groups([spec for spec in specs if pending(spec)], out, together)
    failures: dict[str, str] = {}
    with SweepView(specs, out) as view, _interruptible():
        try:
            with closing(_run(engine, [Job(group, out, finish) for group in groups])) as ended:
                for job, failed in ended:
                    failures |= failed
                    for spec in job.runs:
                        view.ended(spec, failed.get(spec.name))
        except KeyboardInterrupt:
            done = sum(RunFolder(out / spec.name).finished for spec in specs)
            raise Interrupted(
                f"interrupted and saved, {done} of {len(specs)} runs finished: the same command goes on"
            ) from None
    names = [spec.name for spec in specs]
    result = SweepResult(
        {name: folder.read_summary() for name in names if (folder := RunFolder(out / name)).finished},
        {name: failures[name] for name in names if name in failures},
    )
    write_table(specs, result.runs, out)
    return result


def _run(engine: Engine, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, str]], None, None]:
    if jobs:
        yield from engine.run(jobs)


def _groups(specs: Sequence[RunSpec], out: Path, together: bool) -> list[tuple[RunSpec, ...]]:
    """The runs that are trained at once: each by itself, or stacked with those that have not finished either."""
    if not together:
        return [(spec,) for spec in specs]
    from bridle.training.together import group

    unfinished = [spec for spec in specs if not RunFolder(out / spec.name).finished]
    alone = [(spec,) for spec in specs if RunFolder(out / spec.name).finished]
    return [
        *alone,
        *(tuple(unfinished[i] for i in indices) for indices in group([spec.config for spec in unfinished])),
    ]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps other sweeps out of a folder: they would train the same runs. The system lets go of the lock with the
    process, however that ends."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"another sweep is running in {out}: wait for its end, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets a polite kill do what Ctrl-C does, as in training, so that workers and this process answer the same way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
