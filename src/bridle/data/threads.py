"""Many files at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from bridle.errors import DataError

__all__ = ["attempt"]

S = TypeVar("S")
T = TypeVar("T")


def attempt(read: Callable[[S], T], sources: Iterable[S]) -> tuple[dict[S, T], dict[S, DataError]]:
    """What ``read`` gives for each source, and the error for each source that it refuses, both in their order.

    Example:
        >>> attempt(str.upper, ["a", "b"])
        ({'a': 'A', 'b': 'B'}, {})
    """

    def one(source: S) -> T | DataError:
        try:
            return read(source)
        except DataError as error:
            return error

    sources = list(sources)
    good: dict[S, T] = {}
    bad: dict[S, DataError] = {}
    with ThreadPool() as pool:  # threads suffice: Pillow decodes and resizes outside the interpreter's lock
        for source, result in zip(sources, pool.imap(one, sources, chunksize=8), strict=True):
            if isinstance(result, DataError):
                bad[source] = result
            else:
                good[source] = result
    return good, bad
