"""Worker processes of one thread each, and the view of what they do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from bridle.errors import TrainingError

__all__ = ["Task", "run_all"]

Task = tuple[str, Callable[[], str]]
"""A line that says what is done, and what does it and says in a line what came of it; it goes to another process."""


def run_all(tasks: Sequence[Task], workers: int, limit_minutes: float | None) -> int:
    """Does all tasks, as many at once as there are workers; how many were left for another time.

    Arguments:
        tasks: What to do, in this order.
        workers: Processes.
        limit_minutes: After these no task is begun; those that are under way are ended.
    """
    # Read when torch is first imported: two busy processes of two threads each on two cores are many times slower.
    os.environ["OMP_NUM_THREADS"] = "1"
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    end = float("inf") if limit_minutes is None else time.monotonic() + 60 * limit_minutes
    waiting, done = list(reversed(tasks)), 0
    running: dict[Future[str], tuple[str, TaskID]] = {}
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        with progress:
            whole = progress.add_task("rows", total=len(tasks))
            while running or (waiting and time.monotonic() < end):
                while waiting and len(running) < workers and time.monotonic() < end:
                    label, work = waiting.pop()
                    running[executor.submit(work)] = label, progress.add_task(label, total=1)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    label, line = running.pop(future)
                    progress.remove_task(line)
                    done += 1
                    progress.update(whole, completed=done)
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        raise error
                    told = future.result() if error is None else f"failed: {' '.join(str(error).split())[:200]}"
                    console.print(
                        f"{done}/{len(tasks)}  {label}  {told}", highlight=False, markup=False, soft_wrap=True
                    )
    except BrokenProcessPool:
        raise TrainingError("a worker died, as for want of memory: the same command goes on") from None
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    return len(waiting)


def _begin() -> None:
    """A worker's first act."""
    import torch

    torch.set_num_threads(1)
    # Ctrl-C reaches all processes of a terminal; the workers are ended by the first of them, and by its death.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)
