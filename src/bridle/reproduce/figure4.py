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
from bridle.reproduce.exhibit import Claim, Drawn, Exhibit, FinishedRuns, MissingRunError, Table, setting
from bridle.reproduce.scales import Scale
from bridle.sweeps import RunSpec

__all__ = ["EqualError", "Pair", "equal_error_claims", "equal_error_kappa", "interval"]

# Quantiles of Student's t at 97.5%, by degrees of freedom: a 95% interval of the mean of two to ten runs.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_GREEN, _BLUE = COLOURS[2], COLOURS[0]  # the paper's colours of ELBO and GECO
_EQUAL = 1.01  # as for a constraint: no more than 1% on the wrong side


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
        return [geco for _, geco in self._pairs(scale, finished)]

    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        assert scale.cifar10 is not None
        specs = [pair for pair in self._pairs(scale, finished) if finished.has(pair[1])]
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
                "At the optimum the two problems share the stationary point (lambda = D / 2 of the relative "
                "constraint, sigma = kappa), so that any difference is one of training. GECO's multiplier ended at "
                f"{', '.join(f'{p.multiplier:.2f}' for p in pairs)} times D / 2.",
            ],
            claims=equal_error_claims(pairs),
            table=Table(
                ("seed", "ELBO: RMSE", "ELBO: KL (nats per image)", "GECO: RMSE", "GECO: KL (nats per image)",
                 "GECO: multiplier over D / 2"),
                tuple((str(p.seed), p.elbo_rmse, p.elbo_kl, p.geco_rmse, p.geco_kl, p.multiplier) for p in pairs),
            ),
        )  # fmt: skip

    def _pairs(self, scale: Scale, finished: FinishedRuns) -> list[tuple[RunSpec, RunSpec]]:
        """The ELBO run of each seed, and the GECO run at its error; of the seeds whose ELBO run finished."""
        if (source := scale.cifar10) is None:
            return []
        return [
            (elbo, scale.run(source, "ConvDRAW", seed=elbo.config.seed, re=equal_error_kappa(finished[elbo])))
            for elbo in self.runs(scale)
            if finished.has(elbo)
        ]


def equal_error_kappa(elbo: RunRecord) -> float:
    """The kappa at which GECO has the error of a finished run: that run's root mean squared error over the training
    split, pixel units, to four digits."""
    return float(f"{elbo.rmse_train:.4g}")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean of two to ten values and the half-width of its 95% interval by Student's t.

    Example:
        >>> mean, half = interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 3)
        (2.0, 2.484)
    """
    half = _STUDENT[len(values) - 2] * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), half


def equal_error_claims(pairs: Sequence[Pair]) -> list[Claim]:
    """Whether GECO's KL is lower at equal error: where its error is no more than 1% above the ELBO's in every pair, by
    the 95% interval of the paired differences.

    Arguments:
        pairs: At least one.
    """
    claim = "At the same error GECO's average KL is lower than the ELBO's"
    worst = max(p.geco_rmse / p.elbo_rmse for p in pairs)
    differences = [p.geco_kl - p.elbo_kl for p in pairs]
    elbo = float(np.mean([p.elbo_kl for p in pairs]))
    geco = float(np.mean([p.geco_kl for p in pairs]))
    text = f"{claim}: {geco:.4g} against {elbo:.4g} nats"
    if len(pairs) == 1:
        text += ", one seed"
        lower: bool | None = None if differences[0] == 0 else differences[0] < 0
    else:
        mean, half = interval(differences)
        text += f", a difference of {mean:+.3g} ± {half:.2g} ({mean / elbo:+.1%}; 95% interval, {len(pairs)} seeds)"
        lower = None if abs(mean) <= half else mean < 0
    if worst > _EQUAL:
        return [Claim(f"{text}. But GECO's error is up to {worst - 1:.1%} above the ELBO's: not equal error.", None)]
    ratio = f"GECO's error is at most {worst:.3f} times the ELBO's"
    return [Claim(f"{text}. {ratio}{'. The interval holds zero.' if lower is None else '.'}", lower)]


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
    mean = values.mean(axis=0)
    axes.plot(step, mean, color=colour, linewidth=1.5, label=label)
    if len(values) > 1:
        half = _STUDENT[len(values) - 2] * values.std(axis=0, ddof=1) / math.sqrt(len(values))
        axes.fill_between(step, np.maximum(mean - half, 1e-6), mean + half, color=colour, alpha=0.2, linewidth=0)
