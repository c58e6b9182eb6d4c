"""The rate-distortion curve of a model on a dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridle.data import DataSet
from bridle.evaluation import measure_split
from bridle.models.dialled import Dialled
from bridle.training.system import System

__all__ = ["KAPPAS", "curve"]

KAPPAS = 10
"""Of a curve."""

_IMAGES = 10_000


def curve(system: System, data: DataSet) -> dict[str, Any]:
    """What a model on a dial gives at ten kappas of each of its ranges, the others at their middle.

    Measured on 10,000 training images, or on all where there are fewer.

    Returns:
        ``ranges``: least and greatest kappa by constraint. ``curve``: by constraint, a list of points, each with
        ``kappas``, ``values`` (in the units of kappa) and ``multipliers`` by constraint, ``kl`` (nats per image) and
        ``rmse`` (pixel units), both with their standard errors.
    """
    model = system.model
    assert isinstance(model, Dialled)
    split = data.split("train").to(next(model.parameters()).device)

    def point(kappas: Mapping[str, float]) -> dict[str, Any]:
        at, stands = system.at(kappas)
        ended = measure_split(at, split, [stand.term for stand in stands], _IMAGES)
        return {
            "kappas": {stand.term.name: stand.term.kappa for stand in stands},
            "values": ended.values,
            "multipliers": {stand.term.name: stand.multiplier for stand in stands},
            "kl": ended.kl,
            "kl_standard_error": ended.kl_standard_error,
            "rmse": ended.rmse,
            "rmse_standard_error": ended.rmse_standard_error,
        }

    return {
        "ranges": {name: list(ends) for name, ends in model.dial.ranges.items()},
        "curve": {name: [point(kappas) for kappas in model.dial.along(name, KAPPAS)] for name in model.dial.ranges},
    }
