"""The numbers of runs side by side, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bridle.judge import Verdict

__all__ = ["print_table"]

_ROWS = [
    ("KL, training images (nats)", "kl_train", ".2f"),
    ("KL, held-out images (nats)", "kl", ".2f"),
    ("RMSE, training images (pixel units)", "rmse_train", ".4f"),
    ("RMSE, held-out images (pixel units)", "rmse", ".4f"),
    ("NLL at sigma_opt (nats per dimension)", "nll", ".3f"),
    ("bits per dimension, held-out images", "bits_per_dim", ".3f"),
    ("parameters", "parameters", ",d"),
    ("steps", "steps", ",d"),
    ("seconds", "seconds", ".0f"),
]


def print_table(summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints summaries (as in summary.json) by the name of their run."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name, summary in summaries.items():
        table.add_column(f"{name} ({summary['objective']})", justify="right")
    for title, key, form in _ROWS:
        table.add_row(title, *(format(summary[key], form) for summary in summaries.values()))
    names = dict.fromkeys(name for summary in summaries.values() for name in summary["constraints"])
    for name in names:
        constraints = [summary["constraints"].get(name) for summary in summaries.values()]
        table.add_row(f"{name}, training images, for kappa", *(_value(c) for c in constraints))
        table.add_row(
            f"{name} state", *("" if c is None else str(Verdict(c["state"], c["settled_at"])) for c in constraints)
        )
        table.add_row(f"{name} multiplier (scale)", *(_multiplier(c) for c in constraints))
    Console(soft_wrap=True).print(table)


def _value(c: Mapping[str, Any] | None) -> str:
    return "" if c is None else f"{c['value']:.4f} for {c['kappa']:g}: {'held' if c['satisfied'] else 'not held'}"


def _multiplier(c: Mapping[str, Any] | None) -> str:
    return "" if c is None else f"{c['multiplier']:.3g} ({c['scale']})"
