"""Figure 1: a run's trajectory in the information plane, its error, and the equivalent beta."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from bridle.reports.information_plane import figure1
from bridle.reports.record import RunRecord
from bridle.reports.style import DASHES, INK
from bridle.reproduce.exhibit import Claim, Drawn, Exhibit, FinishedRuns, setting
from bridle.reproduce.scales import Scale
from bridle.sweeps import RunSpec

__all__ = ["Trajectory", "equivalent_beta", "trajectory_claims"]

_KAPPA = 0.1


class Trajectory(Exhibit):
    """Figure 1: KL against NLL coloured by iteration, error with the kappa line, equivalent beta; one conditional
    ConvDRAW on MNIST-rotate under RE. The paper does not print its kappa: here 0.1."""

    name: ClassVar[str] = "figure1"
    title: ClassVar[str] = "Trajectory in the information plane induced by GECO during training"

    def runs(self, scale: Scale) -> list[RunSpec]:
        if scale.rotate is None or "ConvDRAW" not in scale.models:
            return []
        return [scale.run(scale.rotate, "ConvDRAW", re=_KAPPA)]

    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        assert scale.rotate is not None
        (spec,) = self.runs(scale)
        record = finished[spec]
        metrics = record.metrics
        beta = equivalent_beta(metrics["re.multiplier"], _KAPPA, metrics["rmse"], math.prod(record.image_shape))
        picture = figure1(record, equivalent_beta=beta)
        *_, panel = picture.axes
        low, high = panel.get_ylim()
        panel.axhline(1, color=INK, linewidth=1.1, linestyle=DASHES)
        panel.set_ylim(min(low, 0.9), max(high, 1.1))
        return Drawn(
            picture=picture,
            caption=[
                setting(scale, [spec], [scale.rotate]),
                f"Conditional ConvDRAW under RE with kappa {_KAPPA:g} (the paper does not print its kappa), two images "
                "as the context. Colour is the iteration in all three panels. NLL is that of the quantized normal at "
                "sigma_opt, taken at each step as the root mean squared error of the last rows' batches.",
                "The equivalent beta is D kappa² / (2 sigma² lambda) for the relative constraint, sigma the same "
                "error: the beta at which NLL + beta KL has the gradient of KL + lambda C. Dashed: 1, the ELBO's own.",
                f"The paper's beta turns at about 10,000 iterations; this run has {record.steps:,}.",
            ],
            claims=trajectory_claims(record, beta),
        )


def equivalent_beta(multiplier: np.ndarray, kappa: float, sigma: np.ndarray, dimensions: int) -> np.ndarray:
    """The beta at which NLL + beta KL has the direction of GECO's gradient, for a relative RE.

    GECO descends KL + lambda (mse / kappa² - 1), a likelihood of deviation sigma D mse / (2 sigma²) + beta KL. The
    gradients are parallel where beta = D kappa² / (2 sigma² lambda).

    Arguments:
        multiplier: lambda of ``mse / kappa^2 - 1``, nats, any shape.
        kappa: Pixel units.
        sigma: The likelihood's standard deviation in pixel units, of the same shape.
        dimensions: D, pixels times channels.

    Example:
        >>> float(equivalent_beta(np.array(32.0), 0.1, np.array(0.1), 64))    # sigma = kappa, lambda = D / 2
        1.0
    """
    beta: np.ndarray = dimensions * kappa**2 / (2 * np.square(sigma) * multiplier)
    return beta


def trajectory_claims(record: RunRecord, beta: np.ndarray) -> list[Claim]:
    """The three things that figure 1 is to show, judged on a run.

    Arguments:
        record: A run under ``re``.
        beta: The equivalent beta of each row of its metrics.
    """
    step, error, kl = (record.metrics[name] for name in ("step", "re.value", "kl"))
    re = record.constraints["re"]
    met = np.flatnonzero(error <= re.kappa)
    before = beta[: met[0]] if len(met) else beta
    until = f"until its error meets kappa at step {step[met[0]]:,.0f}" if len(met) else f"in all {record.steps:,} steps"
    claim = "The constraint dominates at first, with beta < 1"
    if len(before):
        below = float(np.mean(before < 1))
        first = Claim(f"{claim}: {until} the equivalent beta is below 1 in {below:.0%} of the rows.", below == 1)
    else:
        first = Claim(f"{claim}: there is no row from before its error meets kappa.", None)
    claims = [first]
    if not len(met):
        unmet = f"the error never met kappa {re.kappa:g} (it ended at {re.value:.4g})."
        return [*claims, *(Claim(f"{text}: {unmet}", None) for text in ("Then beta grows", "Then the KL falls"))]
    start, end = float(beta[met[0]]), _end(beta)
    claims.append(
        Claim(f"Once the constraint is met beta grows: from {start:.3g} there to {end:.3g} at the end.", end > start)
    )
    kl_start, kl_end = float(kl[met[0]]), _end(kl)
    claims.append(
        Claim(
            "From there the KL is minimised among valid solutions: it goes "
            f"from {kl_start:.4g} to {kl_end:.4g} nats, and the error ends at {re.value:.4g} for kappa {re.kappa:g}.",
            kl_end < kl_start and re.satisfied,
        )
    )
    return claims


def _end(values: np.ndarray) -> float:
    """The median over the last twentieth of the rows: one row is the mean of a few batches only."""
    return float(np.median(values[-max(1, len(values) // 20) :]))
