"""Figure 2: where models end in the information plane, by ELBO, by GECO at five kappas, and by hand annealing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bridle.reports.information_plane import nll_per_dimension
from bridle.reports.pieces import number
from bridle.reports.record import RunRecord
from bridle.reports.style import COLOURS, FONT, INK, logarithmic, new_figure, style
from bridle.reproduce.exhibit import (
    MET,
    Claim,
    Drawn,
    Exhibit,
    FinishedRuns,
    MissingRunError,
    Table,
    all_met,
    kappa_of,
    missing_notes,
    setting,
)
from bridle.reproduce.scales import MODELS, Model, Scale, Source
from bridle.sweeps import RunSpec

__all__ = ["InformationPlane", "PlanePoint", "plane_claims"]

_MARKERS = {"geco": "o", "unmet": "x", "elbo": "s", "annealed": "^"}
_LABELS = {"geco": "GECO, RE", "unmet": "GECO, κ not met", "elbo": "ELBO", "annealed": "ELBO, hand annealed"}
_COLOURS = (*COLOURS, "#000000", "#999999")  # the paper has eight data sets
_ORDERS = 100.0  # "many orders of magnitude" are two at least
_BIN = 1 / 255  # of 8-bit images


@dataclass(frozen=True)
class PlanePoint:
    """Where a run ended. ``family``: the panel; ``kappa``: pixel units, None for a baseline; ``nll``: nats per
    dimension at sigma_opt; ``kl``: nats per image, ``rmse``: pixel units, both of the training split; ``met``: whether
    the error ended at kappa, None for a baseline."""

    family: str
    data: str
    objective: str
    kappa: float | None
    nll: float
    kl: float
    rmse: float
    met: bool | None

    @property
    def mark(self) -> str:
        """Which of the marks it has."""
        return "unmet" if self.met is False else self.objective


@dataclass(frozen=True)
class DialLine:
    """What one run for a range of kappas gives: NLL (nats per dimension) and KL (nats per image) at each of ten."""

    family: str
    data: str
    kappas: tuple[float, float]
    ends: tuple[tuple[float, float], ...]


class InformationPlane(Exhibit):
    """Figure 2: a panel a model family, a colour a data set, GECO's points joined in the order of kappa."""

    name: ClassVar[str] = "figure2"
    title: ClassVar[str] = "Information plane analysis of conditional ConvDRAW, ConvDRAW and VAE+NVP"

    def runs(self, scale: Scale) -> list[RunSpec]:
        dialled = [spec for _, _, spec in self._dialled(scale)] if scale.dial else []
        return [*(spec for _, _, spec in self._places(scale)), *dialled]

    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        points, bins = [], {}
        for family, source, spec in self._places(scale):
            if finished.has(spec):
                record = finished[spec]
                kappa = kappa_of(spec)
                at = (record.nll, record.kl_train, record.rmse_train, all_met(record))
                points.append(PlanePoint(family, source.name, spec.config.objective, kappa, *at))
                bins[source.name] = record.bin
        if not points:
            raise MissingRunError("none of its runs finished")
        lines = [
            DialLine(family, source.name, spec.config.constraints.ranges()["re"], _ends(finished[spec]))
            for family, source, spec in (self._dialled(scale) if scale.dial else [])
            if finished.has(spec)
        ]
        sources = [source for _, source, _ in self._places(scale)]
        return Drawn(
            picture=_draw(points, lines),
            caption=[
                setting(scale, self.runs(scale), sources),
                "NLL is that of the quantized normal at sigma_opt (equation 3, 1,000 training images, z sampled), so "
                f"that it is a function of the error alone; KL is the mean over the training split.{_coarse(bins)}",
                f"GECO's points are joined in the order of kappa, {', '.join(f'{k:g}' for k in scale.kappas)}; a "
                "cross is a run whose error ended more than 1% above its kappa.",
                *_told(lines),
                "The annealed weight of the KL falls from 2.0 to 0.7 over the first tenth of the run. "
                "The paper prints no numbers beside this figure.",
            ],
            claims=plane_claims(points),
            table=Table(
                ("model", "data", "objective", "kappa", "constraint", "RMSE", "NLL (nats per dimension)",
                 "KL (nats per image)"),
                tuple((p.family, p.data, p.objective, p.kappa, MET[p.met], p.rmse, p.nll, p.kl) for p in points),
            ),
            notes=missing_notes(self.runs(scale), finished),
        )  # fmt: skip

    def _families(self, scale: Scale) -> list[tuple[str, Model, Source]]:
        families: list[tuple[str, Model, tuple[Source, ...]]] = [
            (MODELS[model], model, scale.unconditional) for model in scale.models
        ]
        if "ConvDRAW" in scale.models:
            families.insert(0, ("conditional ConvDRAW", "ConvDRAW", scale.conditional))
        return [(family, model, source) for family, model, sources in families for source in sources]

    def _dialled(self, scale: Scale) -> list[tuple[str, Source, RunSpec]]:
        return [(family, source, scale.dialled(source, model)) for family, model, source in self._families(scale)]

    def _places(self, scale: Scale) -> list[tuple[str, Source, RunSpec]]:
        return [
            (family, source, spec)
            for family, model, source in self._families(scale)
            for spec in (
                scale.run(source, model, "elbo"),
                scale.run(source, model, "annealed"),
                *(scale.run(source, model, re=kappa) for kappa in scale.kappas),
            )
        ]


def plane_claims(points: Sequence[PlanePoint]) -> list[Claim]:
    """Whether the ELBO alone ends at a lower NLL and a higher KL than GECO at each kappa that was met, by model and
    data set."""
    claims, ratios = [], []
    for family, data in dict.fromkeys((p.family, p.data) for p in points):
        group = [p for p in points if (p.family, p.data) == (family, data)]
        elbo = next((p for p in group if p.objective == "elbo"), None)
        geco = [p for p in group if p.objective == "geco" and p.met]
        unmet = ", ".join(f"{p.kappa:g}" for p in group if p.met is False)
        if elbo is None or not geco:
            reason = f"kappa {unmet} not met" if elbo and unmet else "the runs to compare did not finish"
            claims.append(Claim(f"{family} on {data}: {reason}.", None))
            continue
        higher = [p for p in geco if p.nll <= elbo.nll]
        cheaper = [p for p in geco if p.kl >= elbo.kl]
        times = sorted(elbo.kl / p.kl for p in geco if p.kl > 0)
        ratios += times
        exceptions = "".join(
            f"; at kappa {', '.join(f'{p.kappa:g}' for p in found)} GECO's {what}"
            for found, what in ((higher, "NLL is no higher"), (cheaper, "KL is no lower"))
            if found
        )
        if unmet:
            exceptions += f"; kappa {unmet} not met and left out"
        spread = f"{number(times[0], 3)} to {number(times[-1], 3)} times" if times else "no multiple of"
        claims.append(
            Claim(
                f"{family} on {data}: the ELBO's NLL ({elbo.nll:.3f}, RMSE {elbo.rmse:.4f}) is lower than GECO's at "
                f"{len(geco) - len(higher)} of {len(geco)} kappas, and its KL ({number(elbo.kl)}) "
                f"is {spread} GECO's{exceptions}.",
                not higher and not cheaper,
            )
        )
    if ratios:
        claims.append(
            Claim(
                "The ELBO's KL is 'some times many orders of magnitude higher': the greatest ratio here is "
                f"{number(max(ratios), 3)}.",
                max(ratios) >= _ORDERS,
            )
        )
    return claims


def _coarse(bins: Mapping[str, float]) -> str:
    """What fewer than 256 values a channel do to the NLL, by data set.

    Example:
        >>> _coarse({"Digits": 1 / 16, "MNIST": 1 / 255})
        ' Digits: 17 values a channel, so that the NLL is 2.77 nats lower than that of 8-bit images of the same error.'
    """
    by_bin: dict[float, list[str]] = {}
    for name, bin_ in bins.items():
        by_bin.setdefault(bin_, []).append(name)
    return "".join(
        f" {', '.join(names)}: {1 / bin_ + 1:.0f} values a channel, so that the NLL is {math.log(bin_ / _BIN):.2f} "
        "nats lower than that of 8-bit images of the same error."
        for bin_, names in by_bin.items()
        if bin_ > 1.001 * _BIN
    )


def _ends(record: RunRecord) -> tuple[tuple[float, float], ...]:
    return tuple((float(nll_per_dimension(p.rmse, record.bin)), p.kl) for p in record.curves["re"])


def _told(lines: Sequence[DialLine]) -> list[str]:
    if not lines:
        return []
    least, greatest = lines[0].kappas
    return [
        f"Dotted lines are what one run with a dial for kappa from {least:g} to {greatest:g} gives, at ten kappas, "
        "after twice the steps of each of the others; its NLL follows from its error."
    ]


def _draw(points: Sequence[PlanePoint], lines: Sequence[DialLine] = ()) -> Figure:
    families = list(dict.fromkeys(p.family for p in points))
    figure = new_figure(4.2)
    names = list(dict.fromkeys(p.data for p in points))
    colours = dict(zip(names, _COLOURS[: len(names)], strict=True))
    panels = figure.subplots(1, len(families), squeeze=False)[0]
    for axes, family in zip(panels, families, strict=True):
        style(axes, "NLL (nats per dimension)", "KL (nats per image)" if axes is panels[0] else "")
        axes.set_title(family, size=FONT + 1, color=INK)
        axes.margins(0.09)
        panel = [p for p in points if p.family == family]
        for data in dict.fromkeys(p.data for p in panel):
            group, colour = [p for p in panel if p.data == data], colours[data]
            geco = sorted((p for p in group if p.objective == "geco"), key=lambda p: p.kappa or 0)
            axes.plot([p.nll for p in geco], [p.kl for p in geco], color=colour, linewidth=1.3, zorder=2, label=data)
            for line in lines:
                if (line.family, line.data) == (family, data):
                    nll, kl = zip(*line.ends, strict=True)
                    axes.plot(nll, kl, color=colour, linestyle=":", linewidth=1.8, marker=".", markersize=3, zorder=3)
            for p in group:
                face = colour if p.mark == "geco" else "white"
                mark = {"marker": _MARKERS[p.mark], "markersize": 6.5, "markeredgewidth": 1.4}
                axes.plot(p.nll, p.kl, color=colour, markerfacecolor=face, zorder=3, **mark)
        logarithmic(axes)
        axes.legend(loc="best", frameon=False, fontsize=FONT, labelcolor=INK)
    marks = [
        Line2D([], [], linestyle="none", marker=_MARKERS[mark], color=INK, label=label,
               markerfacecolor=INK if mark == "geco" else "white")
        for mark, label in _LABELS.items() if any(p.mark == mark for p in points)
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=FONT)
    return figure
