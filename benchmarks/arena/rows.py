"""Results as CSV files that only grow: a row is on the disk as soon as it is finished, and none is made twice."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["KEY", "Row", "RowFile", "claim"]

Row = dict[str, str]

KEY = ("problem", "contestant", "setting", "seed", "steps")
"""What tells the rows of runs apart."""


class RowFile:
    """A CSV file of rows with a key.

    Several processes may add to it at once. A line that a killed process left unfinished is passed over, and so is a
    key's earlier line where there is a later one.

    Arguments:
        path: The file; it is made with its first row.
        columns: Names of all columns.
        key: Those that tell the rows apart.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, tuple(columns), tuple(key)

    def read(self) -> dict[tuple[str, ...], Row]:
        """All rows by their keys, in the order in which they came."""
        if not self.path.exists():
            return {}
        lines = self.path.read_text().splitlines(keepends=True)
        whole = list(csv.reader(line for line in lines if line.endswith("\n")))
        rows = [dict(zip(self.columns, cells, strict=True)) for cells in whole[1:] if len(cells) == len(self.columns)]
        return {tuple(row[name] for name in self.key): row for row in rows}

    def append(self, row: Mapping[str, object]) -> None:
        """Adds a row, whole and at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if end == 0:
                writer.writerow(self.columns)
            else:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    text.write("\n")
            writer.writerow(_cell(row[name]) for name in self.columns)
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def claim(folder: Path, key: Sequence[object]) -> Iterator[bool]:
    """Whether the block may do what this key stands for: False while another process does it. A process that dies
    gives up its claim."""
    path = folder / ("_".join(map(str, key)).replace("/", "-") + ".claim")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
