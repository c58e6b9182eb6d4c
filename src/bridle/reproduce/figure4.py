"""Figure 4: average KL over training at the same reconstruction error, by ELBO and by GECO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from bridle.reports.record import RunRecord
from bridle.reports.style import COLOURS, FONT, INK, logarithmic, new_figure, style
from bridle.reproduce.equal_error import equal_error_pairs, equal_error_verdict
from bridle.reproduce.exhibit import Claim, Drawn, Exhibit, FinishedRuns, MissingRunError, Table, missing_notes, setting
from bridle.reproduce.scales import Scale
from bridle.sweeps import RunSpec

__all__ = ["EqualError", "Pair", "equal_error_claims", "interval", "loss_fall"]

# Quantiles of Student's t at 97.5%, by degrees of freedom: a 95% interval of the mean of two to ten runs.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_GREEN, _BLUE = COLOURS[2], COLOURS[0]  # the paper's colours of ELBO and GECO


@dataclass(frozen=True)
class Pair:
    """Two runs of one seed: root mean squared errors (pixel units) and KL (nats per image) of the training split, and
    GECO's multiplier of the relative constraint at its end, over D / 2."""

    seed: int
    elbo_rmse: float
    elbo_kl: float
    geco_rmse: float
    geco_kl: float
    multiplier: float


class EqualError(Exhibit):
    """Figure 4: ConvDRAW on CIFAR-10 by ELBO until convergence, then by GECO with kappa the error that it reached."""

    name: ClassVar[str] = "figure4"
    title: ClassVar[str] = "GECO results in lower average KL at fixed reconstruction error compared to ELBO"

    def runs(self, scale: Scale) -> list[RunSpec]:
        if scale.cifar10 is None or "ConvDRAW" not in scale.models:
            return []
        return [scale.run(scale.cifar10, "ConvDRAW", "elbo", seed) for seed in scale.seeds]

    def later_runs(self, scale: Scale, finished: FinishedRuns) -> list[RunSpec]:
        if not self.runs(scale):
            return []
        assert scale.cifar10 is not None
        return [geco for _, geco in equal_error_pairs(scale, finished, scale.cifar10, "ConvDRAW", scale.seeds)]

    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        assert scale.cifar10 is not None
        pairs_of_runs = equal_error_pairs(scale, finished, scale.cifar10, "ConvDRAW", scale.seeds)
        specs = [pair for pair in pairs_of_runs if finished.has(pair[1])]
        if not specs:
            raise MissingRunError("none of its pairs of runs finished")
        records = [(finished[elbo], finished[geco]) for elbo, geco in specs]
        pairs = [
            Pair(
                spec.config.seed,
                elbo.rmse_train,
                elbo.kl_train,
                geco.rmse_train,
                geco.kl_train,
                geco.constraints["re"].multiplier / (math.prod(geco.image_shape) / 2),
            )
            for (spec, _), (elbo, geco) in zip(specs, records, strict=True)
        ]
        mse = ", ".join(f"{p.elbo_rmse**2:.3g}" for p in pairs)
        multipliers = ", ".join(f"{p.multiplier:.2f}" for p in pairs)
        several = f"Lines are means over {len(pairs)} seeds, bands 95% intervals of these means."
        return Drawn(
            picture=_draw([r for r, _ in records], [r for _, r in records]),
            caption=[
                setting(scale, [s for pair in specs for s in pair], [scale.cifar10]),
                "Training by ELBO (green) with a learned sigma, then by GECO (blue) with kappa the root mean squared "
                "error over the training split that the ELBO run of the same seed ended with. Equal steps for both. "
                f"{several if len(pairs) > 1 else 'One seed, so without intervals.'}",
                f"Mean squared error of the ELBO runs: {mse} (the paper's on CIFAR-10: 0.00029, kappa 0.017). "
                "The paper prints no KL.",
                "Where the ELBO is at its optimum the two problems share the stationary point (lambda = D / 2 of the "
                "relative constraint, sigma = kappa), so that any difference is one of training. GECO's multiplier "
                f"ended at {multipliers} times D / 2. {_convergence([elbo for elbo, _ in records])}",
            ],
            claims=equal_error_claims(pairs),
            table=Table(
                ("seed", "ELBO: RMSE", "ELBO: KL (nats per image)", "GECO: RMSE", "GECO: KL (nats per image)",
                 "GECO: multiplier over D / 2"),
                tuple((str(p.seed), p.elbo_rmse, p.elbo_kl, p.geco_rmse, p.geco_kl, p.multiplier) for p in pairs),
            ),
            notes=missing_notes([*self.runs(scale), *(geco for _, geco in pairs_of_runs)], finished),
        )  # fmt: skip


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over two to ten rows and the half-widths of their 95% intervals by Student's t, both of shape ``(...)``.

    Arguments:
        values: Shape ``(rows, ...)``.

    Example:
        >>> mean, half = interval(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
        >>> mean.tolist(), half.round(3).tolist()
        ([2.0, 5.0], [2.484, 0.0])
    """
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return values.mean(axis=0), _STUDENT[len(values) - 2] * error


def loss_fall(record: RunRecord) -> tuple[float, float]:
    """How far a run's loss fell from the last tenth but one of its rows to the last one, and the standard error of that
    by the rows' scatter; in the loss's units, for an ELBO nats per image. NaN where a tenth is not two rows."""
    loss = record.metrics["loss"]
    n = len(loss) // 10
    if n < 2:
        return math.nan, math.nan
    before, after = loss[-2 * n : -n], loss[-n:]
    return float(before.mean() - after.mean()), math.sqrt((before.var(ddof=1) + after.var(ddof=1)) / n)


def _convergence(elbo: Sequence[RunRecord]) -> str:
    """Whether the ELBO's loss still fell when its runs ended."""
    falls = [loss_fall(record) for record in elbo]
    if not all(math.isfinite(fall) for fall, _ in falls):
        return "The ELBO's runs are too short to say whether their loss was still falling."
    each = ", ".join(f"{fall:.2g} ± {error:.1g}" for fall, error in falls)
    converged = all(fall <= 2 * error for fall, error in falls)
    state = "was no longer falling" if converged else "was still falling, so that it is not at its optimum"
    return f"The ELBO's loss {state}: by {each} nats per image over the last tenth of the run against the one before."


def equal_error_claims(pairs: Sequence[Pair]) -> list[Claim]:
    """Whether GECO's KL is lower at equal error, see :func:`equal_error_verdict`, by the 95% interval of the paired
    differences.

    Arguments:
        pairs: At least one.
    """
    claim = "At the same error GECO's average KL is lower than the ELBO's"
    differences = [p.geco_kl - p.elbo_kl for p in pairs]
    elbo = float(np.mean([p.elbo_kl for p in pairs]))
    geco = float(np.mean([p.geco_kl for p in pairs]))
    text = f"{claim}: {geco:.4g} against {elbo:.4g} nats"
    if len(pairs) == 1:
        text += ", one seed"
        lower: bool | None = None if differences[0] == 0 else differences[0] < 0
    else:
        mean, half = map(float, interval(np.array(differences)))
        text += f", a difference of {mean:+.3g} ± {half:.2g} ({mean / elbo:+.1%}; 95% interval, {len(pairs)} seeds)"
        lower = None if abs(mean) <= half else mean < 0
        text += "; the interval holds zero" if lower is None else ""
    holds, gap = equal_error_verdict(lower, [(p.elbo_rmse, p.geco_rmse) for p in pairs])
    return [Claim(f"{text}. {gap}", holds)]


def _draw(elbo: Sequence[RunRecord], geco: Sequence[RunRecord]) -> Figure:
    figure = new_figure(3.6)
    rate, error = figure.subplots(1, 2)
    style(rate, "Iteration", "Average KL (nats per image)")
    style(error, "Iteration", "RMSE (pixel units)")
    for records, colour, label in ((elbo, _GREEN, "ELBO"), (geco, _BLUE, "GECO")):
        _curves(rate, records, "kl", colour, label)
        _curves(error, records, "rmse", colour, label)
    logarithmic(error)
    rate.set_ylim(bottom=0)
    for axes in (rate, error):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    rate.legend(frameon=False, fontsize=FONT, labelcolor=INK)
    return figure


def _curves(axes: Axes, records: Sequence[RunRecord], column: str, colour: str, label: str) -> None:
    """The mean over runs of one column of the metrics, and its 95% interval as a band."""
    step = records[0].metrics["step"]
    values = np.stack([r.metrics[column] for r in records])
    axes.plot(step, values.mean(axis=0), color=colour, linewidth=1.5, label=label)
    if len(values) > 1:
        mean, half = interval(values)
        axes.fill_between(step, np.maximum(mean - half, 1e-6), mean + half, color=colour, alpha=0.2, linewidth=0)
