"""Training runs."""

from bridle.training.config import (
    ClassifierOptions,
    ClassSpec,
    Constraints,
    FeatureOptions,
    Geco,
    PatchOptions,
    PerceptualOptions,
    TrainConfig,
)
from bridle.training.loop import resume, train

__all__ = [
    "ClassSpec",
    "ClassifierOptions",
    "Constraints",
    "FeatureOptions",
    "Geco",
    "PatchOptions",
    "PerceptualOptions",
    "TrainConfig",
    "resume",
    "train",
]
