"""Equal error: GECO with the error of a finished ELBO run as its kappa, and when a difference of the two counts."""

from __future__ import annotations

from collections.abc import Sequence

from bridle.constraints import RE
from bridle.reports.record import RunRecord
from bridle.reproduce.exhibit import FinishedRuns
from bridle.reproduce.scales import Model, Scale, Source
from bridle.sweeps import RunSpec

__all__ = ["equal_error_kappa", "equal_error_pairs", "equal_error_verdict"]


def equal_error_kappa(elbo: RunRecord) -> float:
    """The kappa at which GECO has the error of a finished run: that run's root mean squared error over the training
    split, pixel units, to four digits."""
    return float(f"{elbo.rmse_train:.4g}")


def equal_error_pairs(
    scale: Scale, finished: FinishedRuns, source: Source, model: Model, seeds: Sequence[int]
) -> list[tuple[RunSpec, RunSpec]]:
    """The ELBO run of each seed and the GECO run at its error, of the seeds whose ELBO run finished."""
    return [
        (elbo, scale.run(source, model, seed=elbo.config.seed, re=equal_error_kappa(finished[elbo])))
        for elbo in (scale.run(source, model, "elbo", seed) for seed in seeds)
        if finished.has(elbo)
    ]


def equal_error_verdict(lower: bool | None, errors: Sequence[tuple[float, float]]) -> tuple[bool | None, str]:
    """Whether a rate is lower at equal error, and a sentence on how equal the errors are.

    Errors are equal within what a constraint may miss its kappa by. A lower rate counts at a lower error, too. A
    higher rate does not: a lower error costs rate.

    Arguments:
        lower: Whether GECO's rate is lower than the ELBO's, whatever the errors; None where that is open.
        errors: The root mean squared errors of each pair of runs, the ELBO's and GECO's, pixel units.

    Example:
        >>> equal_error_verdict(True, [(0.1, 0.09)])
        (True, "GECO's error is 10.0% below the ELBO's.")
        >>> equal_error_verdict(False, [(0.1, 0.09), (0.1, 0.1)])
        (None, "GECO's error is 10.0% below to 0.0% above the ELBO's: not equal error, and a lower error costs rate.")
    """
    gaps = sorted({round(geco / elbo - 1, 4) for elbo, geco in errors})
    each = [f"{abs(gap):.1%} {'below' if gap < 0 else 'above'}" for gap in dict.fromkeys((gaps[0], gaps[-1]))]
    text = f"GECO's error is {' to '.join(each)} the ELBO's"
    if not all(RE(elbo).satisfied(geco) for elbo, geco in errors):
        return None, f"{text}: not equal error."
    if lower is False and not all(RE(geco).satisfied(elbo) for elbo, geco in errors):
        return None, f"{text}: not equal error, and a lower error costs rate."
    return lower, f"{text}."
