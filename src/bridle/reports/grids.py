"""Grids of images: small margins, whole-number magnification, so that even 8x8 images can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["conditional_grid", "image_grid", "pair_grid", "side_by_side"]

# Neutral on white and on dark pages, and never mistaken for a black or white image border.
_GAP_COLOUR = 176
_GAP = 2
_GROUP_GAP = 6
_TILE = 56


def image_grid(images: Tensor, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Lay images out row by row.

    One channel is shown in grey, three in colour. With any other number the channels of an image stand side by side
    as one wide grey tile, so that none is hidden and none is given a colour it does not have.

    Arguments:
        images: Shape ``(N, C, H, W)`` with N > 0, in [0, 1]; what lies outside is clipped, NaN is shown black.
        columns: Images in a row; as square a grid as possible without it.
        scale: Screen pixels a pixel, by repetition; about 56 screen pixels a tile without it.

    Returns:
        An image of mode ``RGB`` for three channels, ``L`` otherwise.

    Raises:
        ValueError: A tensor of another shape, or columns or scale below 1.

    Example:
        >>> image_grid(torch.rand(10, 1, 8, 8), columns=5, scale=4).size    # 5 tiles of 32 pixels, 4 gaps of 2
        (168, 66)
    """
    return _blocks([images], columns, scale)


def pair_grid(x: Tensor, x_hat: Tensor, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Lay data over their reconstructions: a row of images, the row of what became of them, and so on in pairs.

    Arguments:
        x: Images in [0, 1], shape ``(N, C, H, W)``.
        x_hat: Their reconstructions, the same shape; what lies outside [0, 1] is clipped.
        columns: Pairs in a row; all that fit a square picture without it.
        scale: Screen pixels a pixel, as in :func:`image_grid`.

    Raises:
        ValueError: Two shapes that differ, or what :func:`image_grid` refuses.

    Example:
        >>> x = torch.rand(6, 1, 8, 8)
        >>> pair_grid(x, x, columns=6, scale=4).size
        (202, 66)
    """
    return _blocks([x, x_hat], columns, scale)


def conditional_grid(context: Tensor, target: Tensor, samples: Tensor, scale: int | None = None) -> Image.Image:
    """A row an example: its context, its target, and samples given that context.

    Arguments:
        context: Context images in [0, 1], shape ``(N, C', H', W')``, H' the targets' height.
        target: What belongs to them, shape ``(N, C, H, W)``.
        samples: Images given the contexts, shape ``(S, N, C, H, W)``; what lies outside [0, 1] is clipped.
        scale: Screen pixels a pixel, as in :func:`image_grid`.

    Example:
        >>> x = torch.rand(3, 1, 8, 8)
        >>> conditional_grid(torch.rand(3, 2, 8, 8), x, torch.stack([x, x]), scale=4).size    # 2 + 1 + 2 tiles wide
        (174, 100)
    """
    n, _, height, width = target.shape
    scale = max(1, round(_TILE / max(height, width))) if scale is None else scale
    parts = [_tiles(stack, scale) for stack in (context, target, *samples)]
    colours = max(part.shape[-1] for part in parts)
    gaps = [0, *([_GROUP_GAP] * 2), *([_GAP] * (len(samples) - 1))]
    h = parts[0].shape[1]
    shape = (n * (h + _GAP) - _GAP, sum(part.shape[2] for part in parts) + sum(gaps), colours)
    canvas = np.full(shape, _GAP_COLOUR, dtype=np.uint8)
    left = 0
    for part, gap in zip(parts, gaps, strict=True):
        left += gap
        for i in range(n):
            canvas[i * (h + _GAP) : i * (h + _GAP) + h, left : left + part.shape[2]] = part[i]
        left += part.shape[2]
    return Image.fromarray(canvas if colours == 3 else canvas[..., 0])


def side_by_side(images: Tensor) -> Tensor:
    """The channels of each image as one wide one: ``(N, C, H, W)`` to ``(N, 1, H, C * W)``.

    Example:
        >>> side_by_side(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5, 1, 8, 24])
    """
    return images.transpose(1, 2).flatten(2).unsqueeze(1)


def _blocks(stacks: Sequence[Tensor], columns: int | None, scale: int | None) -> Image.Image:
    """Rows of ``columns`` images taken from each stack in turn; one such block under the other."""
    first = stacks[0]
    if first.dim() != 4 or first.shape[0] == 0:
        raise ValueError(f"a grid needs images of shape (N, C, H, W) with N > 0, got {tuple(first.shape)}")
    if any(s.shape != first.shape for s in stacks):
        raise ValueError(f"images and reconstructions differ in shape: {[tuple(s.shape) for s in stacks]}")
    n, _, height, width = first.shape
    columns = min(n, math.ceil(math.sqrt(n * len(stacks)))) if columns is None else columns
    scale = max(1, round(_TILE / max(height, width))) if scale is None else scale
    if columns < 1 or scale < 1:
        raise ValueError(f"columns and scale must be at least 1, got {columns} and {scale}")

    tiles = [_tiles(s, scale) for s in stacks]
    rows = math.ceil(n / columns)
    h, w, colours = tiles[0].shape[1:]
    # Inside a block the rows are close; blocks of several rows stand apart, so that a pair is seen as a pair.
    gap = _GROUP_GAP if len(stacks) > 1 else _GAP
    block = len(stacks) * (h + _GAP) - _GAP
    shape = (rows * (block + gap) - gap, min(n, columns) * (w + _GAP) - _GAP, colours)
    canvas = np.full(shape, _GAP_COLOUR, dtype=np.uint8)
    for i in range(n):
        for j, stack in enumerate(tiles):
            top = (i // columns) * (block + gap) + j * (h + _GAP)
            left = (i % columns) * (w + _GAP)
            canvas[top : top + h, left : left + w] = stack[i]
    return Image.fromarray(canvas if colours == 3 else canvas[..., 0])


def _tiles(images: Tensor, scale: int) -> np.ndarray:
    """Magnified bytes, shape ``(N, H, W, 3)``, or ``(N, H, W, 1)`` for grey."""
    x = images.detach().to("cpu", torch.float32).nan_to_num(0.0).clamp(0, 1)
    x = x.permute(0, 2, 3, 1) if x.shape[1] == 3 else x.permute(0, 2, 1, 3).flatten(2).unsqueeze(-1)
    return x.mul(255).round().to(torch.uint8).numpy().repeat(scale, axis=1).repeat(scale, axis=2)
