"""What a constraint of the paper's table 1 is: something measured on a batch, and a bound on it stated by kappa."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Self, TypeVar

from torch import Tensor, nn

from bridle.errors import ConfigError
from bridle.geco import Constraint

__all__ = [
    "START",
    "ImageConstraint",
    "Number",
    "Reconstruction",
    "Similarity",
    "bound_from",
    "correlation_price",
]


class Reconstruction(NamedTuple):
    """A batch as constraints and objectives see it.

    ``x``: images in [0, 1], shape ``(B, C, H, W)``; ``x_hat``: their reconstructions through a sample of the posterior,
    of the same shape; ``kl``: the rate of each, shape ``(B,)``, nats; ``label``: shape ``(B,)``, int64, or None;
    ``position``: where each is on a :class:`bridle.Dial`, shape ``(B, ranges)``, or None.
    """

    x: Tensor
    x_hat: Tensor
    kl: Tensor
    label: Tensor | None = None
    position: Tensor | None = None


Number = TypeVar("Number", float, Tensor)
"""A number, or a tensor of them: what a conversion of units takes and gives."""


class ImageConstraint(nn.Module, ABC):
    """A constraint on reconstructions.

    ``name`` is what it is called on the command line and in every file. A subclass states what is measured of
    :meth:`each` image, the bound on its mean as a :class:`bridle.Constraint`, and how that is told to a person, in
    kappa's units.
    A bound may be a vector: then a person is told of the element that is worst off.

    Arguments:
        kappa: The bound, in the units that the subclass states.

    Raises:
        ConfigError: A kappa outside of the range that the subclass states.
    """

    name: ClassVar[str]
    kappa_range: ClassVar[tuple[float, float]]
    """kappa lies in this interval, which is open at its lower end, and at both ends for a lower bound."""

    lower: ClassVar[bool] = False
    """Whether the value must be at least kappa, not at most."""

    def __init__(self, kappa: float) -> None:
        super().__init__()
        self.check(kappa)
        self.kappa = kappa

    @classmethod
    def check(cls, kappa: float) -> None:
        """Raises ConfigError for a kappa that is out of range."""
        least, greatest = cls.kappa_range
        if not (least < kappa <= greatest) or (cls.lower and kappa == greatest):
            interval = f"({least:g}, {greatest:g}{')' if cls.lower else ']'}"
            raise ConfigError(f"constraints.{cls.name}: kappa must lie in {interval}, got {kappa:g}")

    def at(self, kappa: float) -> Self:
        """The same constraint with another kappa; what it learned, and its networks, both have in common.

        Raises:
            ConfigError: A kappa that is out of range.
        """
        self.check(kappa)
        other = copy.copy(self)
        other.kappa = kappa
        return other

    @abstractmethod
    def each(self, r: Reconstruction) -> Tensor:
        """The constrained quantity of each image: differentiable, shape ``(B, *shape)`` with the bound's shape."""

    def measure(self, r: Reconstruction) -> Tensor:
        """The constrained quantity, averaged over the batch: differentiable, of the bound's shape."""
        return self.each(r).mean(dim=0)

    @abstractmethod
    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        """The bound on what :meth:`measure` gives, for images of this shape (channels, height, width)."""

    def prepare(self, images: Iterable[Tensor]) -> None:
        """Looks at the training images once, before the first step, if the units of kappa depend on them.

        Arguments:
            images: Batches of shape ``(B, C, H, W)``, on the constraint's device.
        """
        return

    def in_kappa_units(self, measured: Tensor) -> Tensor:
        """A mean of :meth:`measure` in the units of kappa, of the same shape."""
        return measured

    def measured_at(self, value: Number) -> Number:
        """The inverse of :meth:`in_kappa_units`."""
        return value

    def limits(self, share: float) -> tuple[float, float]:
        """What :meth:`measure` gives at ``(1 - share) kappa`` and at ``(1 + share) kappa``."""
        return self.measured_at((1 - share) * self.kappa), self.measured_at((1 + share) * self.kappa)

    def worst(self, measured: Tensor) -> Tensor:
        """A mean of :meth:`measure` as one number in the units of kappa, 0-dimensional: of a vector the element that
        is furthest on the wrong side."""
        value = self.in_kappa_units(measured)
        return value.min() if self.lower else value.max()

    def satisfied(self, value: float) -> bool:
        """Whether a value in kappa's units (a vector's worst) is no more than 1% on the wrong side of kappa."""
        return value >= 0.99 * self.kappa if self.lower else value <= 1.01 * self.kappa

    def warning(self, bin: float) -> str | None:
        """One line on a kappa that is legal but hardly meant, for data quantized to ``bin``; None if all is well."""
        return None


class Similarity(ImageConstraint):
    """A lower bound on something that is 1 at best, such as a correlation or a probability: it is at least kappa.

    What GECO sees is the shortfall, ``(1 - value) / (1 - kappa) - 1``. That is the paper's ``kappa - value <= 0``,
    divided by ``1 - kappa``. Divided by kappa instead, a value above a kappa near 1 could say hardly anything, and a
    multiplier that once rose too far would take long to fall.
    """

    kappa_range = (0.0, 1.0)
    lower = True

    @abstractmethod
    def similarity(self, r: Reconstruction) -> Tensor:
        """What is bounded, of each image: differentiable, shape ``(B,)``."""

    @abstractmethod
    def price(self, image_shape: tuple[int, int, int]) -> float:
        """What a relative unit of the constraint costs at the optimum, in nats, for images of this shape."""

    def each(self, r: Reconstruction) -> Tensor:
        return 1 - self.similarity(r)

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        return bound_from(self.price(image_shape), upper=1 - self.kappa)

    def in_kappa_units(self, measured: Tensor) -> Tensor:
        return 1 - measured

    def measured_at(self, value: Number) -> Number:
        return 1 - value


START = 1 / 32
"""Share of its price at which a multiplier starts. At its full price it makes a model that has yet to learn take up
latents which it hardly gives back: on Digits at kappa 0.1 the KL was 10% higher at equal error, after 5,400 steps."""


def bound_from(price: float, upper: float | Tensor) -> Constraint:
    """A relative bound whose multiplier starts at 1/32 of its price, and stays within 1e-6 and 1e4 times that.

    Arguments:
        price: What a relative unit of the constraint costs at the optimum, in nats, by a likelihood that fits it: an
            upper estimate.
        upper: The bound, in the units of what is measured.
    """
    return Constraint(upper=upper, initial=START * price, bounds=(1e-6 * price, 1e4 * price))


def correlation_price(kappa: float, dimensions: int) -> float:
    r"""The price of a lower bound on a correlation, in nats.

    At the optimum a multiplier is the nats that a relative unit of its constraint costs. A Gaussian of D dimensions
    whose reconstruction has correlation :math:`\rho` with it costs :math:`-\frac D2\log(1-\rho^2)`, so that
    :math:`(1 - \rho) / (1 - \kappa)` has the price :math:`D\kappa / (1 + \kappa)` at :math:`\rho = \kappa`. For the
    relative squared error the same reasoning gives D/2.

    Example:
        >>> round(correlation_price(0.5, 60), 3)
        20.0
    """
    return dimensions * kappa / (1 + kappa)
