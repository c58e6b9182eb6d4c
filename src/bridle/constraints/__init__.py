"""Constraints on reconstructions (the paper's table 1, and more)."""

from bridle.constraints.base import ImageConstraint, Reconstruction
from bridle.constraints.classify import CLA
from bridle.constraints.features import FRE, LPIPS
from bridle.constraints.patch import PNCC, SSIM
from bridle.constraints.pixel import L1, RE, REChannel, REPixel
from bridle.constraints.rate import KL

__all__ = [
    "CLA",
    "CONSTRAINTS",
    "FRE",
    "KL",
    "L1",
    "LPIPS",
    "PNCC",
    "RE",
    "SSIM",
    "ImageConstraint",
    "REChannel",
    "REPixel",
    "Reconstruction",
]

CONSTRAINTS: dict[str, type[ImageConstraint]] = {
    c.name: c for c in (RE, REPixel, REChannel, L1, PNCC, SSIM, FRE, LPIPS, CLA, KL)
}
"""Every constraint by its name."""
