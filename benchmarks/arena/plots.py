"""The arena's plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.arena.trajectory import THIN, Trajectory
from bridle.files import write_whole
from bridle.reports.style import COLOURS, DASHES, FONT, GRID, INK, MARKERS, new_figure, style

__all__ = ["draw_dynamics", "draw_failures", "draw_profile", "draw_success", "draw_tradeoff"]


def draw_success(shares_of_budget: Mapping[str, Sequence[float]], path: Path) -> None:
    """The share of runs that have settled against the share of the budget that was spent.

    Arguments:
        shares_of_budget: For each contestant, of each run the settle step over the budget; infinite where it failed.
        path: The file, png.
    """
    figure = new_figure(4.5)
    axes = figure.subplots()
    grid = np.linspace(0, 1, 201)
    for line, (name, shares) in enumerate(shares_of_budget.items()):
        reached = (np.array(shares)[:, None] <= grid).mean(axis=0)
        _line(axes, grid, reached, name, line)
    style(axes, "steps, as a share of the budget", "share of the runs settled")
    _finish(figure, axes, path)


def draw_profile(over_best: Mapping[str, Sequence[float]], path: Path) -> None:
    """A performance profile: the share of runs that settled within so many times the steps of the best contestant.

    Arguments:
        over_best: For each contestant, of each run its settle steps over the fewest of all; infinite where it failed.
        path: The file, png.
    """
    figure = new_figure(4.5)
    axes = figure.subplots()
    grid = np.geomspace(1, 20, 201)
    for line, (name, ratios) in enumerate(over_best.items()):
        reached = (np.array(ratios)[:, None] <= grid).sum(axis=0) / max(1, len(ratios))
        _line(axes, grid, reached, name, line)
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    style(axes, "settle steps over the fewest of all contestants", "share of the runs")
    _finish(figure, axes, path)


def draw_tradeoff(points: Mapping[str, tuple[float, float]], path: Path) -> None:
    """What settling sooner costs in rate, a point each.

    Arguments:
        points: By name the settle steps over those of our default, and the KL at kappa over its, less one; the default
            first, which is drawn as a star above all others.
        path: The file, png.
    """
    figure = new_figure(5)
    axes = figure.subplots()
    for point, (name, (steps, rate)) in enumerate(points.items()):
        colour, marker = COLOURS[point % len(COLOURS)], MARKERS[point // len(COLOURS) % len(MARKERS)]
        shape = {"marker": "*", "s": 160, "zorder": 3} if point == 0 else {"marker": marker, "s": 40, "zorder": 2}
        axes.scatter(steps, 100 * rate, label=name, color=colour, **shape)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 0.7, 1, 1.5, 2, 3], ["0.5", "0.7", "1", "1.5", "2", "3"])
    axes.minorticks_off()
    style(axes, "settle steps over those of the default, geometric mean", "KL at kappa over the default's, median, %")
    axes.legend(fontsize=FONT - 1, frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(True, color=GRID)
    _save(figure, path)


def draw_failures(runs: Sequence[tuple[str, Trajectory, Sequence[float]]], path: Path) -> None:
    """Trajectories, a column each: the values over their bounds, and the multipliers.

    Arguments:
        runs: Of each its title, its trajectory, and its bounds on the measured values.
        path: The file, png.
    """
    figure = new_figure(5)
    rows = figure.subplots(2, len(runs), squeeze=False)
    for column, (title, run, bounds) in enumerate(runs):
        upper, lower = rows[:, column]
        steps = np.arange(1, run.steps + 1)
        for row, bound in enumerate(bounds):
            colour = COLOURS[row % len(COLOURS)]
            with np.errstate(invalid="ignore"):
                upper.plot(steps[::THIN], run.values[::THIN, row] / bound, color=colour, linewidth=0.8)
            lower.plot(THIN * np.arange(1, len(run.multipliers) + 1), run.multipliers[:, row], color=colour)
        upper.axhline(1, color=INK, linewidth=0.8, linestyle=DASHES)
        upper.set_yscale("log")
        lower.set_yscale("log")
        upper.set_title(title, size=FONT - 2, color=INK)
        style(upper, "", "value / bound" if column == 0 else "")
        style(lower, "steps", "multiplier" if column == 0 else "")
    _save(figure, path)


def draw_dynamics(runs: Mapping[str, Trajectory], bound: float, path: Path) -> None:
    """Several runs of one problem with a single bound: the value over its bound, the multiplier and the rate.

    Arguments:
        runs: By what the line is called.
        bound: On the measured value.
        path: The file, png.
    """
    figure = new_figure(3.2)
    panels = figure.subplots(1, 3)
    for line, (name, run) in enumerate(runs.items()):
        steps = THIN * np.arange(1, len(run.kl) + 1)
        with np.errstate(invalid="ignore"):
            values = run.values[:, 0].reshape(-1, THIN).mean(axis=1) / bound
        for axes, y in zip(panels, (values, run.multipliers[:, 0], run.kl), strict=True):
            _line(axes, steps, y, name, line)
    for axes, label in zip(panels, ("value / bound", "multiplier", "KL, nats"), strict=True):
        axes.set_yscale("log")
        style(axes, "steps", label)
        axes.grid(True, color=GRID)
    panels[0].axhline(1, color=INK, linewidth=0.8, linestyle=DASHES)
    panels[-1].legend(fontsize=FONT - 1, frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, name: str, index: int) -> None:
    again = index >= len(COLOURS)
    axes.plot(x, y, label=name, color=COLOURS[index % len(COLOURS)], linestyle=DASHES if again else "-", linewidth=1.6)


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=FONT, frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(True, color=GRID)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with write_whole(path) as file:
        figure.savefig(file, format="png", dpi=110, facecolor="white")
