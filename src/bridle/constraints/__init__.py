"""Constraints on reconstructions (the paper's table 1)."""

from bridle.constraints.base import ImageConstraint, Reconstruction
from bridle.constraints.pixel import RE

__all__ = ["CONSTRAINTS", "RE", "ImageConstraint", "Reconstruction"]

CONSTRAINTS: dict[str, type[ImageConstraint]] = {c.name: c for c in (RE,)}
"""Every constraint by its name."""
