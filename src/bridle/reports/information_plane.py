"""Drawings of runs in the information plane: distortion to the right, rate upwards (figures 1 and 2 of the paper).

Figures are made through matplotlib's object interface, without its global state, so that any thread may draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogFormatter, MaxNLocator, NullLocator

from bridle.reports.record import OBJECTIVES, RunRecord, run_names
from bridle.reports.style import COLOURS, DASHES, FAINT, FONT, INK, MARKERS, new_figure, style
from bridle.sweeps.varied import flatten, varied_keys
from bridle.training.config import OBJECTIVE_SETTINGS

__all__ = ["figure1", "nll_per_dimension", "plane", "sweep_plane"]

# Both ends of the map are cut off, since they vanish on a dark or on a white page.
_ITERATIONS = LinearSegmentedColormap.from_list("iterations", colormaps["plasma"](np.linspace(0.16, 0.86, 256)))
_POINTS = 400
_BANDS = 40
_PLANE = ("NLL (nats per dimension)", "KL (nats per image)")
_BELOW = 14
_TICKS = ((1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9), np.arange(1, 10, 0.2))
_ERROR = "Reconstruction error\n(RMSE, pixel units)"
_MARKERS = {"geco": "o", "elbo": "s", "annealed": "^", "beta": "D"}
# What belongs to an objective, not to the thing that is trained.
_OF_THE_OBJECTIVE = {"objective", *chain(*OBJECTIVE_SETTINGS.values())}


def nll_per_dimension(rmse: np.ndarray | float, bin: float) -> np.ndarray:
    """Negative log-likelihood at the best sigma, in nats per pixel and channel.

    With sigma equal to the root mean squared error, the Gaussian density times the width of a bin gives
    ``ln(rmse) + ln(2 pi e) / 2 - ln(bin)``: for 8-bit images ``ln(rmse) + 6.960``.

    Arguments:
        rmse: Root mean squared error in pixel units, any shape; zero and NaN give NaN.
        bin: The data's quantisation in pixel units, 1/255 for 8-bit images.

    Example:
        >>> round(float(nll_per_dimension(0.1, 1 / 255)), 3)
        4.658
    """
    positive = np.where(np.asarray(rmse, dtype=np.float64) > 0, rmse, np.nan)
    return np.log(positive) + 0.5 * math.log(2 * math.pi * math.e) - math.log(bin)


def figure1(record: RunRecord, equivalent_beta: np.ndarray | None = None) -> Figure:
    """A run's trajectory in the information plane, beside its error and its multiplier over the iterations.

    The colour is the iteration in all the panels, as in the paper's figure 1. A run with other constraints than
    ``re`` gets a pair of panels (value against kappa, multiplier) for each; one without constraints shows sigma and
    the weight of its KL.

    Arguments:
        record: The run.
        equivalent_beta: For a run under ``re`` alone: what to draw in the place of the multiplier, the weight of the KL
            that would have moved the weights the same way, a number for each row of the metrics.

    Raises:
        ValueError: A run whose ``metrics.csv`` has no rows.
    """
    if not len(record.metrics["step"]):
        raise ValueError(f"{record.path} has no rows in metrics.csv")
    norm = _iteration_norm(record.metrics["step"])
    names = list(record.constraints)
    if set(names) <= {"re"}:
        figure = new_figure(4.3)
        cells = figure.add_gridspec(2, 2, width_ratios=(1.1, 1))
        trajectory, error, weight = (figure.add_subplot(c) for c in (cells[:, 0], cells[0, 1], cells[1, 1]))
        bottom = [weight]
        if names:
            _constraint(error, weight, record, "re", norm, equivalent_beta)
        else:
            _curve(error, record, "rmse", norm, _ERROR)
            _dashed(error, record, "sigma", "sigma of the likelihood")
            _curve(weight, record, "beta", norm, "Weight of the KL\n(beta)")
    else:
        figure = new_figure(3.4 + 2.1 * len(names))
        cells = figure.add_gridspec(1 + len(names), 2, height_ratios=(1.6, *(1 for _ in names)))
        trajectory = figure.add_subplot(cells[0, :] if "re" in names else cells[0, 0])
        if "re" not in names:
            _curve(figure.add_subplot(cells[0, 1]), record, "rmse", norm, _ERROR)
        for i, name in enumerate(names, 1):
            value, multiplier = figure.add_subplot(cells[i, 0]), figure.add_subplot(cells[i, 1])
            _constraint(value, multiplier, record, name, norm)
            bottom = [value, multiplier]
    for axes in bottom:
        axes.set_xlabel("Iteration", size=FONT, color=INK)

    x, y = nll_per_dimension(record.metrics["rmse"], record.bin), record.metrics["kl"]
    style(trajectory, *_PLANE)
    trajectory.margins(x=0.07)
    _gradient(trajectory, x, y, record.metrics["step"], norm)
    _scale_y(trajectory, y)
    _end_points(trajectory, record, INK, "o")
    _legend(trajectory, [record], INK)
    _rmse_axis(trajectory, record.bin)
    return figure


def plane(records: Sequence[RunRecord]) -> Figure:
    """Several runs in one information plane: where each ended, on training and on held-out images.

    A filled mark is the training split, an open one the held-out split; the thin line is how the run came there, and
    a dashed vertical is a kappa of ``re``. Of a run with a dial it is the whole curve on training images. The axes
    follow the end points, since the first steps lie far away.

    Arguments:
        records: The runs, at least one. They are named by their folders, see :func:`run_names`.
    """
    figure = new_figure(max(4.4, 1.2 + 0.27 * len(records)))
    axes = figure.add_subplot()
    style(axes, *_PLANE)
    ends = [
        (float(nll_per_dimension(rmse, r.bin)), kl)
        for r in records
        for rmse, kl in ((r.rmse_train, r.kl_train), (r.rmse, r.kl))
    ]
    curves = [
        [[(float(nll_per_dimension(p.rmse, r.bin)), p.kl) for p in points] for points in r.curves.values()]
        for r in records
    ]
    ends += [end for of_run in curves for curve in of_run for end in curve]
    seen = np.array([e for e in ends if all(map(math.isfinite, e))]).reshape(-1, 2)
    if len(seen):
        _limits(axes, seen)
    for i, record in enumerate(records):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        for curve in curves[i]:
            axes.plot(*zip(*curve, strict=True), color=colour, linewidth=1.6, marker=".", zorder=3)
        if curves[i]:
            continue
        keep = _thin(record.metrics["step"])
        x = nll_per_dimension(record.metrics["rmse"], record.bin)[keep]
        axes.plot(x, record.metrics["kl"][keep], color=colour, alpha=0.35, linewidth=1.1, zorder=2)
        _end_points(axes, record, colour, marker)
    width, height = figure.get_size_inches()
    _names(axes, records, (72 * (width - 0.8), 72 * (height - 1)))
    _legend(axes, [r for r in records if not r.curves], FAINT)
    bins = {r.bin for r in records}
    if len(bins) == 1:
        _rmse_axis(axes, bins.pop())
    return figure


def sweep_plane(records: Sequence[RunRecord]) -> Figure:
    """The end points of a sweep's runs on their training images, GECO's joined in the order of kappa (figure 2).

    A colour is what was trained: a data set and a model, and whatever else the runs differ in. A mark is the
    objective. Runs that differ in their seed alone are one point, their mean; its bars reach from the least to the
    greatest of them.

    Arguments:
        records: The runs, at least one.
    """
    figure = new_figure(5.2)
    axes = figure.add_subplot()
    style(axes, *_PLANE)
    points = _sweep_points(records)
    ends = np.array([p.mean for p in points])
    seen = ends[np.isfinite(ends).all(axis=1)].reshape(-1, 2)
    if len(seen):
        _limits(axes, seen)
    trained = list(dict.fromkeys(p.trained for p in points))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(trained)}
    several = len({tuple(p.kappas) for p in points if p.kappas}) > 1
    for point in points:
        marker = _MARKERS.get(point.objective, "X")
        colour = colours[point.trained]
        (x, y), spread = point.mean, point.spread
        axes.errorbar(x, y, *reversed(spread), color=colour, linewidth=1, marker=marker, markersize=6.5,
                      markerfacecolor=colour if point.kappas else "white", markeredgewidth=1.4, zorder=4)  # fmt: skip
        words = [f"{name} {kappa:g}" if several else f"{kappa:g}" for name, kappa in point.kappas.items()]
        if point.objective == "beta":
            words = [f"beta {point.beta:g}"]
        axes.annotate(", ".join(words), (x, y), (6, 5), textcoords="offset points", color=FAINT, size=FONT - 1)
    for line in _lines(points):
        axes.plot(*zip(*(p.mean for p in line), strict=True), color=colours[line[0].trained], linewidth=1.3, zorder=3)

    marks = [
        Line2D([], [], linestyle="none", marker=marker, markersize=6, color=INK, label=OBJECTIVES[name],
               markerfacecolor=INK if name == "geco" else "white")
        for name, marker in _MARKERS.items() if any(p.objective == name for p in points)
    ]  # fmt: skip
    marks += [Line2D([], [], color=colours[name], linewidth=3, label=name) for name in trained]
    columns = max(1, min(len(marks), round(120 / max(len(str(m.get_label())) + 8 for m in marks))))
    figure.legend(
        handles=marks, loc="outside lower center", ncols=columns, frameon=False, fontsize=FONT, labelcolor=INK
    )
    bins = {r.bin for r in records}
    if len(bins) == 1 and len(seen):
        _rmse_axis(axes, bins.pop())
    return figure


@dataclass(frozen=True)
class _SweepPoint:
    """Runs that differ in their seed alone. ``mean``: NLL and KL; ``spread``: how far the others lie below and above
    it, for each of the two; ``kind``: what tells lines of one colour apart."""

    trained: str
    objective: str
    kind: str
    kappas: dict[str, float]
    beta: float
    mean: tuple[float, float]
    spread: tuple[np.ndarray, np.ndarray]


def _sweep_points(records: Sequence[RunRecord]) -> list[_SweepPoint]:
    flat = [flatten(r.config) for r in records]
    varied = varied_keys(flat)

    def differing(values: dict[str, object], of_the_objective: bool) -> str:
        keys = [
            k for k in varied
            if k in values and k != "seed" and (k.partition(".")[0] in _OF_THE_OBJECTIVE) == of_the_objective
            and not k.endswith(".class_path") and not k.startswith("constraints.")
        ]  # fmt: skip
        return ", ".join(f"{k.replace('.init_args', '')} {values[k]}" for k in keys)

    groups: dict[str, list[int]] = {}
    for i, values in enumerate(flat):
        groups.setdefault(repr(sorted((k, repr(v)) for k, v in values.items() if k != "seed")), []).append(i)
    points = []
    for indices in groups.values():
        first, values = records[indices[0]], flat[indices[0]]
        nll = np.array([float(nll_per_dimension(records[i].rmse_train, records[i].bin)) for i in indices])
        kl = np.array([records[i].kl_train for i in indices])
        mean = float(nll.mean()), float(kl.mean())
        spread = [np.array([[m - v.min()], [v.max() - m]]) for m, v in zip(mean, (nll, kl), strict=True)]
        more = differing(values, of_the_objective=False)
        points.append(
            _SweepPoint(
                trained=", ".join(filter(None, (f"{first.data}, {first.model}", more))),
                objective=first.objective,
                kind=differing(values, of_the_objective=True),
                kappas={name: c.kappa for name, c in first.constraints.items()},
                beta=first.last("beta"),
                mean=mean,
                spread=(spread[0], spread[1]),
            )
        )
    return points


def _lines(points: Sequence[_SweepPoint]) -> list[list[_SweepPoint]]:
    """Points of GECO that differ in the kappa of their first constraint alone, in the order of that kappa."""
    lines: dict[object, list[_SweepPoint]] = {}
    for point in points:
        if point.kappas:
            others = tuple(point.kappas.items())[1:]
            lines.setdefault((point.trained, point.kind, next(iter(point.kappas)), others), []).append(point)
    return [sorted(line, key=lambda p: next(iter(p.kappas.values()))) for line in lines.values()]


def _iteration_norm(steps: np.ndarray) -> Normalize:
    """Logarithmic over a long run: what the multiplier does at first happens in a hundredth of it."""
    positive = steps[steps > 0]
    if len(positive) > 1 and positive.max() / positive.min() >= 20:
        return LogNorm(positive.min(), positive.max(), clip=True)
    return Normalize(steps.min(), max(steps.max(), steps.min() + 1), clip=True)


def _thin(steps: np.ndarray) -> np.ndarray:
    """Indices of at most ``_POINTS`` rows, evenly spread over the logarithm of the step, the last one among them."""
    if len(steps) <= _POINTS:
        return np.arange(len(steps))
    wanted = np.geomspace(max(steps[steps > 0].min(initial=np.inf), 1), max(steps[-1], 2), _POINTS)
    return np.unique(np.clip(np.searchsorted(steps, wanted), 0, len(steps) - 1))


def _gradient(axes: Axes, x: np.ndarray, y: np.ndarray, steps: np.ndarray, norm: Normalize) -> None:
    """A line whose colour is the iteration, in a few bands of one colour so that the drawing stays small."""
    keep = _thin(steps)
    keep = keep[np.isfinite(x[keep]) & np.isfinite(y[keep])]
    if not len(keep):
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=FAINT, size=FONT)
        return
    points, shade = np.column_stack([x[keep], y[keep]]), np.asarray(norm(steps[keep]))
    band = np.minimum((shade * _BANDS).astype(int), _BANDS - 1)
    # Each band reaches to the first point of the next, so that the line is whole.
    starts = np.concatenate([[0], np.flatnonzero(np.diff(band)) + 1])
    for a, b in zip(starts, [*starts[1:], len(points)], strict=True):
        colour = _ITERATIONS((band[a] + 0.5) / _BANDS)
        axes.plot(*points[a : b + 1].T, color=colour, linewidth=1.8, solid_capstyle="round", zorder=3)


def _curve(axes: Axes, record: RunRecord, column: str, norm: Normalize, label: str) -> None:
    """One column over the iterations."""
    style(axes, "", label)
    steps = record.metrics["step"]
    y = record.metrics.get(column, np.full(len(steps), np.nan))
    if isinstance(norm, LogNorm):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        # A row at step 0 has no place on this axis.
        y = np.where(steps > 0, y, np.nan)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _gradient(axes, steps, y, steps, norm)
    _scale_y(axes, y)


def _constraint(
    value: Axes, weight: Axes, record: RunRecord, name: str, norm: Normalize, beta: np.ndarray | None = None
) -> None:
    """A constraint's value against its kappa, and the multiplier that keeps it there, or the beta in its place."""
    _curve(value, record, f"{name}.value", norm, _ERROR if name == "re" else f"{name}\n(units of kappa)")
    _dashed(value, record, f"{name}.kappa", f"kappa = {record.constraints[name].kappa:g}")
    if beta is None:
        _curve(weight, record, f"{name}.multiplier", norm, f"Multiplier of {name}\n(nats)")
    else:
        _curve(weight, replace(record, metrics=record.metrics | {"beta": beta}), "beta", norm, "Equivalent beta")


def _dashed(axes: Axes, record: RunRecord, column: str, label: str) -> None:
    """A second column in the panel of the first, such as the kappa that an error has to meet."""
    if column not in record.metrics:
        return
    keep = _thin(record.metrics["step"])
    x, y = record.metrics["step"][keep], record.metrics[column][keep]
    keep = x >= (axes.get_xscale() == "log")
    axes.plot(x[keep], y[keep], color=INK, linewidth=1.1, linestyle=DASHES, zorder=4, label=label)
    axes.legend(loc="best", frameon=False, fontsize=FONT, labelcolor=INK, borderaxespad=0.1)


def _scale_y(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic over more than two decades, not counting a few small values such as the KL of the first steps.

    A linear axis starts at zero unless that would flatten the curve.
    """
    finite = values[np.isfinite(values)]
    if len(finite) and np.quantile(finite, 0.03) > 0 and finite.max() > 100 * np.quantile(finite, 0.03):
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(LogFormatter() if finite.max() > 1e5 else FuncFormatter(lambda v, _: f"{v:g}"))
        return
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if len(finite) and finite.min() >= 0 and finite.max() > 0:
        flat = 0.6 * finite.max() <= finite.min() < 0.98 * finite.max()
        axes.set_ylim(None if flat else 0, finite.max() * 1.1)


def _end_points(axes: Axes, record: RunRecord, colour: str, marker: str) -> None:
    train = (float(nll_per_dimension(record.rmse_train, record.bin)), record.kl_train)
    held_out = (float(nll_per_dimension(record.rmse, record.bin)), record.kl)
    axes.plot(*zip(train, held_out, strict=True), color=colour, linewidth=0.8, zorder=4)
    for point, face in ((train, colour), (held_out, "white")):
        axes.plot(
            *([c] for c in point),
            linestyle="none",
            marker=marker,
            markersize=6.5,
            markerfacecolor=face,
            markeredgecolor=colour,
            markeredgewidth=1.4,
            zorder=4,
        )


def _legend(axes: Axes, records: Sequence[RunRecord], colour: str) -> None:
    """Verticals at the kappas of ``re``, and what the marks and the lines mean, where there is room."""
    marks = [
        Line2D([], [], linestyle="none", marker="o", markersize=6, color=colour, markerfacecolor=face, label=label)
        for face, label in ((colour, "training images"), ("white", "held-out images"))
    ]
    kappas = sorted({(r.constraints["re"].kappa, r.bin) for r in records if "re" in r.constraints})
    for kappa, bin_ in kappas:
        line = axes.axvline(
            float(nll_per_dimension(kappa, bin_)), color=INK, linewidth=1.1, linestyle=DASHES, zorder=1.5
        )
    if kappas:
        line.set_label(f"kappa = {', '.join(f'{kappa:g}' for kappa, _ in kappas)}")
        marks.append(line)
    axes.legend(handles=marks, loc="best", frameon=False, fontsize=FONT, labelcolor=INK, handletextpad=0.5)


def _rmse_axis(axes: Axes, bin: float) -> None:
    """The error in pixel units along the upper edge: what the NLL says in numbers that can be pictured."""
    low, high = (math.exp(x - float(nll_per_dimension(1.0, bin))) for x in axes.get_xlim())
    for digits in _TICKS:
        ticks = [d * 10**e for e in range(-4, 1) for d in digits if low <= d * 10**e <= high]
        if len(ticks) >= 4:
            break
    upper = axes.secondary_xaxis("top")
    upper.set_xticks(nll_per_dimension(np.array(ticks), bin), [f"{t:g}" for t in ticks])
    upper.tick_params(length=0, labelsize=FONT, labelcolor=FAINT, pad=2)
    upper.spines[:].set_visible(False)
    upper.set_xlabel("RMSE (pixel units)", size=FONT, color=FAINT)


def _limits(axes: Axes, points: np.ndarray) -> None:
    """Room around the end points for the last stretch of each run's way, and for the names to their left."""
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    room = max(0.35 * (right - left), 0.15)
    axes.set_xlim(left - 1.3 * room, right + room)
    if bottom > 0 and top > 100 * bottom:
        axes.set_yscale("log")
        axes.set_ylim(bottom / 2, top * 2)
    else:
        axes.set_ylim(min(0.0, bottom), top * 1.25 if top > 0 else 1.0)


def _names(axes: Axes, records: Sequence[RunRecord], size: tuple[float, float]) -> None:
    """Each run's name below and left of its end point (runs come from above and right), or on the nearest free line.

    ``size``: of the axes in points, about.
    """
    to_fraction = axes.transData + axes.transAxes.inverted()

    def position(rmse: float, kl: float, bin: float) -> np.ndarray:
        return to_fraction.transform((float(nll_per_dimension(rmse, bin)), kl)) * size

    line = 1.5 * FONT
    ends = np.array([(position(r.rmse_train, r.kl_train, r.bin), position(r.rmse, r.kl, r.bin)) for r in records])
    taken = [(x - 6, x + 6, y) for x, y in ends.reshape(-1, 2)]
    order = [int(i) for i in np.argsort(-ends[:, 0, 1]) if np.isfinite(ends[i, 0]).all()]
    names = run_names(records)
    for i in order:
        right, level = ends[i, 0] - (8, _BELOW)
        left = right - 0.62 * FONT * len(names[i])
        tries = [sign * k * line / 2 for k in range(2 * len(records) + 8) for sign in (1, -1)]
        shift = next(
            (t for t in tries if all(right < a or left > b or abs(level + t - y) >= line for a, b, y in taken)), 0.0
        )
        taken.append((left, right, level + shift))
        axes.annotate(
            names[i],
            (float(nll_per_dimension(records[i].rmse_train, records[i].bin)), records[i].kl_train),
            xytext=(-8, shift - _BELOW),
            textcoords="offset points",
            ha="right",
            va="center",
            color=COLOURS[i % len(COLOURS)],
            size=FONT + 0.5,
            weight="bold",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkB": 5} if shift else None,
        )
