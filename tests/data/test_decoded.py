"""Images that are decoded once: the same bytes however often it was interrupted, and only where it can be done."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridle.data import decoded as module
from bridle.data.decoded import decode_once, fingerprint, forget, mapped, recall, remember
from bridle.errors import DataError

Refused = Callable[..., AbstractContextManager[None]]
SHAPE = (1, 2, 3)


@pytest.fixture(autouse=True)
def small_chunks(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)


class Broken(Exception):
    """Something that ends the decoding where it is."""


class Reader:
    """Gives image i, all of it i; refuses some, and breaks at one."""

    def __init__(self, refuses: tuple[int, ...] = (), breaks_at: int | None = None) -> None:
        self.refuses, self.breaks_at = refuses, breaks_at
        self.read: list[int] = []

    def __call__(self, i: int) -> Tensor:
        if i == self.breaks_at:
            raise Broken
        self.read.append(i)
        if i in self.refuses:
            raise DataError(f"{i}: damaged")
        return torch.full(SHAPE, i, dtype=torch.uint8)


def _values(images: Tensor) -> list[int]:
    assert (images == images[:, :, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_decoded_once_in_order() -> None:
    reader = Reader()
    first = decode_once("some", "key", range(10), reader, SHAPE)
    assert first.images.shape == (10, *SHAPE) and first.images.dtype == torch.uint8
    assert _values(first.images) == list(range(10)) and first.refused == {}
    assert _values(decode_once("some", "key", range(10), reader, SHAPE).images) == list(range(10))
    assert sorted(reader.read) == list(range(10))


def test_what_is_written_into_the_tensor_stays_there() -> None:
    decode_once("some", "key", range(3), Reader(), SHAPE).images.fill_(9)
    assert _values(decode_once("some", "key", range(3), Reader(), SHAPE).images) == [0, 1, 2]


@pytest.mark.parametrize("refuses", [(0,), (4, 5), (9,), (0, 1, 2, 3)])
def test_refused_sources_are_left_out_or_end_it(refuses: tuple[int, ...], refused: Refused) -> None:
    with refused(f"{refuses[0]}: damaged"):
        decode_once("some", "strict", range(10), Reader(refuses), SHAPE)
    for _ in range(2):
        found = decode_once("some", "key", range(10), Reader(refuses), SHAPE, skip=True)
        assert _values(found.images) == [i for i in range(10) if i not in refuses]
        assert found.refused == {i: f"{i}: damaged" for i in refuses}
    assert len(decode_once("some", "all", range(10), Reader(tuple(range(10))), SHAPE, skip=True).images) == 0


def test_goes_on_after_an_interruption(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Broken):
        decode_once("some", "key", range(11), Reader((1,), breaks_at=9), SHAPE, skip=True)
    assert mapped("key", SHAPE) is None
    reader = Reader((1,))
    with caplog.at_level(logging.INFO, "bridle"):
        found = decode_once("some", "key", range(11), reader, SHAPE, skip=True)
    assert _values(found.images) == [0, *range(2, 11)] and found.refused == {1: "1: damaged"}
    assert sorted(reader.read) == [8, 9, 10]
    assert caplog.messages[0] == "some: 8 of 11 images were decoded before"


PROGRAM = """
import os, signal, sys, torch
from bridle.data import decoded
decoded._CHUNK = 4
def read(i):
    if i == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.full((1, 2, 3), i, dtype=torch.uint8)
decoded.decode_once("some", "key", range(100), read, (1, 2, 3))
"""


def test_goes_on_after_it_was_killed() -> None:
    for place in (2, 17, 62):
        child = subprocess.run([sys.executable, "-c", PROGRAM, str(place)], check=False)
        assert child.returncode == -signal.SIGKILL
    reader = Reader()
    assert _values(decode_once("some", "key", range(100), reader, SHAPE).images) == list(range(100))
    assert sorted(reader.read) == list(range(60, 100))


def test_pixels_that_were_decoded_otherwise_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(1, tmp_path, [])
    monkeypatch.setattr(module, "_FORM", module._FORM + 1)
    assert fingerprint(1, tmp_path, []) != before


@pytest.mark.parametrize("damage", ["shorter pixels", "no pixels", "no word", "an odd word", "shorter part"])
def test_what_is_not_whole_is_decoded_again(damage: str, nowhere: Path) -> None:
    folder = nowhere / "decoded"
    if damage == "shorter part":
        with pytest.raises(Broken):
            decode_once("some", "key", range(10), Reader(breaks_at=8), SHAPE)
        os.truncate(folder / "key.part", 7)
    else:
        decode_once("some", "key", range(10), Reader(), SHAPE)
    if damage == "shorter pixels":
        os.truncate(folder / "key.u8", 7)
    elif damage == "no pixels":
        (folder / "key.u8").unlink()
    elif damage == "no word":
        (folder / "key.json").unlink()
    elif damage == "an odd word":
        (folder / "key.json").write_text("[]")
    reader = Reader()
    assert _values(decode_once("some", "key", range(10), reader, SHAPE).images) == list(range(10))
    assert len(reader.read) == 10


def test_another_process_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(i: int) -> Tensor:
        begun.set()
        assert go_on.wait(10)
        return torch.full(SHAPE, i, dtype=torch.uint8)

    first = threading.Thread(target=decode_once, args=("some", "key", range(5), slow, SHAPE))
    first.start()
    assert begun.wait(10)
    with caplog.at_level(logging.INFO, "bridle"):
        reader, found = Reader(), []
        second = threading.Thread(target=lambda: found.append(decode_once("some", "key", range(5), reader, SHAPE)))
        second.start()
        while not any("waiting for another process" in message for message in caplog.messages):
            time.sleep(0.01)
        go_on.set()
        first.join(10)
        second.join(10)
    assert _values(found[0].images) == list(range(5)) and reader.read == []


def test_too_little_room_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    usage = shutil.disk_usage(".")._replace(free=59)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    reader = Reader()
    with refused("some", "GB", "BRIDLE_CACHE"):
        decode_once("some", "key", range(10), reader, SHAPE)
    assert reader.read == []
    decode_once("some", "key", range(9), reader, SHAPE)


def test_a_cache_folder_that_cannot_be_made(nowhere: Path, refused: Refused) -> None:
    nowhere.write_text("a file")
    with refused(nowhere, "cannot be written", "BRIDLE_CACHE"):
        decode_once("some", "key", range(10), Reader(), SHAPE)
    with refused(nowhere, "cannot be written", "BRIDLE_CACHE"):
        remember("key", {})
    assert recall("key") is None


def test_a_key_is_of_settings_and_files(tmp_path: Path, refused: Refused) -> None:
    files, names = [tmp_path / name for name in ("a", "b")], ["a", "b"]
    for file in files:
        file.write_text("1")
        os.utime(file, (5, 5))
    keys = [fingerprint(1, tmp_path, names), fingerprint(2, tmp_path, names), fingerprint(1, tmp_path, names[::-1])]
    keys.append(fingerprint(1, tmp_path, names[:1]))
    assert fingerprint(1, tmp_path, names) == keys[0]
    os.utime(files[1], (5, 6))
    keys.append(fingerprint(1, tmp_path, names))
    files[1].write_text("12")
    os.utime(files[1], (5, 5))
    keys.append(fingerprint(1, tmp_path, names))
    files[1].unlink()
    with refused(files[1], "cannot be read"):
        fingerprint(1, tmp_path, names)
    assert len(set(keys)) == len(keys)


def test_what_is_forgotten_stays_in_tensors_that_are_there(nowhere: Path) -> None:
    images = decode_once("some", "key", range(10), Reader(), SHAPE).images
    forget("key")
    forget("key")
    assert mapped("key", SHAPE) is None and list((nowhere / "decoded").iterdir()) == []
    assert _values(images) == list(range(10))
