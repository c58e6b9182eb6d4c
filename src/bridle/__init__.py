"""Bridle trains latent-variable models under constraints a person can read.

>>> import bridle
>>> geco = bridle.GECO({"re": bridle.Constraint(upper=0.01)})    # mean squared error at most 0.1 squared
>>> geco
GECO(re: Constraint(upper=0.01))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridle.dial import Dial, DialledGECO
    from bridle.geco import GECO, Constraint
    from bridle.judge import Judge
    from bridle.models import Dialled, LatentModel

__all__ = ["GECO", "Constraint", "Dial", "DialledGECO", "Judge", "load", "load_dialled"]


def load(
    run: str | Path, device: str = "cpu", best: bool = False, kappa: float | Mapping[str, float] | None = None
) -> LatentModel:
    """The model of a run at its latest checkpoint, in eval mode.

    Arguments:
        run: The run's folder.
        device: Where to put it.
        best: The best checkpoint instead: of those that met every constraint within 1% the one with the least KL on
            the validation split.
        kappa: Of a run that was trained for a range of kappas: which one, by constraint if there are several ranges.

    Returns:
        A :class:`bridle.models.LatentModel`: ``encode``, ``decode``, ``reconstruct``, ``sample``.

    Raises:
        bridle.errors.CheckpointError: The folder holds no run, or its checkpoint is damaged or of another model.
        bridle.errors.ConfigError: A kappa for a run without a dial, or none for one with; one outside of its range.
    """
    from bridle.training.load import load_model

    return load_model(run, device, best, kappa)


def load_dialled(run: str | Path, device: str = "cpu", best: bool = False) -> Dialled[LatentModel]:
    """The model of a run that was trained for a range of kappas, at its latest checkpoint, in eval mode.

    ``load_dialled(run).at(kappa=0.08)`` is a model for one kappa, as ``load(run, kappa=0.08)`` is.

    Arguments:
        run: The run's folder.
        device: Where to put it.
        best: The best checkpoint instead, as for :func:`load`.

    Raises:
        bridle.errors.CheckpointError: As for :func:`load`.
        bridle.errors.ConfigError: The run was trained for one kappa.
    """
    from bridle.training.load import load_dialled

    return load_dialled(run, device, best)


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
