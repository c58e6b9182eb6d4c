"""The classifiers that runs of a sweep look through without naming one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from bridle.classifiers import default_classifier
from bridle.sweeps.runs import RunSpec, naming
from bridle.training.build import build_data
from bridle.training.config import OPTIONS

__all__ = ["train_classifiers"]

_NETWORKS = [name for name, options in OPTIONS.items() if "classifier" in {f.name for f in fields(options)}]


def train_classifiers(specs: Sequence[RunSpec]) -> None:
    """Trains the classifiers of the data's own labels that runs look through, unless they are in the cache: each once,
    and here, for the workers would all do so at the same time.

    Arguments:
        specs: The runs that have not begun; others keep their classifiers.

    Raises:
        ConfigError: Data without labels, with the name of the run.
    """
    seen = set()
    for spec in specs:
        given = spec.config.constraints.given()
        names = [name for name in _NETWORKS if name in given and getattr(spec.config, name).classifier is None]
        if names and (data := repr(spec.config.data)) not in seen:
            seen.add(data)
            with naming(spec):
                default_classifier(build_data(spec.config), names[0])
