"""CelebA: photographs of faces, from the official aligned images, partition and attributes."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from bridle.data.base import DataSet, SplitName, TensorSplit
from bridle.data.decoded import decode_once, fingerprint
from bridle.data.files import Published, locate
from bridle.data.image import check_settings, read_image
from bridle.errors import ConfigError, DataError

__all__ = ["CelebA"]

CROP = 148
"""The side of the central square of the aligned images, 178x218, that is kept: most published results use it."""

_FOLDER = "img_align_celeba"
_PARTITION = Published(name="CelebA", folder="celeba", files=("list_eval_partition.txt",))
_ATTRIBUTES = "list_attr_celeba.txt"
_PARTS: dict[SplitName, str] = {"train": "0", "validation": "1", "test": "2"}


class CelebA(DataSet):
    """Photographs of faces (Liu et al., 2015), cropped to the central 148x148 and resized, three channels.

    The splits are the official partition: 162,770 images for training, 19,867 for validation and 19,962 for the test.
    A split is decoded when it is first asked for, once, into the cache folder (``BRIDLE_CACHE``, or
    ``~/.cache/bridle``), and read from there as it is needed: at 64x64 all three take 2.5 GB.

    Arguments:
        root: Folder that holds ``img_align_celeba/*.jpg``, ``list_eval_partition.txt`` and ``list_attr_celeba.txt``,
            or the one that holds ``celeba`` with them in it. Without it they are looked for under ``BRIDLE_DATA``,
            then in the cache folder. Its authors let no program fetch it.
        size: Side of the images in pixels.
        attribute: The label is 1 for faces with this attribute, such as ``Smiling``, and 0 for the others. Without it
            there are no labels, and ``list_attr_celeba.txt`` is not needed.
    """

    def __init__(self, root: str | None = None, size: int = 64, attribute: str | None = None) -> None:
        check_settings("CelebA", size)
        self.root = root
        self.size = size
        self.attribute = attribute
        self.classes = None if attribute is None else 2
        self._splits: dict[SplitName, TensorSplit] = {}

    def split(self, name: SplitName) -> TensorSplit:
        if name not in self._splits:
            names = self._partition[name]
            labels = None if self._attribute is None else torch.tensor([self._attribute[n] for n in names])
            self._splits[name] = TensorSplit(self._read(name, names), labels)
        return self._splits[name]

    @cached_property
    def _folder(self) -> Path:
        return locate(_PARTITION, self.root)[0].parent

    @cached_property
    def _partition(self) -> dict[SplitName, list[str]]:
        """The names of each split's images, all of which are there and, where they are needed, have attributes."""
        path = self._folder / _PARTITION.files[0]
        rows = [line.split() for line in _lines(path)]
        if not rows or any(len(row) != 2 or row[1] not in _PARTS.values() for row in rows):
            raise DataError(f"{path} is no partition of CelebA: its lines are not all like '000001.jpg 0'")
        names = {part: [name for name, number in rows if number == _PARTS[part]] for part in _PARTS}
        folder = self._folder / _FOLDER
        if not folder.is_dir():
            raise DataError(f"CelebA: {folder} is no folder; unpack {_FOLDER}.zip beside {path.name}")
        # Looked at now, and not when the test split is first asked for, at the end of a run.
        there = set(os.listdir(folder))
        if missing := [name for name, _ in rows if name not in there]:
            raise DataError(
                f"CelebA: {folder} lacks {len(missing):,} of {len(rows):,} images, such as {missing[0]}; "
                f"unpack {_FOLDER}.zip again"
            )
        if empty := [part for part in names if not names[part]]:
            raise DataError(f"{path} has no image for {empty[0]}; get the official file again")
        if self._attribute is not None and (without := [name for name, _ in rows if name not in self._attribute]):
            raise DataError(f"{self._folder / _ATTRIBUTES} has no line for {without[0]}; get the official file again")
        return names

    @cached_property
    def _attribute(self) -> dict[str, int] | None:
        """0 or 1 for each image's name; None where no attribute was chosen."""
        if self.attribute is None:
            return None
        path = self._folder / _ATTRIBUTES
        lines = _lines(path)
        known = lines[1].split() if len(lines) > 1 else []
        rows = [line.split() for line in lines[2:]]
        if not known or any(len(row) != 1 + len(known) for row in rows):
            raise DataError(
                f"{path} holds no attributes of CelebA: a count, the names, and a line like '000001.jpg -1 1 ...' "
                "for each image"
            )
        if self.attribute not in known:
            raise ConfigError(f"CelebA: attribute is {self.attribute!r}; there are {', '.join(known)}")
        column = 1 + known.index(self.attribute)
        return {row[0]: int(row[column] == "1") for row in rows}

    def _read(self, part: SplitName, names: list[str]) -> Tensor:
        """uint8, shape ``(N, 3, size, size)``."""
        folder = self._folder / _FOLDER
        key = fingerprint(("CelebA", CROP, self.size), folder, names)
        return decode_once(f"CelebA: {part}", key, names, self._face, (3, self.size, self.size)).images

    def _face(self, name: str) -> Tensor:
        try:
            return read_image(self._folder / _FOLDER / name, self.size, 3, CROP)
        except DataError as error:
            raise DataError(f"CelebA: {error}; unpack {_FOLDER}.zip again") from error


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"CelebA: {path} cannot be read: {error.strerror}; put the official file there") from error
    except UnicodeDecodeError as error:
        raise DataError(f"CelebA: {path} is no text; get the official file again") from error
