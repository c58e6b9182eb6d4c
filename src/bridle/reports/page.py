"""The report: one HTML file with everything in it, to be read from top to bottom without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridle.errors import BridleError, ConfigError
from bridle.files import write_whole
from bridle.reports.curve import draw_curve
from bridle.reports.evaluation import Line, read_evaluation
from bridle.reports.information_plane import figure1, plane
from bridle.reports.pieces import Picture, duration, environment, number, png, svg
from bridle.reports.record import ConstraintRecord, RunRecord, run_names

__all__ = ["write_report"]

_EVALUATED = "The rows from “Evaluation” on are those of evaluation.json, which bridle evaluate wrote."
_CONDITIONAL = "A row an example: its context, its target, and samples given that context."


@dataclass(frozen=True)
class _Row:
    """A line of the table: what is measured, its unit, and a cell a run."""

    label: str
    unit: str
    cells: Sequence[str]


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of one or several runs, whole or not at all.

    Arguments:
        runs: Run folders, at least one; their order is the order of the report.
        out: The HTML file; its folder is made, and an older file is replaced only when the new one is complete.

    Returns:
        ``out``.

    Raises:
        CheckpointError: A run that cannot be read.
        ConfigError: No run at all.
        BridleError: A file that cannot be written.
    """
    if not runs:
        raise ConfigError("a report needs at least one run folder")
    page = _render([RunRecord.read(Path(run)) for run in runs])
    try:
        with write_whole(out) as file:
            file.write(page.encode())
    except OSError as error:
        raise BridleError(f"cannot write the report {out}: {error.strerror}") from error
    return out


def _render(records: Sequence[RunRecord]) -> str:
    names = run_names(records)
    evaluations = [read_evaluation(record.path) for record in records]
    page = environment().get_template("report.html.j2")
    return page.render(
        title=" and ".join(names) if len(names) <= 2 else f"{len(names)} runs",
        verdict=_verdict(records, names),
        groups=[*_table(records), *_evaluation(evaluations)],
        caption=_EVALUATED if any(evaluations) else "",
        names=names,
        plane=svg(plane(records)) if len(records) > 1 else None,
        runs=[_section(record, name) for record, name in zip(records, names, strict=True)],
    )


def _section(record: RunRecord, name: str) -> dict[str, object]:
    channels, height, width = record.image_shape
    facts = [
        record.data,
        f"{width}×{height}×{channels}",
        record.model,
        record.objective_name,
        f"{record.steps:,} steps",
    ]
    return {
        "name": name,
        "facts": facts,
        "lines": [_line(name, c, record) for name, c in record.constraints.items()] or [_baseline_line(record)],
        "figure": svg(figure1(record)) if len(record.metrics["step"]) else Picture(missing="metrics.csv has no rows"),
        "curves": [svg(draw_curve(name, points)) for name, points in record.curves.items()],
        "reconstructions": png(record.path / "reconstructions.png"),
        "samples": png(record.path / "samples.png"),
        "samples_caption": _CONDITIONAL if record.summary.get("context_shape") else "Decoded from the prior.",
        "config": record.config_text.strip(),
    }


def _verdict(records: Sequence[RunRecord], names: Sequence[str]) -> str:
    """The page in one sentence."""
    ends = [c for r in records for c in r.constraints.values()]
    bound = [name for r, name in zip(records, names, strict=True) if r.constraints]
    free = [name for r, name in zip(records, names, strict=True) if not r.constraints]
    rate = f"at a rate of {number(records[0].kl_train)} nats per image"
    if not ends:
        return f"No constraint was stated: the error is what the objective gave{f', {rate}' if len(free) == 1 else ''}."
    held = sum(c.satisfied for c in ends)
    if len(ends) == 1:
        result = f"The constraint {'held' if held else 'was missed'}"
    elif held in (0, len(ends)):
        result = f"{'Both' if len(ends) == 2 else f'All {len(ends)}'} constraints {'held' if held else 'were missed'}"
    else:
        result = f"{held} of {len(ends)} constraints held"
    if len(records) == 1:
        return f"{result}, {rate}."
    where = f" in {bound[0]}" if len(bound) == 1 else ""
    others = f"; {free[0]} states none" if len(free) == 1 else f"; {len(free)} runs state none" if free else ""
    return f"{result}{where}{others}."


def _line(name: str, constraint: ConstraintRecord, record: RunRecord) -> dict[str, object]:
    """One constraint's end in words, with the held-out error beside it where the constraint is about that error."""
    points = record.curves.get(name)
    middle = f"the middle of {points[0].kappas[name]:g} to {points[-1].kappas[name]:g}, " if points else ""
    text = (
        f"{name}: {number(constraint.value)} against {constraint.kappa:g}, {middle}"
        f"{constraint.verdict}, multiplier {number(constraint.multiplier, 3)} ({constraint.scale})"
    )
    if name == "re":
        excess = record.rmse / constraint.kappa - 1
        where = (
            f"{abs(excess):.0%} {'above' if excess > 0 else 'below'} kappa" if math.isfinite(excess) else "no number"
        )
        where = "at kappa" if abs(excess) <= 0.01 else where
        text += f"; on held-out images {number(record.rmse)}, {where}"
    return {"state": "held" if constraint.satisfied else "missed", "text": text}


def _baseline_line(record: RunRecord) -> dict[str, object]:
    beta = record.last("beta")
    weight = "learned sigma" if record.objective == "elbo" else f"weight of the KL {number(beta, 3)}"
    text = (
        f"{record.objective_name}, {weight}: its error is that of kappa = {number(record.rmse_train)}; "
        f"on held-out images {number(record.rmse)}"
    )
    return {"state": "no constraint", "text": text}


def _table(records: Sequence[RunRecord]) -> list[list[_Row]]:
    """Groups of rows, a cell a run; a dash where a run has no such thing."""

    def numbers(label: str, unit: str, attribute: str) -> _Row:
        return _Row(label, unit, [number(getattr(r, attribute)) for r in records])

    def at_end(label: str, unit: str, column: str) -> list[_Row]:
        """What the runs without constraints ended with."""
        values = [math.nan if r.constraints else r.last(column) for r in records]
        cells = [number(v) if math.isfinite(v) else "–" for v in values]
        return [_Row(label, unit, cells)] if any(map(math.isfinite, values)) else []

    groups = [[_Row("Objective", "", [r.objective_name for r in records])]]
    for name in dict.fromkeys(n for r in records for n in r.constraints):
        ends = [r.constraints.get(name) for r in records]
        unit = "pixel units" if name == "re" else ""
        rows = [
            _Row(f"{name}: kappa", unit, [f"{c.kappa:g}" if c else "–" for c in ends]),
            _Row(f"{name}: value, training", unit, [number(c.value) if c else "–" for c in ends]),
            _Row(f"{name}: within 1%", "", [("held" if c.satisfied else "missed") if c else "–" for c in ends]),
            _Row(f"{name}: state", "", [str(c.verdict) if c else "–" for c in ends]),
            *(
                _Row(
                    f"{name}: multiplier",
                    f"nats, {s}",
                    [number(c.multiplier) if c and c.scale == s else "–" for c in ends],
                )
                for s in dict.fromkeys(c.scale for c in ends if c)
            ),
        ]
        groups.append(rows)
    return [
        *groups,
        [
            numbers("RMSE, training", "pixel units", "rmse_train"),
            numbers("RMSE, held-out", "pixel units", "rmse"),
            numbers("KL, training", "nats per image", "kl_train"),
            numbers("KL, held-out", "nats per image", "kl"),
        ],
        [
            *at_end("Weight of the KL", "", "beta"),
            *at_end("sigma of the likelihood", "pixel units", "sigma"),
            numbers("sigma_opt, training", "pixel units", "sigma_opt"),
            numbers("NLL at sigma_opt, training", "nats per dimension", "nll"),
            numbers("NLL at sigma_opt, training", "bits per dimension", "nll_bits"),
            numbers("NLL + KL, held-out", "bits per dimension", "bits_per_dim"),
        ],
        [
            _Row("Steps", "", [f"{r.steps:,}" for r in records]),
            _Row("Time", "", [duration(r.seconds) for r in records]),
            _Row("Parameters", "", [f"{r.parameters:,}" for r in records]),
        ],
    ]


def _evaluation(evaluations: Sequence[Sequence[Line]]) -> list[list[_Row]]:
    """The group of rows that the runs' evaluations give, if there are any, under a heading."""
    titles = dict.fromkeys((line.label, line.unit) for lines in evaluations for line in lines)
    if not titles:
        return []
    values = [{(line.label, line.unit): line.value for line in lines} for lines in evaluations]
    rows = [_Row(*title, [of_run.get(title, "–") for of_run in values]) for title in titles]
    return [[_Row("Evaluation", "", ["" for _ in evaluations]), *rows]]
