"""Ctrl-C, or a polite kill, while a run trains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interruptible"]


@contextmanager
def interruptible(world: int = 1) -> Iterator[threading.Event]:
    """An event that Ctrl-C or a polite kill sets, so that the step in hand is finished and saved.

    With several processes they could stop at different steps, so there the interruption takes its usual course and
    the latest checkpoint stands.

    Arguments:
        world: How many processes train the run.
    """
    stop = threading.Event()
    if world > 1 or threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
