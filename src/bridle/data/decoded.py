"""Image files decoded once, into a file of bytes that is mapped into memory and not read."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from bridle.data.files import cache_folder
from bridle.data.threads import attempt
from bridle.errors import DataError
from bridle.files import write_whole

__all__ = ["Decoded", "decode_once", "fingerprint", "forget", "mapped", "recall", "remember"]

S = TypeVar("S")

_CHUNK = 2000
"""Sources between two marks of how far the decoding is: what an interruption costs at most."""

_FORM = 1
"""Goes into every key: to be raised when images are decoded otherwise, so that no old pixels are taken for new ones."""

_TELL_EVERY = 10.0
_log = logging.getLogger("bridle")


class Decoded(NamedTuple):
    """``images``: uint8, shape ``(N, C, H, W)``, of the sources that could be read, in their order; mapped: pages are
    read from the disk when they are used, and can be dropped when memory is short. ``refused``: why the others could
    not be, by their place among the sources."""

    images: Tensor
    refused: dict[int, str]


def decode_once(
    name: str,
    key: str,
    sources: Sequence[S],
    read: Callable[[S], Tensor],
    shape: tuple[int, int, int],
    skip: bool = False,
) -> Decoded:
    """Decodes sources into the cache folder, or maps what was decoded before.

    What was interrupted, by whatever means, goes on where it was; a second process waits for the first.

    Arguments:
        name: What is decoded, for messages.
        key: From :func:`fingerprint`, of all that the pixels depend on.
        sources: What ``read`` takes.
        read: An image of a source, uint8, of ``shape``; runs in several threads.
        shape: Channels, height and width.
        skip: Whether sources that are refused are left out; else the first ends it.

    Raises:
        DataError: A source that is refused, with its reason; a cache folder that cannot be written or has too little
            room.
    """
    if (found := mapped(key, shape)) is None:
        entry = _Entry(key, shape)
        with _writing(name, entry):
            if (found := mapped(key, shape)) is None:
                _decode(name, entry, sources, read, skip)
                found = mapped(key, shape)
    if found is None:
        raise DataError(f"{name}: what was just written to {_folder()} is gone; name another folder by BRIDLE_CACHE")
    return found


def mapped(key: str, shape: Sequence[int]) -> Decoded | None:
    """What was decoded under a key before; None where it is not there, or not whole."""
    entry = _Entry(key, shape)
    about = recall(key)
    try:
        if about is None or entry.pixels.stat().st_size != about["rows"] * entry.row:
            return None
    except (OSError, KeyError, TypeError):
        return None
    images = torch.empty(0, *shape, dtype=torch.uint8)
    if about["rows"]:
        # Private: what is written into the tensor by accident stays in this process.
        flat = torch.from_file(str(entry.pixels), shared=False, size=about["rows"] * entry.row, dtype=torch.uint8)
        images = flat.view(about["rows"], *shape)
    return Decoded(images, {int(place): reason for place, reason in about["refused"].items()})


def fingerprint(settings: object, root: Path, names: Sequence[str]) -> str:
    """A key that changes with any setting, and with the name, the size or the time of any file.

    Arguments:
        settings: Whatever has a telling ``repr``.
        root: A folder.
        names: Paths of the files below it.

    Raises:
        DataError: A file that is not there any more.
    """
    digest = hashlib.sha256(repr((_FORM, settings)).encode())
    for name in names:
        try:
            about = os.stat(os.path.join(root, name))
        except OSError as error:
            raise DataError(f"{os.path.join(root, name)} cannot be read: {error.strerror}") from error
        digest.update(os.fsencode(name) + f"\0{about.st_size} {about.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def recall(key: str) -> dict[str, Any] | None:
    """What was remembered under a key; None where nothing was, or it is damaged."""
    try:
        found = json.loads((_folder() / f"{key}.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remember(key: str, about: dict[str, Any]) -> None:
    """Keeps something small in the cache folder under a key.

    Raises:
        DataError: The folder cannot be written.
    """
    with _told(_folder()), write_whole(_folder() / f"{key}.json") as file:
        file.write(json.dumps(about).encode())


def forget(key: str) -> None:
    """Removes what was decoded under a key; tensors that are mapped from it stay as they are."""
    for suffix in (".json", ".u8", ".lock"):
        (_folder() / f"{key}{suffix}").unlink(missing_ok=True)


class _Entry:
    """The files of one key: ``.u8`` the pixels, whole once ``.json`` says how many rows; ``.part`` and ``.at`` what is
    being written, and how far it is."""

    def __init__(self, key: str, shape: Sequence[int]) -> None:
        self.key = key
        self.row = math.prod(shape)
        self.pixels, self.part, self.lock = (_folder() / f"{key}{suffix}" for suffix in (".u8", ".part", ".lock"))

    def begun(self) -> tuple[int, int, dict[int, str]]:
        """How many sources are done, the rows that they gave, and the refused ones."""
        about = recall(f"{self.key}.at")
        try:
            if about is None or self.part.stat().st_size < about["rows"] * self.row:
                return 0, 0, {}
        except (OSError, KeyError, TypeError):
            return 0, 0, {}
        return about["sources"], about["rows"], {int(place): reason for place, reason in about["refused"].items()}


def _decode(name: str, entry: _Entry, sources: Sequence[S], read: Callable[[S], Tensor], skip: bool) -> None:
    done, rows, refused = entry.begun()
    needed, free = (len(sources) - done) * entry.row, shutil.disk_usage(entry.part.parent).free
    if needed > free:
        raise DataError(
            f"{name}: its pixels need {needed / 1e9:.1f} GB in {entry.part.parent}, where {free / 1e9:.1f} are free; "
            "make room, or name another folder by BRIDLE_CACHE"
        )
    if done:
        _log.info("%s: %s of %s images were decoded before", name, f"{done:,}", f"{len(sources):,}")
    first, began = done, time.monotonic()
    told = began
    with entry.part.open("r+b" if done else "wb") as file:
        file.seek(rows * entry.row)
        while done < len(sources):
            places = range(done, min(done + _CHUNK, len(sources)))
            images, bad = attempt(lambda place: read(sources[place]), places)
            if bad and not skip:
                raise next(iter(bad.values()))
            refused |= {place: str(error) for place, error in bad.items()}
            for image in images.values():
                file.write(image.numpy().tobytes())
            done, rows = places.stop, rows + len(images)
            if done < len(sources):
                file.flush()
                os.fsync(file.fileno())
                remember(f"{entry.key}.at", {"sources": done, "rows": rows, "refused": refused})
            now = time.monotonic()
            if now - told >= _TELL_EVERY or (done == len(sources) and told > began):
                told = now
                left = (now - began) / (done - first) * (len(sources) - done)
                _log.info("%s: %s of %s images decoded, %.0f s to go", name, f"{done:,}", f"{len(sources):,}", left)
        file.truncate(rows * entry.row)
        file.flush()
        os.fsync(file.fileno())
    entry.part.replace(entry.pixels)
    remember(entry.key, {"rows": rows, "refused": refused})
    (_folder() / f"{entry.key}.at.json").unlink(missing_ok=True)


@contextmanager
def _writing(name: str, entry: _Entry) -> Iterator[None]:
    """The right to write an entry, which one process has at a time; errors of the disk are told in one line."""
    with _told(entry.lock.parent):
        entry.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.lock)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _log.info("%s: waiting for another process, which decodes the images", name)
            lock.acquire()
        with lock:
            yield


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror or error}; name another folder by BRIDLE_CACHE"
        ) from error


def _folder() -> Path:
    return cache_folder() / "decoded"
