"""The report: one HTML file with everything in it, to be read from top to bottom without a network."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from bridle.errors import BridleError, ConfigError
from bridle.files import write_whole
from bridle.reports.information_plane import FAINT, GRID, INK, figure1, plane
from bridle.reports.record import ConstraintRecord, RunRecord, run_names

__all__ = ["write_report"]

_CONDITIONAL = "A row an example: its context, its target, and samples given that context."
_OBJECTIVES = {"geco": "GECO", "elbo": "ELBO", "beta": "beta-VAE", "annealed": "hand-annealed"}

# What the page's colours of a figure become where the reader prefers a dark page.
_DARK = {INK: "#e6edf3", FAINT: "#9198a1", GRID: "#30363d", "#ffffff": "#0d1117", "#0072b2": "#3a9bdc"}

# The switch between text and outlines in an SVG is global in matplotlib: one writer at a time.
_SVG_LOCK = threading.Lock()
_SVG_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bridle",
    "font.family": "sans-serif",
    "font.sans-serif": ["Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"],
}


@dataclass(frozen=True)
class _Picture:
    """An image as a ``data:`` address, with its size in pixels; ``missing`` says why there is none."""

    address: str = ""
    width: int = 0
    height: int = 0
    missing: str = ""


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
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=" and ".join(names) if len(names) <= 2 else f"{len(names)} runs",
        verdict=_verdict(records, names),
        groups=_table(records),
        names=names,
        plane=_svg(plane(records)) if len(records) > 1 else None,
        runs=[_section(record, name) for record, name in zip(records, names, strict=True)],
    )


def _section(record: RunRecord, name: str) -> dict[str, object]:
    channels, height, width = record.image_shape
    facts = [record.data, f"{width}×{height}×{channels}", record.model, _objective(record), f"{record.steps:,} steps"]
    return {
        "name": name,
        "facts": facts,
        "lines": [_line(name, c, record) for name, c in record.constraints.items()] or [_baseline_line(record)],
        "figure": _svg(figure1(record)) if len(record.metrics["step"]) else _Picture(missing="metrics.csv has no rows"),
        "reconstructions": _png(record.path / "reconstructions.png"),
        "samples": _png(record.path / "samples.png"),
        "samples_caption": _CONDITIONAL if record.summary.get("context_shape") else "Decoded from the prior.",
        "config": record.config_text.strip(),
    }


def _verdict(records: Sequence[RunRecord], names: Sequence[str]) -> str:
    """The page in one sentence."""
    ends = [c for r in records for c in r.constraints.values()]
    bound = [name for r, name in zip(records, names, strict=True) if r.constraints]
    free = [name for r, name in zip(records, names, strict=True) if not r.constraints]
    rate = f"at a rate of {_number(records[0].kl_train)} nats per image"
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
    text = (
        f"{name}: {_number(constraint.value)} against {constraint.kappa:g}, "
        f"multiplier {_number(constraint.multiplier, 3)} ({constraint.scale})"
    )
    if name == "re":
        excess = record.rmse / constraint.kappa - 1
        where = (
            f"{abs(excess):.0%} {'above' if excess > 0 else 'below'} kappa" if math.isfinite(excess) else "no number"
        )
        where = "at kappa" if abs(excess) <= 0.01 else where
        text += f"; on held-out images {_number(record.rmse)}, {where}"
    return {"state": "held" if constraint.satisfied else "missed", "text": text}


def _baseline_line(record: RunRecord) -> dict[str, object]:
    beta = record.last("beta")
    weight = "learned sigma" if record.objective == "elbo" else f"weight of the KL {_number(beta, 3)}"
    text = (
        f"{_objective(record)}, {weight}: its error is that of kappa = {_number(record.rmse_train)}; "
        f"on held-out images {_number(record.rmse)}"
    )
    return {"state": "no constraint", "text": text}


def _objective(record: RunRecord) -> str:
    return _OBJECTIVES.get(record.objective, record.objective)


def _table(records: Sequence[RunRecord]) -> list[list[_Row]]:
    """Groups of rows, a cell a run; a dash where a run has no such thing."""

    def numbers(label: str, unit: str, attribute: str) -> _Row:
        return _Row(label, unit, [_number(getattr(r, attribute)) for r in records])

    def at_end(label: str, unit: str, column: str) -> list[_Row]:
        """What the runs without constraints ended with."""
        values = [math.nan if r.constraints else r.last(column) for r in records]
        cells = [_number(v) if math.isfinite(v) else "–" for v in values]
        return [_Row(label, unit, cells)] if any(map(math.isfinite, values)) else []

    groups = [[_Row("Objective", "", [_objective(r) for r in records])]]
    for name in dict.fromkeys(n for r in records for n in r.constraints):
        ends = [r.constraints.get(name) for r in records]
        unit = "pixel units" if name == "re" else ""
        rows = [
            _Row(f"{name}: kappa", unit, [f"{c.kappa:g}" if c else "–" for c in ends]),
            _Row(f"{name}: value, training", unit, [_number(c.value) if c else "–" for c in ends]),
            _Row(f"{name}: within 1%", "", [("held" if c.satisfied else "missed") if c else "–" for c in ends]),
            *(
                _Row(
                    f"{name}: multiplier",
                    f"nats, {s}",
                    [_number(c.multiplier) if c and c.scale == s else "–" for c in ends],
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
            _Row("Time", "", [_duration(r.seconds) for r in records]),
            _Row("Parameters", "", [f"{r.parameters:,}" for r in records]),
        ],
    ]


def _number(value: float, digits: int = 4) -> str:
    """Four significant digits, one less from 0.01 to 0.1 so that errors align, no exponent from 0.0001 to a million."""
    if not math.isfinite(value):
        return "not finite"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits - 1 - magnitude - (magnitude == -2))}f}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "not known"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _png(file: Path) -> _Picture:
    """A picture of the run folder as it is, after a look whether it can be drawn."""
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
    except FileNotFoundError:
        return _Picture(missing=f"{file.name} is not in the run folder")
    except (OSError, SyntaxError):
        return _Picture(missing=f"{file.name} is damaged")
    return _Picture(_address("image/png", content), width, height)


def _svg(figure: Figure) -> _Picture:
    """A figure as SVG that follows the reader's choice of a light or dark page."""
    buffer = io.StringIO()
    with _SVG_LOCK, matplotlib.rc_context(_SVG_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    drawing = text[text.index("<svg") :]
    rules = "".join(
        f'[style*="{what}: {light}"] {{{what}: {dark} !important}}'
        for light, dark in _DARK.items()
        for what in ("fill", "stroke")
    )
    head = drawing.index(">") + 1
    style = f"<style>@media (prefers-color-scheme: dark) {{{rules}}}</style>"
    width, height = (round(float(inches) * 96) for inches in figure.get_size_inches())
    return _Picture(_address("image/svg+xml", (drawing[:head] + style + drawing[head:]).encode()), width, height)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
