"""The rate as a constraint."""

from __future__ import annotations

from torch import Tensor

from bridle.constraints.base import START, ImageConstraint, Reconstruction
from bridle.geco import Constraint

__all__ = ["KL"]


class KL(ImageConstraint):
    """The rate: the mean KL of an image is at most kappa. It turns the problem round, since what is minimised is then
    the distortion (see :class:`bridle.objectives.ConstrainedObjective`).

    kappa is in nats per image, above zero; sensible values lie between 1 and the KL of an ELBO model (1 bit is 0.693
    nats).

    The multiplier is that of ``kl / kappa - 1``. Its price is kappa: there a nat of rate weighs as much as a nat of
    distortion, as in an ELBO with the best sigma. It starts at 32 times that, where other constraints start at 1/32:
    either way a model begins with little rate.

    Example:
        >>> import torch
        >>> kl, x = KL(20.0), torch.zeros(2, 1, 8, 8)
        >>> kl.measure(Reconstruction(x, x, kl=torch.tensor([10.0, 14.0]))), kl.bound((1, 8, 8)).initial
        (tensor(12.), 640.0)
    """

    name = "kl"
    kappa_range = (0.0, 1e9)

    def each(self, r: Reconstruction) -> Tensor:
        return r.kl

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        return Constraint(upper=self.kappa, initial=self.kappa / START, bounds=(1e-6 * self.kappa, 1e4 * self.kappa))
