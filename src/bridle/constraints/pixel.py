"""Constraints on pixels."""

from __future__ import annotations

import math

from torch import Tensor

from bridle.constraints.base import ImageConstraint, Reconstruction
from bridle.geco import Constraint

__all__ = ["RE"]


class RE(ImageConstraint):
    r"""Reconstruction error (table 1): the mean over pixels, channels and images of
    :math:`(x - \hat x)^2` is at most :math:`\kappa^2`.

    kappa is a root mean squared error in pixel units, in (0, 1]; sensible values lie between 0.02 and 0.25.

    The multiplier is that of ``mse / kappa^2 - 1`` and starts at D/2, D the number of dimensions of an image: there
    it is worth what the Gaussian negative log-likelihood at sigma = kappa is, and no ELBO's optimum lies above it.

    Example:
        >>> import torch
        >>> re = RE(0.1)
        >>> mse = re.measure(Reconstruction(torch.zeros(4, 1, 8, 8), torch.full((4, 1, 8, 8), 0.2), kl=torch.zeros(4)))
        >>> round(re.in_kappa_units(mse).item(), 3), re.bound((1, 8, 8)).initial
        (0.2, 32.0)
    """

    name = "re"
    kappa_range = (0.0, 1.0)

    def measure(self, r: Reconstruction) -> Tensor:
        return (r.x - r.x_hat).square().mean()

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        half_dimensions = math.prod(image_shape) / 2
        return Constraint(
            upper=self.kappa**2, initial=half_dimensions, bounds=(1e-6 * half_dimensions, 1e4 * half_dimensions)
        )

    def in_kappa_units(self, measured: Tensor) -> Tensor:
        return measured.sqrt()

    def warning(self, bin: float) -> str | None:
        rounding = bin / math.sqrt(12)
        if self.kappa >= rounding:
            return None
        return (
            f"constraints.re: kappa {self.kappa:g} is below {rounding:.2g}, the error that rounding to bins of "
            f"{bin:.2g} made in the data: the model will have to learn noise"
        )
