"""Images turned about their centres, a whole batch at once, on the device they live on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["rotate"]


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turns each image counter-clockwise about its centre by an angle of its own.

    Bilinear interpolation; what lies outside an image is 0. Multiples of 90 degrees only move pixels, to rounding.

    Arguments:
        images: In [0, 1], float32, shape ``(B, C, H, H)``.
        degrees: Shape ``(B,)``.

    Returns:
        Images in [0, 1], of the same shape.

    Raises:
        ValueError: Images that are not square.

    Example:
        >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]) / 4
        >>> (rotate(image, torch.tensor([90])) * 4).round()
        tensor([[[[2., 4.],
                  [1., 3.]]]])
    """
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"only square images are turned, got {tuple(images.shape)}")
    angle = torch.deg2rad(degrees.to(images.dtype))[:, None, None]
    cos, sin = angle.cos(), angle.sin()
    side = images.shape[-1]
    # The centres of the pixels, from -1 to 1 between the outer edges, rows counted downwards.
    x = (torch.arange(side, dtype=images.dtype, device=images.device) * 2 + (1 - side)) / side
    y = x[:, None]
    # Where each pixel of the result comes from: the inverse of the turn. affine_grid makes the same grid, more slowly.
    grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    # The weights of the four neighbours may add up to a little more than 1.
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp_(0, 1)
