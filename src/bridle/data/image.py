"""One image file, whatever its kind, as a square of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bridle.errors import ConfigError, DataError

__all__ = [
    "FORMATS",
    "LARGEST",
    "check_settings",
    "image_side",
    "is_grey",
    "number_held_out",
    "read_image",
    "read_images",
]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""The formats that are read, by Pillow's names. Named, because Pillow hands some of the others to outside programs."""

LARGEST = 64
"""The greatest side, in pixels, that is chosen without being asked for."""


def check_settings(data: str, size: int | None, channels: int | None = None) -> None:
    """Refuses a size below one pixel, and other channels than 1 and 3; None is chosen by what the files hold.

    Raises:
        ConfigError: The first such setting, with the name of the data set.
    """
    if size is not None and size < 1:
        raise ConfigError(f"{data}: size is {size}; give the side of the images in pixels, at least 1")
    if channels not in (None, 1, 3):
        raise ConfigError(f"{data}: channels is {channels}; give 1 for grey or 3 for colour")


def number_held_out(count: int) -> int:
    """How many of so many images are held out for validation, and again for the test: ten per cent, at least one."""
    return max(1, round(count / 10))


def is_grey(images: Tensor) -> bool:
    """Whether all channels of images (N, C, H, W) are equal, in every pixel of every image."""
    return bool((images == images[:, :1]).all())


def image_side(file: Path | IO[bytes]) -> int:
    """The shorter side of an image, in pixels, from the file's header.

    Raises:
        DataError: The file cannot be read, or is no image.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            return min(image.size)
    except Exception as error:  # Pillow's readers raise nearly anything on what they were not made for
        raise _refused(file, error) from error


def read_image(file: Path | IO[bytes], size: int, channels: int, crop: int | None = None) -> Tensor:
    """An image, cropped to its central square and resized (bicubic, antialiased).

    Turned upright as its EXIF tag says; transparent parts are shown on white; 16 bits are rounded to 8; of an
    animation the first frame.

    Arguments:
        file: Its path, or the opened file, in one of :data:`FORMATS`.
        size: The side of the result, in pixels.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
        crop: The side of the central square, in pixels; the shorter side of the image without it.

    Returns:
        uint8, shape ``(channels, size, size)``.

    Raises:
        DataError: The file cannot be read, is truncated, is no image, or is smaller than the crop.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            if crop is None:
                # A large JPEG is decoded at a fraction of its size, several times faster; other formats ignore this.
                opened.draft(None, (2 * size, 2 * size))
            image = _plain(ImageOps.exif_transpose(opened))
        side = min(image.size) if crop is None else crop
        if side > min(image.size):
            raise ValueError(f"{image.width}x{image.height} pixels, less than the crop of {crop}")
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        image = image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except Exception as error:  # as above
        raise _refused(file, error) from error
    return torch.from_numpy(pixels.reshape(size, size, channels)).movedim(-1, 0).contiguous()


def read_images(paths: Sequence[Path], image_shape: tuple[int, int, int]) -> Tensor:
    """Images as a model takes them: float32 in [0, 1], shape ``(N, *image_shape)``.

    Raises:
        DataError: A file that cannot be read or is no image, or a shape that no image file is read to.
    """
    channels, height, width = image_shape
    if height != width or channels not in (1, 3):
        raise DataError(f"image files are read as grey or RGB squares, not as {channels}x{height}x{width}")
    return torch.stack([read_image(path, width, channels) for path in paths]) / 255


def _plain(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel and without transparency, grey or RGB."""
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode.startswith("I"):
        # 16 bits, which Pillow's own conversion may cut off at 255 instead of scaling.
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def _refused(file: Path | IO[bytes], error: Exception) -> DataError:
    if isinstance(error, UnidentifiedImageError):
        reason = f"not an image ({', '.join(FORMATS).lower()})"
    elif isinstance(error, Image.DecompressionBombError):
        reason = "too many pixels"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = f"truncated or damaged ({' '.join(str(error).split())})"
    # A file found in a folder can have any name, a line break or bytes that are no text in it.
    shown = "".join(c if c.isprintable() else "?" for c in str(file if isinstance(file, Path) else "the image"))
    return DataError(f"{shown}: {reason}")
