"""Table 2: the marginal KL of VAE+NVP by ELBO and by GECO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bridle.evaluation import MarginalKL
from bridle.reproduce.equal_error import equal_error_pairs, equal_error_verdict
from bridle.reproduce.exhibit import (
    MET,
    Claim,
    Drawn,
    Exhibit,
    FinishedRuns,
    Table,
    all_met,
    kappa_of,
    missing_notes,
    setting,
)
from bridle.reproduce.measured import marginal_of_run
from bridle.reproduce.scales import Scale, Source
from bridle.sweeps import RunSpec

__all__ = ["MarginalRow", "MarginalTable", "at_lower_bound", "marginal_claims"]

_PAPER = {"CIFAR-10": (725.2, 45.3), "Color-MNIST": (182.5, 10.3)}
"""Marginal KL of ELBO and of GECO, nats, as printed; kappa is not."""

_MANY = 2.0  # standard errors beyond which two estimates differ


@dataclass(frozen=True)
class MarginalRow:
    """A run of the table. ``kappa``: pixel units, None for the ELBO; ``equal_error``: kappa is the ELBO's error;
    ``met``: whether the error ended at kappa, None for the ELBO; ``rmse``: training split, pixel units."""

    kappa: float | None
    equal_error: bool
    met: bool | None
    rmse: float
    estimate: MarginalKL


class MarginalTable(Exhibit):
    """Table 2, with the bounds and standard errors beside the estimates, and the ratio at all five kappas and at the
    ELBO's own error, since the paper does not print its kappa."""

    name: ClassVar[str] = "table2"
    title: ClassVar[str] = "Marginal KL comparison for a VAE+NVP model on CIFAR-10 and Color-MNIST"

    def runs(self, scale: Scale) -> list[RunSpec]:
        return [
            spec
            for source in _sources(scale)
            for spec in (
                scale.run(source, "NVPVAE", "elbo"),
                *(scale.run(source, "NVPVAE", re=kappa) for kappa in scale.kappas),
            )
        ]

    def later_runs(self, scale: Scale, finished: FinishedRuns) -> list[RunSpec]:
        return [
            geco
            for source in _sources(scale)
            for _, geco in equal_error_pairs(scale, finished, source, "NVPVAE", scale.seeds[:1])
        ]

    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        sources = _sources(scale)
        later = self.later_runs(scale, finished)
        equal = {spec.name for spec in later}
        specs = list({s.name: s for s in (*self.runs(scale), *later)}.values())
        rows: dict[str, list[MarginalRow]] = {}
        for source in sources:
            own = [s for s in specs if s.config.data == source.spec and finished.has(s)]
            own.sort(key=lambda s: kappa_of(s) or 0.0)
            rows[source.name] = [
                MarginalRow(
                    kappa_of(spec),
                    spec.name in equal,
                    all_met(record := finished[spec]),
                    record.rmse_train,
                    marginal_of_run(finished, spec, source, scale.marginal_samples),
                )
                for spec in own
            ]
        outside = [
            f"{source.name}, RMSE {row.rmse:.4f}: the estimate is outside of its bounds."
            for source in sources
            for row in rows[source.name]
            if not row.estimate.within_bounds
        ]
        at_bound = {
            source.name: ", ".join(f"{row.rmse:.4f}" for row in rows[source.name] if at_lower_bound(row.estimate))
            for source in sources
        }
        nothing_of_the_fit = [
            f"{name}, at RMSE {errors}: the estimate is its lower bound within {_MANY:g} standard errors, the average "
            "KL less the logarithm of the number of images. As far as these samples can tell no two posteriors "
            "overlap there, and the number says nothing of how well all of them together fit the prior."
            for name, errors in at_bound.items()
            if errors
        ]
        return Drawn(
            picture=None,
            caption=[
                setting(scale, specs, sources),
                f"Marginal KL: KL(q(z) || p(z)) in nats, q(z) the full mixture over the training split, from "
                f"{scale.marginal_samples:,} samples of z, with its standard error. It lies between the average KL "
                "less the logarithm of the number of training images, and the average KL.",
                *(_printed(source) for source in sources),
                "The paper does not print table 2's kappa, so that GECO stands here at all of figure 2's and at the "
                "error of the ELBO's own run (equal error). RMSE: training split, pixel units.",
            ],
            claims=[claim for source in sources for claim in marginal_claims(source, rows[source.name])],
            table=Table(
                ("data", "training", "kappa", "constraint", "RMSE", "average KL", "marginal KL (nats)",
                 "standard error", "lower bound", "upper bound", "ELBO / GECO"),
                tuple(line for source in sources for line in _lines(source, rows[source.name])),
            ),
            notes=[*outside, *nothing_of_the_fit, *missing_notes(specs, finished)],
        )  # fmt: skip


def at_lower_bound(estimate: MarginalKL) -> bool:
    """Whether an estimate cannot be told from a lower bound above 0, the average KL less log N: the estimate of any
    posteriors that do not overlap, wherever they lie."""
    above = estimate.marginal_kl - estimate.lower_bound
    return estimate.lower_bound > 0 and above <= _MANY * estimate.standard_error


def marginal_claims(source: Source, rows: Sequence[MarginalRow]) -> list[Claim]:
    """Whether GECO's marginal KL is lower than the ELBO's: at each kappa that was met, by the paper's ratio, and at
    equal error."""
    elbo = next((row for row in rows if row.kappa is None), None)
    geco = [row for row in rows if row.kappa is not None]
    if elbo is None or not geco:
        return [Claim(f"{source.name}: the runs to compare did not finish.", None)]
    stated = [row for row in geco if not row.equal_error and row.met]
    unmet = ", ".join(f"{row.kappa:g}" for row in geco if not row.equal_error and not row.met)
    left_out = f" Kappa {unmet} not met and left out." if unmet else ""
    claims = []
    if unmet and not stated:
        claims.append(Claim(f"{source.name}: GECO against the ELBO: kappa {unmet} not met.", None))
    if stated:
        lower = [row for row in stated if _difference(elbo, row) > _MANY]
        ratios = ", ".join(f"{_ratio(elbo, row)} at {row.kappa:g} (RMSE {row.rmse:.4f})" for row in stated)
        claims.append(
            Claim(
                f"{source.name}: GECO's marginal KL is lower than the ELBO's {elbo.estimate.marginal_kl:.4g} by more "
                f"than {_MANY:g} standard errors at {len(lower)} of {len(stated)} kappas. ELBO / GECO: {ratios}; the "
                f"ELBO's own RMSE is {elbo.rmse:.4f}.{left_out}",
                len(lower) == len(stated),
            )
        )
        claims.append(_printed_ratio_claim(source, elbo, stated))
    claims += [_equal_error_claim(source, elbo, row) for row in geco if row.equal_error]
    return claims


def _printed_ratio_claim(source: Source, elbo: MarginalRow, stated: Sequence[MarginalRow]) -> Claim:
    """Whether the paper's ratio is reached at a kappa of its own, by two standard errors of the difference that it
    would leave."""
    printed = _PAPER[source.paper][0] / _PAPER[source.paper][1]
    reached, open_ = [], []
    for row in stated:
        difference = elbo.estimate.marginal_kl - printed * row.estimate.marginal_kl
        error = math.hypot(elbo.estimate.standard_error, printed * row.estimate.standard_error)
        if row.estimate.marginal_kl <= 0 or abs(difference) <= _MANY * error:
            open_.append(row)
        elif difference > 0:
            reached.append(row)
    where = f"is reached at {_kappas(reached)}" if reached else f"is not reached at {_kappas(stated)}"
    if open_:
        where = f"{f'{where}, and' if reached else 'is'} not decided at {_kappas(open_)} by these standard errors"
    return Claim(
        f"{source.name}: the paper's ratio for {source.paper}, {printed:.1f}, {where}. It is one of errors as much as "
        "of training: the looser kappa against the ELBO's RMSE, the greater.",
        True if reached else None if open_ else False,
    )


def _kappas(rows: Sequence[MarginalRow]) -> str:
    return f"kappa {', '.join(f'{row.kappa:g}' for row in rows)}"


def _equal_error_claim(source: Source, elbo: MarginalRow, row: MarginalRow) -> Claim:
    text = (
        f"{source.name}: at equal error (RMSE {row.rmse:.4f} against {elbo.rmse:.4f}) GECO's marginal KL is "
        f"{row.estimate.marginal_kl:.4g} ± {row.estimate.standard_error:.2g} against "
        f"{elbo.estimate.marginal_kl:.4g} ± {elbo.estimate.standard_error:.2g}, ELBO / GECO {_ratio(elbo, row)}"
    )
    distance = _difference(elbo, row)
    lower = None if abs(distance) <= _MANY else distance > 0
    text += f", no more than {_MANY:g} standard errors apart" if lower is None else ""
    holds, gap = equal_error_verdict(lower, [(elbo.rmse, row.rmse)])
    return Claim(f"{text}. {gap}", holds)


def _difference(elbo: MarginalRow, geco: MarginalRow) -> float:
    """How far GECO's marginal KL is below the ELBO's, in standard errors of the difference."""
    error = math.hypot(elbo.estimate.standard_error, geco.estimate.standard_error)
    return (elbo.estimate.marginal_kl - geco.estimate.marginal_kl) / max(error, 1e-9)


def _ratio(elbo: MarginalRow, geco: MarginalRow) -> str:
    """ELBO / GECO, where GECO's is told from zero."""
    marginal, error = geco.estimate.marginal_kl, geco.estimate.standard_error
    if marginal <= _MANY * error:
        return f"above {elbo.estimate.marginal_kl / (_MANY * error):.3g}" if error > 0 else "no number"
    return f"{elbo.estimate.marginal_kl / marginal:.3g}"


def _lines(source: Source, rows: Sequence[MarginalRow]) -> list[tuple[str | float | None, ...]]:
    """A data set's lines: the paper's two first, then the ELBO and GECO by kappa."""
    elbo_paper, geco_paper = _PAPER[source.paper]
    before, after = (None,) * 4, (None,) * 3
    lines: list[tuple[str | float | None, ...]] = [
        (f"{source.paper} (paper)", "ELBO", *before, elbo_paper, *after, None),
        (f"{source.paper} (paper)", "GECO", *before, geco_paper, *after, f"{elbo_paper / geco_paper:.1f}"),
    ]
    elbo = next((row for row in rows if row.kappa is None), None)
    for row in rows:
        e = row.estimate
        name = "ELBO" if row.kappa is None else "GECO, equal error" if row.equal_error else "GECO"
        ratio = _ratio(elbo, row) if elbo is not None and row.kappa is not None else None
        numbers = (e.average_kl, e.marginal_kl, e.standard_error, e.lower_bound, e.average_kl)
        lines.append((source.name, name, row.kappa, MET[row.met], row.rmse, *numbers, ratio))
    return lines


def _printed(source: Source) -> str:
    elbo, geco = _PAPER[source.paper]
    return f"The paper prints for {source.paper}: ELBO {elbo:g}, GECO {geco:g}, a ratio of {elbo / geco:.1f}."


def _sources(scale: Scale) -> list[Source]:
    """CIFAR-10's and Color-MNIST's, of those that are there."""
    if "NVPVAE" not in scale.models:
        return []
    return [s for s in (scale.cifar10, scale.color_mnist) if s is not None]
