"""Worker processes on one machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from bridle.errors import ConfigError
from bridle.sweeps.work import Job, work

__all__ = ["LocalEngine", "cores"]


class LocalEngine:
    """Worker processes on this machine, each of which does one job after another.

    A worker has one thread unless told otherwise. That is what makes the numbers of a run independent of how many
    workers there are: the order of a sum over threads is part of its last bits. It is also fastest, since two busy
    processes of two threads each on two cores are many times slower than two of one.

    Where there are GPUs each worker sees one of them; workers in excess share them in turn.

    Arguments:
        workers: How many processes. One for each GPU if there are any, else one for each share of ``threads`` cores;
            never more than there are jobs.
        threads: Threads of torch in each.

    Raises:
        ConfigError: A number below 1.
    """

    def __init__(self, workers: int | None = None, threads: int = 1) -> None:
        if workers is not None and workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        if threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        self.workers = workers
        self.threads = threads

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, str]], None, None]:
        """As :meth:`bridle.sweeps.Engine.run`. A worker that dies fails its own job, and another takes its place."""
        gpus = _gpus() if any(spec.config.device != "cpu" for job in jobs for spec in job.runs) else []
        workers = min(self.workers or len(gpus) or max(1, cores() // self.threads), len(jobs))
        waiting = list(reversed(jobs))
        idle: list[_Worker] = []
        busy: dict[Connection, tuple[_Worker, Job]] = {}
        try:
            for i in range(workers):
                idle.append(_start(self.threads, gpus[i % len(gpus)] if gpus else None))
            while waiting or busy:
                while waiting and idle:
                    worker, job = idle.pop(), waiting.pop()
                    with suppress(ConnectionError):  # if it is dead already, waiting for it tells so
                        worker.connection.send(job)
                    busy[worker.connection] = (worker, job)
                connection = wait(list(busy))[0]
                assert isinstance(connection, Connection)
                worker, job = busy[connection]
                try:
                    failures = connection.recv()
                    idle.append(worker)
                except (EOFError, ConnectionError):  # the latter where it died before it had read its job
                    worker.process.join()
                    failures = dict.fromkeys((s.name for s in job.runs), _death(worker.process.exitcode))
                    if waiting:
                        idle.append(_start(self.threads, worker.gpu))
                del busy[connection]
                yield job, failures
        finally:
            _stop(idle, [worker for worker, _ in busy.values()])


@dataclass(frozen=True)
class _Worker:
    """A process, this end of the pipe to it, and the GPU it sees."""

    process: SpawnProcess
    connection: Connection
    gpu: str | None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs by the names that CUDA_VISIBLE_DEVICES takes, without waking them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [str(i) for i in range(count)] if visible is None else visible.split(",")[:count]


def _start(threads: int, gpu: str | None) -> _Worker:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(theirs, threads))
    # Both are read when torch is first imported or used, so they must be there before the worker's first line.
    variables = {"OMP_NUM_THREADS": str(threads)} | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
    with _environment(variables):
        process.start()
    theirs.close()
    return _Worker(process, ours, gpu)


def _stop(idle: Sequence[_Worker], busy: Sequence[_Worker]) -> None:
    """Ends all workers: the idle at once, the busy after the step in hand, whose checkpoint they save."""
    for worker in busy:
        worker.process.terminate()
    for worker in (*idle, *busy):
        worker.connection.close()
    try:
        for worker in (*idle, *busy):
            worker.process.join()
    except KeyboardInterrupt:  # the user does not want to wait for that step
        for worker in busy:
            worker.process.kill()
        raise


def _serve(connection: Connection, threads: int) -> None:
    """A worker's life."""
    # Ctrl-C reaches all processes of a terminal. Training answers it by itself, and this process else stops by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):  # the sweep needs this worker no longer
            return
        try:
            failures = work(job, threads)
        except KeyboardInterrupt:
            return
        try:
            connection.send(failures)
        except OSError:
            return


def _end_with_parent() -> None:
    """Ends this process when its parent was killed, at once: the sweep started again takes up the same folder."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _death(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its process ended with status {exitcode}"
    number = -exitcode
    hint = ", as for want of memory" if number == signal.SIGKILL else ""
    return f"its process was ended by {signal.Signals(number).name}{hint}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
