"""Nested settings by their dotted keys, and the keys in which several runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["flatten", "varied_keys"]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys.

    Example:
        >>> flatten({"seed": 3, "constraints": {"re": 0.1, "l1": None}})
        {'seed': 3, 'constraints.re': 0.1, 'constraints.l1': None}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def varied_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that do not have the same value in all of these, in the order in which they first appear.

    Example:
        >>> varied_keys([{"seed": 3, "lr": 0.1}, {"seed": 3, "lr": 0.2, "beta": 1.0}])
        ['lr', 'beta']
    """
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]
