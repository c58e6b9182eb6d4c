"""Bridle trains latent-variable models under constraints a person can read.

>>> import bridle
>>> geco = bridle.GECO({"re": bridle.Constraint(upper=0.01)})    # mean squared error at most 0.1 squared
>>> geco
GECO(re: Constraint(upper=0.01))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridle.dial import Dial, DialledGECO
    from bridle.geco import GECO, Constraint
    from bridle.judge import Judge
    from bridle.models import LatentModel

__all__ = ["GECO", "Constraint", "Dial", "DialledGECO", "Judge", "load"]


def load(run: str | Path, device: str = "cpu", best: bool = False) -> LatentModel:
    """The model of a run at its latest checkpoint, in eval mode.

    Arguments:
        run: The run's folder.
        device: Where to put it.
        best: The best checkpoint instead: of those that met every constraint within 1% the one with the least KL on
            the validation split.

    Returns:
        A :class:`bridle.models.LatentModel`: ``encode``, ``decode``, ``reconstruct``, ``sample``.

    Raises:
        bridle.errors.CheckpointError: The folder holds no run, or its checkpoint is damaged or of another model.
    """
    from bridle.training.load import load_model

    return load_model(run, device, best)


def __getattr__(name: str) -> Any:
    # The core brings torch, which `bridle --help` can do without.
    if name in ("GECO", "Constraint"):
        from bridle import geco

        return getattr(geco, name)
    if name in ("Dial", "DialledGECO"):
        from bridle import dial

        return getattr(dial, name)
    if name == "Judge":
        from bridle.judge import Judge

        return Judge
    raise AttributeError(f"module 'bridle' has no attribute {name!r}")
