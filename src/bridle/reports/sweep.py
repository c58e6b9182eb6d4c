"""The page of a sweep: where all its runs ended, what each came to, and the way to each run's own page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bridle.errors import BridleError
from bridle.files import write_whole
from bridle.reports.information_plane import sweep_plane
from bridle.reports.pieces import duration, environment, number, svg
from bridle.reports.record import RunRecord
from bridle.sweeps import RunSpec
from bridle.training.folder import RunFolder

__all__ = ["write_sweep_report"]

_CAPTION = (
    "Where the runs ended on their training images, at sigma_opt: lower and further left is better. GECO’s points are "
    "joined in the order of kappa, which stands beside each."
)
_SEEDS = " A point is the mean over seeds; its bars reach from the least to the greatest."


@dataclass(frozen=True)
class _Column:
    """A column of the table: what is measured, its unit, and the cell of a finished run."""

    label: str
    unit: str
    cell: Callable[[RunRecord], str]


def write_sweep_report(specs: Sequence[RunSpec], out: Path, failures: Mapping[str, str] | None = None) -> Path:
    """Writes ``report.html`` into a sweep's folder, whole or not at all, from the folders of the runs in it.

    Arguments:
        specs: The runs, in the order of the table.
        out: The sweep's folder.
        failures: One line for each run that failed, by name.

    Returns:
        The page's path.

    Raises:
        CheckpointError: A finished run that cannot be read.
        BridleError: A file that cannot be written.
    """
    failures = failures or {}
    records = {spec.name: RunRecord.read(out / spec.name) for spec in specs if RunFolder(out / spec.name).finished}
    columns = _columns(list(records.values()))
    seeds = {record.config.get("seed") for record in records.values()}
    page = environment().get_template("sweep.html.j2")
    text = page.render(
        title=out.resolve().name,
        verdict=_verdict(len(specs), list(records.values())),
        plane=svg(sweep_plane(list(records.values()))) if records else None,
        caption=_CAPTION + (_SEEDS if len(seeds) > 1 else ""),
        failures=failures,
        columns=columns,
        rows=[_row(spec.name, records.get(spec.name), columns, out) for spec in specs],
    )
    try:
        with write_whole(out / "report.html") as file:
            file.write(text.encode())
    except OSError as error:
        raise BridleError(f"cannot write the report {out / 'report.html'}: {error.strerror}") from error
    return out / "report.html"


def _verdict(runs: int, records: Sequence[RunRecord]) -> str:
    """The page in one sentence.

    Example:
        >>> _verdict(3, [])
        '0 of 3 runs finished.'
    """
    finished = f"All {runs} runs finished" if len(records) == runs else f"{len(records)} of {runs} runs finished"
    ends = [c for record in records for c in record.constraints.values()]
    if not ends:
        return f"{finished}."
    return f"{finished}; {sum(c.satisfied for c in ends)} of {len(ends)} constraints held."


def _columns(records: Sequence[RunRecord]) -> list[_Column]:
    def end(name: str, cell: Callable[..., str]) -> Callable[[RunRecord], str]:
        return lambda r: cell(r.constraints[name]) if name in r.constraints else "–"

    columns = [_Column("Objective", "", lambda r: r.objective_name)]
    for name in dict.fromkeys(name for record in records for name in record.constraints):
        columns += [
            _Column(f"{name}: kappa", "", end(name, lambda c: f"{c.kappa:g}")),
            _Column("value", "training", end(name, lambda c: number(c.value))),
            _Column("within 1%", "", end(name, lambda c: "held" if c.satisfied else "missed")),
            _Column("state", "", end(name, lambda c: str(c.verdict))),
        ]
    return [
        *columns,
        _Column("KL", "nats, training", lambda r: number(r.kl_train)),
        _Column("KL", "nats, held-out", lambda r: number(r.kl)),
        _Column("RMSE", "training", lambda r: number(r.rmse_train)),
        _Column("RMSE", "held-out", lambda r: number(r.rmse)),
        _Column("NLL", "nats per dimension", lambda r: number(r.nll)),
        _Column("NLL + KL", "bits per dimension, held-out", lambda r: number(r.bits_per_dim)),
        _Column("Time", "", lambda r: duration(r.seconds)),
    ]


def _row(name: str, record: RunRecord | None, columns: Sequence[_Column], out: Path) -> dict[str, object]:
    return {
        "name": name,
        "link": f"{quote(name)}/report.html" if (out / name / "report.html").is_file() else None,
        "cells": ["not finished" if i == 0 else "–" for i in range(len(columns))]
        if record is None
        else [column.cell(record) for column in columns],
    }
