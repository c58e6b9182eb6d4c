"""The idx format, in which MNIST and its relatives are published."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bridle.errors import DataError

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 8


def read_idx(path: str | Path) -> Tensor:
    """The array of bytes in an idx file, plain or gzipped (told by its content, not by its name).

    Returns:
        uint8, of the shape that the file's header states.

    Raises:
        DataError: The file cannot be read, is truncated or too long, or is not an idx file of unsigned bytes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "two-by-three")
        >>> _ = path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6)))
        >>> read_idx(path).tolist()
        [[0, 1, 2], [3, 4, 5]]
    """
    path = Path(path)
    data = _read(path)
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DataError(f"{path} is not an idx file: it starts with {data[:4].hex(' ') or 'nothing'}")
    kind, dimensions = data[2], data[3]
    if kind != _UNSIGNED_BYTE:
        raise DataError(f"{path} is an idx file of another type (0x{kind:02x}): only unsigned bytes (0x08) are read")
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise DataError(f"{path} is truncated: it ends in its header, at {len(data)} of {header} bytes; get it again")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected = header + math.prod(shape)
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "damaged"
        raise DataError(
            f"{path} is {what}: {len(data):,} bytes where its header promises {expected:,}; get the file again"
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy())


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is truncated or damaged: it cannot be unzipped ({error}); get the file again"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
