"""The result of a sweep as a table: a row a run, by names that say what a number is."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridle.files import write_whole
from bridle.sweeps.runs import RunSpec
from bridle.sweeps.varied import flatten, varied_keys

__all__ = ["table", "varied_settings", "write_table"]

log = logging.getLogger("bridle")

Cell = str | int | float | bool | None


def write_table(specs: Sequence[RunSpec], runs: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Writes ``table.csv``, and ``table.parquet`` where pyarrow is installed, both of the same cells.

    Arguments:
        specs: The runs of the sweep, in the order of the rows.
        runs: The summaries of those that finished, by name.
        out: The folder.
    """
    rows = table(specs, runs)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with write_whole(out / "table.csv") as file:
        file.write(text.getvalue().encode())
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        log.warning("table.parquet is not written, for want of pyarrow: pip install 'bridle[parquet]'")
        return
    with write_whole(out / "table.parquet") as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def table(specs: Sequence[RunSpec], runs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Cell]]:
    """A row a run: its name, the settings that the sweep varies, all single numbers and words of its summary by their
    dotted keys, and its ``status``: ``finished`` or ``not finished``.

    Seconds are left out: they are all that differs between two sweeps of the same settings, whose tables are so the
    same to the byte. They are in each run's summary.json and on the sweep's page.

    Arguments:
        specs: The runs of the sweep, in the order of the rows.
        runs: The summaries of those that finished, by name.

    Returns:
        Rows of the same keys; a cell is None where a run has no such thing. The cells of a column are of one type.
    """
    settings = varied_settings(specs)
    summaries = {name: _cells(summary) for name, summary in runs.items()}
    keys = dict.fromkeys(key for summary in summaries.values() for key in summary if key != "seconds")
    columns = list(dict.fromkeys([*settings[0], *keys]))
    rows: list[dict[str, Cell]] = []
    for spec, varied in zip(specs, settings, strict=True):
        cells = summaries.get(spec.name, {}) | varied
        status = "finished" if spec.name in runs else "not finished"
        rows.append({"name": spec.name, **{key: cells.get(key) for key in columns}, "status": status})
    for key in columns:
        _unify(rows, key)
    return rows


def varied_settings(specs: Sequence[RunSpec]) -> list[dict[str, Cell]]:
    """For each run, the settings in which the runs differ, by the names of the command line.

    Example:
        >>> from bridle.training import ClassSpec, TrainConfig
        >>> models = [ClassSpec("bridle.models.ConvVAE", {"latents": n}) for n in (8, 16)]
        >>> varied_settings([RunSpec(str(i), TrainConfig(model=m, seed=3)) for i, m in enumerate(models)])
        [{'model.latents': 8}, {'model.latents': 16}]
    """
    flat = [_settings(spec) for spec in specs]
    keys = varied_keys(flat)
    return [{key: settings.get(key) for key in keys} for settings in flat]


def _settings(spec: RunSpec) -> dict[str, Cell]:
    values = spec.config.as_dict()
    flat: dict[str, Any] = {}
    for name in ("data", "model"):
        chosen = values.pop(name)
        flat[name] = chosen["class_path"].rpartition(".")[2]
        flat |= flatten(chosen["init_args"], f"{name}.")
    flat |= flatten(values)
    return {key: v if v is None or isinstance(v, str | int | float) else str(v) for key, v in flat.items()}


def _cells(summary: Mapping[str, Any]) -> dict[str, Cell]:
    """What of a summary is a single number or word."""
    return {key: value for key, value in flatten(summary).items() if isinstance(value, str | int | float)}


def _unify(rows: Sequence[dict[str, Cell]], key: str) -> None:
    """Makes the cells of a column one type, as a column of a Parquet file has."""
    kinds = {type(row[key]) for row in rows} - {type(None)}
    if len(kinds) > 1:
        kind = float if kinds == {int, float} else str
        for row in rows:
            if (value := row[key]) is not None:
                row[key] = kind(value)
