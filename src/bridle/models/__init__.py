"""Latent-variable models behind one protocol."""

from bridle.models.base import (
    HasPosteriorDensity,
    ImageShape,
    ImportanceSample,
    LatentGaussians,
    LatentModel,
    ModelOutput,
)
from bridle.models.convdraw import ConvDRAW
from bridle.models.convvae import ConvVAE
from bridle.models.dialled import Dialled
from bridle.models.nvpvae import NVPVAE

__all__ = [
    "NVPVAE",
    "ConvDRAW",
    "ConvVAE",
    "Dialled",
    "HasPosteriorDensity",
    "ImageShape",
    "ImportanceSample",
    "LatentGaussians",
    "LatentModel",
    "ModelOutput",
]
