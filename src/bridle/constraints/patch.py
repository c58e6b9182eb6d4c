"""Constraints on the structure of patches: what is right when brightness and contrast are left aside."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bridle.constraints.base import Reconstruction, Similarity, correlation_price
from bridle.errors import ConfigError

__all__ = ["PNCC", "SSIM"]

# A patch whose pixels have a smaller standard deviation than this counts as flat; in pixel units.
_FLAT = 0.01


class PNCC(Similarity):
    r"""Patch normalised cross-correlation (table 1): the mean over patches and images of
    :math:`\psi(x, i)^T \psi(\hat x, i)` is at least :math:`\kappa`. :math:`\psi` whitens the patch at location i: its
    mean (over pixels and channels) is removed, and it is divided by its norm. The paper sums over patches; the mean
    makes kappa independent of their number.

    kappa is a correlation, in (0, 1); sensible values lie between 0.3 and 0.95. Brightness and contrast of a patch are
    free: with this constraint alone a reconstruction may be as dark as it likes.

    A flat patch has no direction. Each patch therefore has one more coordinate, the constant 0.01 times the root of the
    number of its pixels: a patch of a lower standard deviation than 0.01 fades into that direction, a flat patch
    reconstructed as a flat one counts 1, one reconstructed as noise nearly 0, and a perfect reconstruction is 1 for
    all images.

    The multiplier is that of ``(1 - pncc) / (1 - kappa) - 1``; for its price, D kappa / (1 + kappa), see
    :func:`bridle.constraints.base.correlation_price`.

    Arguments:
        kappa: The bound.
        patch: Side of a patch in pixels; 8, or half the image's shorter side where that is less, if not given.
        stride: Pixels from one location of the grid to the next; half a patch if not given. Where it does not divide
            the way, the last rows and columns belong to no patch.
        random: So many locations, each any pixel where a patch fits, drawn anew for each training batch; those of the
            grid if not given, and in eval mode.

    Raises:
        ConfigError: A setting below 1, or (from :meth:`bound`) a patch greater than the image.

    Example:
        >>> x = torch.rand(4, 3, 16, 16)
        >>> pncc = PNCC(0.5, patch=8, stride=4)
        >>> def value(x_hat):
        ...     return round(pncc.similarity(Reconstruction(x, x_hat, kl=torch.zeros(4))).mean().item(), 2)
        >>> value(x), value(0.5 * x + 0.2), value(0.5 - x)
        (1.0, 1.0, -1.0)
    """

    name = "pncc"

    def __init__(
        self, kappa: float, patch: int | None = None, stride: int | None = None, random: int | None = None
    ) -> None:
        super().__init__(kappa)
        for setting, value in (("patch", patch), ("stride", stride), ("random", random)):
            if value is not None and value < 1:
                raise ConfigError(f"pncc.{setting} must be at least 1, got {value}")
        if patch == 1:
            raise ConfigError("pncc.patch must be at least 2: a single pixel has no structure")
        self.patch, self.stride, self.random = patch, stride, random

    def similarity(self, r: Reconstruction) -> Tensor:
        size, stride = self._grid(r.x.shape[2:])
        if self.training and self.random is not None:
            corners = [torch.randint(side - size + 1, (self.random,), device=r.x.device) for side in r.x.shape[2:]]
            patches = [_patches_at(image.float(), size, *corners) for image in (r.x, r.x_hat)]
        else:
            patches = [F.unfold(image.float(), size, stride=stride).transpose(1, 2) for image in (r.x, r.x_hat)]
        a, b = map(_whitened, patches)
        return (a * b).sum(dim=-1).mean(dim=1)

    def price(self, image_shape: tuple[int, int, int]) -> float:
        _, height, width = image_shape
        size, _ = self._grid((height, width))
        if size > min(height, width):
            raise ConfigError(f"pncc.patch {size} is greater than the images, {height}x{width}")
        return correlation_price(self.kappa, math.prod(image_shape))

    def _grid(self, sides: tuple[int, ...]) -> tuple[int, int]:
        """Side of a patch, and stride, in images of this height and width."""
        size = self.patch or max(2, min(8, min(sides) // 2))
        return size, self.stride or max(1, size // 2)


def _patches_at(image: Tensor, size: int, top: Tensor, left: Tensor) -> Tensor:
    """Patches of (B, C, H, W) as (B, patches, C * size * size), by the rows and columns of their upper left pixels."""
    offset = torch.arange(size, device=image.device)
    rows, columns = top[:, None] + offset, left[:, None] + offset
    return image[:, :, rows[:, :, None], columns[:, None, :]].transpose(1, 2).flatten(2)


def _whitened(patches: Tensor) -> Tensor:
    """Patches (..., n) without their mean and with unit norm, as (..., n + 1)."""
    centred = patches - patches.mean(dim=-1, keepdim=True)
    # The last coordinate keeps the norm, and so its gradient, away from zero.
    constant = torch.full_like(centred[..., :1], _FLAT * math.sqrt(patches.shape[-1]))
    return F.normalize(torch.cat((centred, constant), dim=-1), dim=-1)


class SSIM(Similarity):
    r"""Structural similarity: its mean over windows, channels and images is at least :math:`\kappa`.

    kappa is a similarity, in (0, 1); sensible values lie between 0.3 and 0.95. 1 is identity.

    The window is the usual Gaussian of 11x11 pixels with a standard deviation of 1.5; for images with a shorter side
    than 11 it has the greatest odd side that fits, with a standard deviation in proportion. The range of the pixels is
    1, so that the constants are 0.01 squared and 0.03 squared. Borders are reflected, so that every pixel is the centre
    of a window. The published measure leaves windows out that are not wholly inside, and pixels at the border would be
    nearly free.

    The published measure is one of images, whose pixels are not negative. A reconstruction may be: and of the negative
    of an image both brightness and structure are below zero, so that their product says it is the image itself. Where
    the brightness is below zero, :math:`a = 2 \mu \hat\mu + c_1 < 0` with means :math:`\mu` of a window, the similarity
    is therefore :math:`a / (\mu^2 + c_1 - a)`: between -1 and 0, whatever the structure, and rising with
    :math:`\hat\mu`.

    The multiplier is that of ``(1 - ssim) / (1 - kappa) - 1``; its price is that of a correlation, D kappa /
    (1 + kappa), see :func:`bridle.constraints.base.correlation_price`.

    References:
        Image quality assessment: from error visibility to structural similarity (Wang et al., 2004).

    Example:
        >>> x = torch.rand(4, 3, 16, 16)
        >>> ssim = SSIM(0.8)
        >>> round(ssim.similarity(Reconstruction(x, x, kl=torch.zeros(4))).mean().item(), 4)
        1.0
    """

    name = "ssim"

    def similarity(self, r: Reconstruction) -> Tensor:
        x, y = r.x.float(), r.x_hat.float()
        maps = torch.stack((x, y, x * x, y * y, x * y))
        window = _window(x.shape[2:], x.device)
        # Variances are small differences of these means, too small for half precision.
        with torch.autocast(x.device.type, enabled=False):
            # As products of matrices: convolutions of single channels are several times slower.
            rows, columns = (_sliding_mean(window, side) for side in x.shape[2:])
            mean_x, mean_y, xx, yy, xy = rows @ maps @ columns.T
        c1, c2 = 0.01**2, 0.03**2
        variances = xx - mean_x.square() + yy - mean_y.square()
        structure = (2 * (xy - mean_x * mean_y) + c2) / (variances + c2)
        power, agreement = mean_x.square() + c1, 2 * mean_x * mean_y + c1
        similar = agreement / (power + mean_y.square()) * structure
        below = agreement.clamp_max(0)
        similar = torch.where(agreement < 0, below / (power - below), similar)
        return similar.flatten(1).mean(dim=1)

    def price(self, image_shape: tuple[int, int, int]) -> float:
        return correlation_price(self.kappa, math.prod(image_shape))


def _window(sides: tuple[int, ...], device: torch.device) -> Tensor:
    """One side of the separable window: Gaussian, summing to one."""
    side = min(11, *sides)
    side -= 1 - side % 2
    distance = torch.arange(side, device=device) - side // 2
    return torch.softmax(-0.5 * (distance / (1.5 * side / 11)).square(), dim=0)


def _sliding_mean(window: Tensor, side: int) -> Tensor:
    """The matrix, of shape (side, side), that takes a line of pixels to its weighted means around each of them, the
    line reflected at its ends."""
    line = F.pad(torch.eye(side, device=window.device), (len(window) // 2,) * 2, mode="reflect")
    return line.unfold(1, len(window), 1).mul(window).sum(dim=-1).T
