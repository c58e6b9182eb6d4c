"""From settings of several values to the runs of a grid."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import bridle.data
import bridle.models
from bridle.sweeps.runs import RunSpec
from bridle.training import TrainConfig
from bridle.training.config import OBJECTIVE_SETTINGS

__all__ = ["collapse", "expand", "split_values"]

_LISTS = {"lpips.layers"}  # settings that are lists by themselves


def expand(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations of nested settings in which a list gives several values, the last one varying fastest.

    A setting that is a list by itself, such as ``lpips.layers`` or one that a class declares so, has several values
    where it is a list of lists. A data set or model in a list may bring settings of its own.

    Example:
        >>> expand({"constraints": {"re": [0.1, 0.2]}, "seed": 3})
        [{'constraints': {'re': 0.1}, 'seed': 3}, {'constraints': {'re': 0.2}, 'seed': 3}]
        >>> expand({"lpips": {"layers": ["layer1", "layer3"]}})
        [{'lpips': {'layers': ['layer1', 'layer3']}}]
        >>> expand({"model": ["NVPVAE", {"class_path": "ConvVAE", "init_args": {"latents": [8, 16]}}]})
        [{'model': 'NVPVAE'},
         {'model': {'class_path': 'ConvVAE', 'init_args': {'latents': 8}}},
         {'model': {'class_path': 'ConvVAE', 'init_args': {'latents': 16}}}]
    """
    combinations = product(*(_values(value, key, set()) for key, value in settings.items()))
    return [dict(zip(settings, values, strict=True)) for values in combinations]


def split_values(text: str) -> list[str]:
    """The values of an option, which commas part except within brackets and braces.

    Example:
        >>> split_values("0.1,0.2"), split_values("[layer1,layer3]")
        (['0.1', '0.2'], ['[layer1,layer3]'])
    """
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def collapse(points: Sequence[tuple[TrainConfig, Mapping[str, str]]]) -> list[RunSpec]:
    """The runs of a grid: each has the settings that its objective looks at, and equal ones are one.

    Constraints and all that belongs to them apply to objective geco only, ``beta`` to objective beta, ``annealing`` to
    objective annealed: in a grid with that objective, the others drop them.

    Arguments:
        points: The settings of each point, and what tells it from the others: option to value, as given.

    Returns:
        The runs in the order of the points, named by what tells them apart.

    Example:
        >>> from bridle.training import Constraints
        >>> points = [
        ...     (TrainConfig(constraints=Constraints(re=kappa), objective=name),
        ...      {"constraints.re": str(kappa), "objective": name})
        ...     for kappa in (0.1, 0.2) for name in ("elbo", "geco")
        ... ]
        >>> [spec.name for spec in collapse(points)]
        ['objective=elbo', 're=0.1,objective=geco', 're=0.2,objective=geco']
    """
    objectives = {config.objective for config, _ in points}
    default = TrainConfig()
    options = dict.fromkeys(option for _, given in points for option in given)
    titles = _titles(list(options))
    specs: dict[str, RunSpec] = {}
    for config, given in points:
        dropped = {
            name
            for objective, names in OBJECTIVE_SETTINGS.items()
            if objective in objectives and objective != config.objective
            for name in names
        }
        config = replace(config, **{name: getattr(default, name) for name in dropped})
        parts = [f"{titles[o]}={_word(value)}" for o, value in given.items() if o.partition(".")[0] not in dropped]
        specs.setdefault(repr(config), RunSpec(",".join(parts) or "run", config))
    return list(specs.values())


def _values(value: Any, path: str, lists: set[str]) -> list[Any]:
    """All that a setting may be."""
    if isinstance(value, list):
        if (path in _LISTS or path in lists) and not any(isinstance(item, list) for item in value):
            return [value]
        single = path in _LISTS or path in lists
        return [v for item in value for v in ([item] if single else _values(item, path, lists))]
    if not isinstance(value, Mapping):
        return [value]
    if isinstance(classes := value.get("class_path"), list):
        return [v for name in classes for v in _values({**value, "class_path": name}, path, lists)]
    if isinstance(classes, str):
        lists = lists | {f"{path}.init_args.{name}" for name in _list_settings(classes)}
    combinations = product(*(_values(v, f"{path}.{key}", lists) for key, v in value.items()))
    return [dict(zip(value, values, strict=True)) for values in combinations]


def _list_settings(name: str) -> Iterator[str]:
    """The settings of a class, by its name or import path, that are declared as lists or the like."""
    module, _, attribute = name.rpartition(".")
    try:
        places = [importlib.import_module(module)] if module else [bridle.data, bridle.models]
    except ImportError:
        return  # the parser says so, in one line
    for cls in (getattr(place, attribute, None) for place in places):
        if isinstance(cls, type):
            for parameter in inspect.signature(cls).parameters.values():
                if re.match(r"(list|tuple|Sequence)\b", str(parameter.annotation)):
                    yield parameter.name


def _titles(options: Sequence[str]) -> dict[str, str]:
    """Short names: the last part of an option, all of it where two would be the same."""
    last = [option.rpartition(".")[2] for option in options]
    return {o: short if last.count(short) == 1 else o for o, short in zip(options, last, strict=True)}


def _word(value: str) -> str:
    """A value as a part of a folder's name: 0.10 and 1e-1 are 0.1, and a class is without its module."""
    try:
        return value if re.fullmatch(r"[+-]?\d+", value) else repr(float(value))
    except ValueError:
        pass
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        value = value.rpartition(".")[2]
    return re.sub(r"[^\w.+-]", "_", value)
