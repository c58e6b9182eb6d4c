"""What a constraint of the paper's table 1 is: something measured on a batch, and a bound on it stated by kappa."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from bridle.errors import ConfigError
from bridle.geco import Constraint

__all__ = ["ImageConstraint", "Reconstruction"]


class Reconstruction(NamedTuple):
    """A batch as constraints and objectives see it.

    ``x``: images in [0, 1], shape ``(B, C, H, W)``; ``x_hat``: their reconstructions through a sample of the posterior,
    of the same shape; ``kl``: the rate of each, shape ``(B,)``, nats; ``label``: shape ``(B,)``, int64, or None.
    """

    x: Tensor
    x_hat: Tensor
    kl: Tensor
    label: Tensor | None = None


class ImageConstraint(nn.Module, ABC):
    """A constraint on reconstructions.

    ``name`` is what it is called on the command line and in every file. A subclass states what :meth:`measure`
    gives, the bound on that as a :class:`bridle.Constraint`, and how its mean is told to a person, in kappa's units.

    Arguments:
        kappa: The bound, in the units that the subclass states.

    Raises:
        ConfigError: A kappa outside of the range that the subclass states.
    """

    name: ClassVar[str]
    kappa_range: ClassVar[tuple[float, float]]
    """kappa lies in this interval, open at its lower end."""

    def __init__(self, kappa: float) -> None:
        super().__init__()
        least, greatest = self.kappa_range
        if not least < kappa <= greatest:
            raise ConfigError(f"constraints.{self.name}: kappa must lie in ({least:g}, {greatest:g}], got {kappa:g}")
        self.kappa = kappa

    @abstractmethod
    def measure(self, r: Reconstruction) -> Tensor:
        """The constrained quantity, averaged over the batch: differentiable, of the bound's shape."""

    @abstractmethod
    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        """The bound on what :meth:`measure` gives, for images of this shape (channels, height, width)."""

    def in_kappa_units(self, measured: Tensor) -> Tensor:
        """A mean of :meth:`measure` in the units of kappa."""
        return measured

    def satisfied(self, value: float) -> bool:
        """Whether a value in kappa's units is no more than 1% on the wrong side of kappa."""
        return value <= 1.01 * self.kappa

    def warning(self, bin: float) -> str | None:
        """One line on a kappa that is legal but hardly meant, for data quantized to ``bin``; None if all is well."""
        return None
