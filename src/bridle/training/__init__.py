"""Training runs."""

from bridle.training.config import ClassSpec, Constraints, Geco, TrainConfig
from bridle.training.loop import resume, train

__all__ = ["ClassSpec", "Constraints", "Geco", "TrainConfig", "resume", "train"]
