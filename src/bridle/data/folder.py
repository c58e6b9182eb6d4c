"""A folder of one's own images, of any size and mode."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from bridle.data.base import DataSet, SplitName, TensorSplit
from bridle.data.decoded import Decoded, decode_once, fingerprint, forget, mapped, recall, remember
from bridle.data.image import FORMATS, LARGEST, check_settings, image_side, is_grey, number_held_out, read_image
from bridle.data.threads import attempt
from bridle.errors import ConfigError, DataError

__all__ = ["ImageFolder", "image_files"]

_PART = 1000
_log = logging.getLogger("bridle")


class ImageFolder(DataSet):
    """All images of a folder and of the folders in it, of mixed sizes and modes, cropped to a square and resized.

    Ten per cent of the images each are held out for validation and for the test, at least one: they are taken in an
    order that depends on nothing but their paths below the folder. Of one or two images none can be spared: then all
    three splits are the same. Files that are no image, or damaged, are skipped with a warning; hidden ones without.
    The images have no labels. They are decoded once, into the cache folder (``BRIDLE_CACHE``, or ``~/.cache/bridle``),
    and read from there as they are needed.

    Arguments:
        root: Folder of the images; required.
        size: Side of the images in pixels. Without it the shortest side of all, and at most 64.
        channels: 1 for grey, 3 for RGB. Without it 1 when red, green and blue are equal in every pixel of every image
            (also where the files are RGB), else 3.
    """

    def __init__(self, root: str = "", size: int | None = None, channels: Literal[1, 3] | None = None) -> None:
        check_settings("ImageFolder", size, channels)
        self.root = root
        self.size = size
        self.channels = channels

    def split(self, name: SplitName) -> TensorSplit:
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, TensorSplit]:
        if not self.root:
            raise ConfigError("ImageFolder needs --data.root, the folder of the images")
        start = time.perf_counter()
        root = Path(self.root).expanduser()
        # In the order of the splits, which so are slices.
        images = self._images(root, sorted(_names(root), key=_rank))
        count, channels, size, _ = images.shape
        _log.info(
            "%s: %s of %dx%d, %d channel%s, read in %.1f s",
            root,
            _plural(count, "image"),
            size,
            size,
            channels,
            "s" * (channels > 1),
            time.perf_counter() - start,
        )
        if count < 3:
            _log.warning("%s: only %s: validation and test use the training images", root, _plural(count, "image"))
            return {"train": TensorSplit(images), "validation": TensorSplit(images), "test": TensorSplit(images)}
        held_out = number_held_out(count)
        return {
            "train": TensorSplit(images[2 * held_out :]),
            "validation": TensorSplit(images[:held_out]),
            "test": TensorSplit(images[held_out : 2 * held_out]),
        }

    def _images(self, root: Path, names: list[str]) -> Tensor:
        """The images that can be read, all of one size, in the order of their names; at least one."""
        key = fingerprint(("ImageFolder", str(root.resolve()), self.size, self.channels), root, names)
        known = recall(key)
        found = None if known is None else mapped(known["pixels"], known["shape"])
        if known is None or found is None:
            known, found = self._decode(root, names, key)
            remember(key, known)
        if known["skipped"]:
            _log.warning(
                "%s: %d of %s skipped; %s", root, known["skipped"], _plural(len(names), "file"), known["first"]
            )
        return found.images

    def _decode(self, root: Path, names: list[str], key: str) -> tuple[dict[str, Any], Decoded]:
        """What is to be remembered of the images, and they themselves."""
        sides, refused = attempt(image_side, [root / name for name in names])
        skipped = {path: str(error) for path, error in refused.items()}
        shape, pixels, found = (self.channels or 3, 0, 0), "", None
        # The size is that of the smallest image; if that one's pixels prove damaged, they are all read anew.
        while sides and shape[1] != (size := self.size or min(LARGEST, *sides.values())):
            if found is not None:
                forget(pixels)
            shape, pixels, sources = (shape[0], size, size), f"{key}-{size}", list(sides)
            read = partial(read_image, size=size, channels=shape[0])
            found = decode_once(str(root), pixels, sources, read, shape, skip=True)
            for place, reason in found.refused.items():
                skipped[sources[place]] = reason
                del sides[sources[place]]
        first = skipped[min(skipped)] if skipped else ""
        if found is None or not len(found.images):
            raise DataError(f"{root}: no image that can be read among its {_plural(len(names), 'file')}; {first}")
        images = found.images
        if self.channels is None and all(is_grey(part) for part in images.split(_PART)):
            shape, colour = (1, *shape[1:]), pixels
            pixels = f"{colour}-grey"
            found = decode_once(str(root), pixels, range(len(images)), lambda i: images[i, :1], shape)
            forget(colour)
        return {"pixels": pixels, "shape": shape, "skipped": len(skipped), "first": first}, found


def image_files(root: Path) -> list[Path]:
    """The files below a folder, hidden ones left out, sorted.

    Raises:
        DataError: There is no such folder, or nothing in it.
    """
    return sorted(root / name for name in _names(root))


def _names(root: Path) -> list[str]:
    """The paths of these files below the folder, with slashes, in any order; by strings, for there may be a million."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder of the images by --data.root")
    paths: list[str] = []
    top = os.path.join(root, "")
    for folder, subfolders, files in os.walk(top):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found = (os.path.join(folder, name) for name in files if not name.startswith("."))
        paths += [path for path in found if os.path.isfile(path)]  # to open a pipe would wait for ever
    if not paths:
        raise DataError(f"{root} is empty; put images into it ({', '.join(FORMATS).lower()})")
    return [path[len(top) :].replace(os.sep, "/") for path in paths]


def _rank(name: str) -> bytes:
    """A fixed random number for a path: new images added to a folder hardly move the others between the splits."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
