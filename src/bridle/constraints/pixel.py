"""Constraints on pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bridle.constraints.base import ImageConstraint, Number, Reconstruction, bound_from
from bridle.geco import Constraint

__all__ = ["L1", "RE", "REChannel", "REPixel"]


class RE(ImageConstraint):
    r"""Reconstruction error (table 1): the mean over pixels, channels and images of
    :math:`(x - \hat x)^2` is at most :math:`\kappa^2`.

    kappa is a root mean squared error in pixel units, in (0, 1]; sensible values lie between 0.02 and 0.25.

    The multiplier is that of ``mse / kappa^2 - 1``. Its price is D/2, D the number of dimensions of an image: there it
    is worth what the Gaussian negative log-likelihood at sigma = kappa is, and no ELBO's optimum lies above it. It
    starts at 1/32 of that.

    Example:
        >>> import torch
        >>> re = RE(0.1)
        >>> mse = re.measure(Reconstruction(torch.zeros(4, 1, 8, 8), torch.full((4, 1, 8, 8), 0.2), kl=torch.zeros(4)))
        >>> round(re.in_kappa_units(mse).item(), 3), re.bound((1, 8, 8)).initial
        (0.2, 1.0)
    """

    name = "re"
    kappa_range = (0.0, 1.0)

    def each(self, r: Reconstruction) -> Tensor:
        return (r.x - r.x_hat).square().mean(dim=(1, 2, 3))

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        return bound_from(math.prod(image_shape) / 2, upper=self.kappa**2)

    def in_kappa_units(self, measured: Tensor) -> Tensor:
        return measured.sqrt()

    def measured_at(self, value: Number) -> Number:
        return value**2

    def warning(self, bin: float) -> str | None:
        rounding = bin / math.sqrt(12)
        if self.kappa >= rounding:
            return None
        return (
            f"constraints.{self.name}: kappa {self.kappa:g} is below {rounding:.2g}, the error that rounding to bins "
            f"of {bin:.2g} made in the data: the model will have to learn noise"
        )


class REChannel(RE):
    r"""Reconstruction error of each channel: for every channel the mean over pixels and images of
    :math:`(x - \hat x)^2` is at most :math:`\kappa^2`, with a multiplier of its own.

    kappa is a root mean squared error in pixel units, in (0, 1]; sensible values lie between 0.02 and 0.25. The value
    shown is the worst channel's.

    Each multiplier's price is half the number of pixels, its channel's share of the D/2 of :class:`RE`.

    Example:
        >>> x_hat = torch.tensor([0.1, 0.2]).view(1, 2, 1, 1).expand(4, 2, 8, 8)
        >>> re, r = REChannel(0.1), Reconstruction(torch.zeros(4, 2, 8, 8), x_hat, kl=torch.zeros(4))
        >>> re.in_kappa_units(re.measure(r)), re.bound((2, 8, 8)).initial
        (tensor([0.1000, 0.2000]), 1.0)
    """

    name = "re_channel"

    def each(self, r: Reconstruction) -> Tensor:
        return (r.x - r.x_hat).square().mean(dim=(2, 3))

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        channels, height, width = image_shape
        return bound_from(height * width / 2, upper=torch.full((channels,), self.kappa**2))


class REPixel(RE):
    r"""Reconstruction error of each pixel: for every pixel of every channel the mean over images of
    :math:`(x - \hat x)^2` is at most :math:`\kappa^2`, with a multiplier of its own.

    kappa is a root mean squared error in pixel units, in (0, 1]; sensible values lie between 0.05 and 0.3. The value
    shown is the worst pixel's, above the :class:`RE` of the same reconstructions. A pixel that hardly varies in the
    data meets kappa by itself, and its multiplier falls to its lower bound.

    Each multiplier's price is 1/2, its pixel's share of the D/2 of :class:`RE`.

    Example:
        >>> x = torch.zeros(4, 1, 8, 8)
        >>> x_hat = x.index_fill(3, torch.tensor([5]), 0.3)
        >>> re = REPixel(0.1)
        >>> value = re.measure(Reconstruction(x, x_hat, kl=torch.zeros(4)))
        >>> value.shape, round(re.worst(value).item(), 3), re.bound((1, 8, 8)).initial
        (torch.Size([1, 8, 8]), 0.3, 0.015625)
    """

    name = "re_pixel"

    def each(self, r: Reconstruction) -> Tensor:
        return (r.x - r.x_hat).square()

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        return bound_from(0.5, upper=torch.full(image_shape, self.kappa**2))


class L1(ImageConstraint):
    r"""Absolute error: the mean over pixels, channels and images of :math:`|x - \hat x|` is at most :math:`\kappa`.

    kappa is a mean absolute error in pixel units, in (0, 1]; sensible values lie between 0.01 and 0.15. A few large
    errors count for less here than in :class:`RE`.

    The multiplier is that of ``mae / kappa - 1``. Its price is D, the number of dimensions of an image: there it is
    worth what the negative log-likelihood of a Laplace distribution of scale kappa is.

    Example:
        >>> l1 = L1(0.1)
        >>> r = Reconstruction(torch.zeros(4, 1, 8, 8), torch.full((4, 1, 8, 8), -0.2), kl=torch.zeros(4))
        >>> round(l1.measure(r).item(), 3), l1.bound((1, 8, 8)).initial
        (0.2, 2.0)
    """

    name = "l1"
    kappa_range = (0.0, 1.0)

    def each(self, r: Reconstruction) -> Tensor:
        return (r.x - r.x_hat).abs().mean(dim=(1, 2, 3))

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        return bound_from(float(math.prod(image_shape)), upper=self.kappa)
