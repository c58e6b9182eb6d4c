"""A run of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridle.errors import BridleError
from bridle.training import TrainConfig

__all__ = ["RunSpec", "naming"]


@dataclass(frozen=True)
class RunSpec:
    """One run of a sweep.

    ``name`` is that of its folder inside the sweep's folder and says what sets the run apart, such as
    ``re=0.08,objective=geco,seed=1``; ``config`` is all of its settings.
    """

    name: str
    config: TrainConfig


@contextmanager
def naming(spec: RunSpec) -> Iterator[None]:
    """Puts a run's name in front of what is wrong with it."""
    try:
        yield
    except BridleError as error:
        raise type(error)(f"{spec.name}: {error}") from None
