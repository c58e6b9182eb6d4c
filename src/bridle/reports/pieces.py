"""What pages are made of: pictures in the page itself, numbers as a person reads them, and the templates."""

from __future__ import annotations

import base64
import io
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from bridle.reports.style import FAINT, GRID, INK

__all__ = ["Picture", "drawn", "duration", "environment", "number", "png", "svg"]

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
class Picture:
    """An image as a ``data:`` address, with its size in pixels; ``missing`` says why there is none."""

    address: str = ""
    width: int = 0
    height: int = 0
    missing: str = ""


def environment() -> Environment:
    """The templates of all pages; ``base.html.j2`` is what they share."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def number(value: float, digits: int = 4) -> str:
    """Four significant digits, one less from 0.01 to 0.1 so that errors align, no exponent from 0.0001 to a million."""
    if not math.isfinite(value):
        return "not finite"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits - 1 - magnitude - (magnitude == -2))}f}"


def duration(seconds: float) -> str:
    """Seconds in the two greatest units that they have.

    Example:
        >>> duration(125.2)
        '2 min 5 s'
    """
    if not math.isfinite(seconds):
        return "not known"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def png(file: Path) -> Picture:
    """A picture of the run folder as it is, after a look whether it can be drawn."""
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
    except FileNotFoundError:
        return Picture(missing=f"{file.name} is not in the run folder")
    except (OSError, SyntaxError):
        return Picture(missing=f"{file.name} is damaged")
    return Picture(_address("image/png", content), width, height)


def drawn(image: Image.Image) -> Picture:
    """A picture that is in no file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Picture(_address("image/png", buffer.getvalue()), *image.size)


def svg(figure: Figure) -> Picture:
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
    return Picture(_address("image/svg+xml", (drawing[:head] + style + drawing[head:]).encode()), width, height)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
