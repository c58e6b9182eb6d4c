"""What all drawings share: colours, marks, the shape of a figure, and plain axes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

__all__ = ["COLOURS", "DASHES", "FAINT", "FONT", "GRID", "INK", "MARKERS", "logarithmic", "new_figure", "style"]

INK, FAINT, GRID = "#24292f", "#6e7781", "#d8dee4"
"""Colours of text, of secondary marks and of grid lines. A page may exchange them for a dark background."""

# Okabe and Ito's palette, told apart by colour-blind readers too; the markers repeat what the colours say.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = (0, (4, 3))
FONT = 9


def new_figure(height: float) -> Figure:
    """An empty figure, 10 inches wide, without background."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.03)
    return Figure(figsize=(10, height), layout=layout, facecolor="none")


def style(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels and a faint grid, no ticks, two spines."""
    axes.set_facecolor("none")
    axes.set_xlabel(x_label, size=FONT, color=INK)
    axes.set_ylabel(y_label, size=FONT, color=INK)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=FONT, labelcolor=INK, pad=5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, enough of them over half a decade and over many; after the drawing."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = (1,) if high > 500 * low else (1, 2, 5) if high > 5 * low else range(1, 10)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
