"""Any data set of images on the Hugging Face hub, or in parquet files, through the library ``datasets``."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from bridle.data.base import DataSet, SplitName, TensorSplit
from bridle.data.image import LARGEST, check_settings, image_side, is_grey, number_held_out, read_image
from bridle.data.threads import attempt
from bridle.errors import ConfigError, DataError

__all__ = ["HuggingFace"]

_ALIASES: dict[str, SplitName] = {"valid": "validation", "val": "validation", "dev": "validation"}
_CHUNK = 1000
_log = logging.getLogger("bridle")


class HuggingFace(DataSet):
    """Images of a data set of the Hugging Face hub, or of a local parquet file; needs ``pip install bridle[hub]``.

    Its own splits are used where they exist. What is missing of validation and test is taken from the training
    images, ten per cent of them each, at least one, in an order that depends on nothing but the images' bytes; images
    that are equal byte for byte fall into the same one. Rows whose image is absent or damaged are skipped with a
    warning. The images are cropped to a square, resized, and held in memory.

    Arguments:
        path: A data set's name on the hub, such as ``ylecun/mnist``, or a local parquet file, or a local folder that
            ``datasets`` can load; required.
        subset: Which of the data set's configurations, where it has several; a parquet file has none.
        image: The column of the images. Without it the only one that holds images.
        label: The column of the labels, whole numbers from 0. Without it the only one whose classes are declared; if
            there is none, there are no labels.
        size: Side of the images in pixels. Without it the shortest side of all, and at most 64.
        channels: 1 for grey, 3 for RGB. Without it 1 when red, green and blue are equal in every pixel of every image,
            else 3.
    """

    def __init__(
        self,
        path: str = "",
        subset: str | None = None,
        image: str | None = None,
        label: str | None = None,
        size: int | None = None,
        channels: Literal[1, 3] | None = None,
    ) -> None:
        check_settings("HuggingFace", size, channels)
        if subset is not None and path.endswith(".parquet"):
            raise ConfigError(f"HuggingFace: subset is {subset!r}, and a parquet file has none; leave it out")
        self.path = path
        self.subset = subset
        self.image = image
        self.label = label
        self.size = size
        self.channels = channels

    @property
    def classes(self) -> int | None:  # type: ignore[override]
        """Number of classes of the labels, None where there are none; the data set is read for it."""
        return self._read[1]

    def split(self, name: SplitName) -> TensorSplit:
        return self._read[0][name]

    @cached_property
    def _read(self) -> tuple[dict[SplitName, TensorSplit], int | None]:
        start = time.perf_counter()
        parts = self._parts()
        features = next(iter(parts.values())).features
        image, label = self._image_column(features), self._label_column(features)
        size = self.size or min(_smallest_side(part, image) for part in parts.values())
        read = {
            name: _read_part(f"{self.path}, split {name}", part, image, label, size, self.channels or 3)
            for name, part in parts.items()
        }
        if self.channels is None and all(is_grey(r.images) for r in read.values()):
            read = {name: r._replace(images=r.images[:, :1].contiguous()) for name, r in read.items()}
        splits = _three(self.path, read)
        counts = ", ".join(f"{len(splits[name]):,} {name}" for name in splits)
        shape = "x".join(map(str, splits["train"].image_shape))
        _log.info("%s: %s images of %s, read in %.1f s", self.path, counts, shape, time.perf_counter() - start)
        return splits, self._count_classes(features, label, splits)

    def _parts(self) -> dict[SplitName, Any]:
        """The data set's own splits, by our names; ``train`` is among them."""
        if not self.path:
            raise ConfigError("HuggingFace needs --data.path: a data set's name on the hub, or a local parquet file")
        try:
            import datasets
        except ImportError as error:
            raise DataError("HuggingFace needs the library datasets: pip install bridle[hub]") from error
        local = Path(self.path).expanduser()
        single = local.suffix == ".parquet"
        if not local.exists() and (single or local.is_absolute()):
            raise DataError(f"{self.path} does not exist; give a local parquet file or folder, or a name on the hub")
        try:
            if single:
                found = datasets.load_dataset("parquet", data_files={"train": str(local)})
            else:
                found = datasets.load_dataset(str(local) if local.exists() else self.path, self.subset)
        except Exception as error:  # whatever the library, the network or the files come up with
            raise DataError(
                f"{self.path} cannot be loaded: {' '.join(str(error).split())}; check the name and the connection, "
                "or give a local parquet file or folder"
            ) from error
        parts: dict[SplitName, Any] = {}
        for name, part in found.items():
            if (ours := _ALIASES.get(name, name)) in parts:
                raise DataError(f"{self.path} has several splits for {ours}: its splits are {', '.join(found)}")
            parts[ours] = part
        if len(parts) == 1:
            return {"train": next(iter(parts.values()))}
        if "train" not in parts:
            raise DataError(f"{self.path} has the splits {', '.join(parts)}, and none of them is train")
        names: tuple[SplitName, ...] = ("train", "validation", "test")
        return {name: parts[name] for name in names if name in parts}

    def _image_column(self, features: Any) -> str:
        from datasets import Image, Value

        def likely(feature: Any) -> bool:
            # What tools other than datasets itself write: files as bytes, alone or with their paths.
            bare = isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")
            return bare or (isinstance(feature, dict) and "bytes" in feature)

        if self.image is not None:
            if self.image not in features:
                raise ConfigError(f"{self.path} has no column {self.image!r}: there are {', '.join(features)}")
            if not isinstance(features[self.image], Image) and not likely(features[self.image]):
                raise ConfigError(f"{self.path}: column {self.image!r} holds no images")
            return self.image
        found = [name for name, feature in features.items() if isinstance(feature, Image)]
        found = found or [name for name, feature in features.items() if likely(feature)]
        if not found:
            raise DataError(f"{self.path} has no column of images: there are {', '.join(features)}")
        if len(found) > 1:
            raise ConfigError(f"{self.path} has the images {', '.join(found)}: choose one by --data.image")
        return found[0]

    def _label_column(self, features: Any) -> str | None:
        from datasets import ClassLabel, Value

        if self.label is None:
            declared = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
            return declared[0] if len(declared) == 1 else None
        if self.label not in features:
            raise ConfigError(f"{self.path} has no column {self.label!r}: there are {', '.join(features)}")
        feature = features[self.label]
        if not isinstance(feature, ClassLabel) and not (isinstance(feature, Value) and "int" in feature.dtype):
            raise ConfigError(f"{self.path}: column {self.label!r} holds no whole numbers, which labels have to be")
        return self.label

    def _count_classes(self, features: Any, label: str | None, splits: dict[SplitName, TensorSplit]) -> int | None:
        from datasets import ClassLabel

        if label is None:
            return None
        if isinstance(features[label], ClassLabel):
            return int(features[label].num_classes)
        return 1 + max((int(s.labels.max()) for s in splits.values() if s.labels is not None), default=-1) or None


class _Read(NamedTuple):
    """A split as it was read: uint8 of shape ``(N, C, H, W)``, int64 of shape ``(N,)`` or None, and for each image a
    fixed random number."""

    images: Tensor
    labels: Tensor | None
    ranks: list[bytes]

    def take(self, rows: list[int]) -> TensorSplit:
        return TensorSplit(self.images[rows], None if self.labels is None else self.labels[rows])


class _Row(NamedTuple):
    """An image file, as bytes or as a path; neither where a row has no image."""

    number: int
    content: bytes | None
    path: str | None

    def open(self) -> io.BytesIO:
        if self.content is not None:
            return io.BytesIO(self.content)
        if self.path is None:
            raise DataError("it has no image")
        try:
            return io.BytesIO(Path(self.path).read_bytes())
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from error


def _read_part(name: str, part: Any, image: str, label: str | None, size: int, channels: int) -> _Read:
    """The images of a split that can be read, with what belongs to them."""
    good: dict[int, tuple[Tensor, bytes]] = {}
    bad: dict[int, DataError] = {}
    for rows in _chunks(part, image):
        decoded, damaged = attempt(partial(_decode, size=size, channels=channels), rows)
        good |= {row.number: result for row, result in decoded.items()}
        bad |= {row.number: error for row, error in damaged.items()}
    first = next((f"row {row}: {error}" for row, error in bad.items()), "it has no rows")
    if not good:
        raise DataError(f"{name}: no image that can be read; {first}")
    if bad:
        _log.warning("%s: %d of %d rows skipped; %s", name, len(bad), len(part), first)
    labels = None
    if label is not None:
        values = part[label][:]
        chosen = [values[row] for row in good]
        if all(value is not None and value >= 0 for value in chosen):
            labels = torch.tensor(chosen, dtype=torch.int64)
        else:
            _log.warning("%s: its labels are left out, since some are absent or negative", name)
    return _Read(torch.stack([pixels for pixels, _ in good.values()]), labels, [rank for _, rank in good.values()])


def _smallest_side(part: Any, image: str) -> int:
    """The shortest side of all images whose headers can be read, and at most :data:`LARGEST`."""
    sides = [LARGEST]
    for rows in _chunks(part, image):
        found, _ = attempt(lambda row: image_side(row.open()), rows)
        sides += found.values()
    return min(sides)


def _chunks(part: Any, image: str) -> Iterator[list[_Row]]:
    """The image files of all rows, a thousand at a time."""
    from datasets import Image

    column = part.select_columns([image]).cast_column(image, Image(decode=False))
    for first in range(0, len(column), _CHUNK):
        files: list[dict[str, Any] | None] = column[first : first + _CHUNK][image]
        yield [_Row(first + i, (f or {}).get("bytes"), (f or {}).get("path")) for i, f in enumerate(files)]


def _decode(row: _Row, size: int, channels: int) -> tuple[Tensor, bytes]:
    """The image, and a fixed random number for its bytes."""
    with row.open() as file:
        rank = hashlib.sha256(file.getvalue()).digest()
        return read_image(file, size, channels), rank


def _three(path: str, read: dict[SplitName, _Read]) -> dict[SplitName, TensorSplit]:
    """The splits, with what is missing of validation and test taken from the training images."""
    train = read["train"]
    # By rank: rows added to the data set hardly move the others between the splits, and equal images lie together.
    rows = sorted(range(len(train.ranks)), key=train.ranks.__getitem__)
    held_out = number_held_out(len(rows))
    splits: dict[SplitName, TensorSplit] = {}
    names: tuple[SplitName, ...] = ("validation", "test")
    for name in names:
        if name in read:
            splits[name] = TensorSplit(read[name].images, read[name].labels)
        else:
            cut = held_out
            while cut < len(rows) and train.ranks[rows[cut]] == train.ranks[rows[cut - 1]]:
                cut += 1  # so that equal images stay together
            splits[name], rows = train.take(rows[:cut]), rows[cut:]
    if not rows:
        images = f"{len(train.ranks)}, {len(set(train.ranks))} of them different"
        raise DataError(f"{path} has too few images, {images}, to hold any out for validation and test")
    return {"train": train.take(sorted(rows)), **splits}
