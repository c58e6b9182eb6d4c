"""Figure 2: where models end in the information plane, by ELBO, by GECO at five kappas, and by hand annealing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bridle.reports.style import COLOURS, FONT, INK, logarithmic, new_figure, style
from bridle.reproduce.exhibit import Claim, Drawn, Exhibit, FinishedRuns, MissingRunError, Table, setting
from bridle.reproduce.scales import MODELS, Model, Scale, Source
from bridle.sweeps import RunSpec

__all__ = ["InformationPlane", "PlanePoint", "plane_claims"]

_MARKERS = {"geco": "o", "elbo": "s", "annealed": "^"}
_LABELS = {"geco": "GECO, RE", "elbo": "ELBO", "annealed": "ELBO, hand annealed"}
_ORDERS = 100.0  # what "many orders of magnitude" is at least


@dataclass(frozen=True)
class PlanePoint:
    """Where a run ended. ``family``: the panel; ``kappa``: pixel units, None for a baseline; ``nll``: nats per
    dimension at sigma_opt; ``kl``: nats per image, ``rmse``: pixel units, both of the training split."""

    family: str
    data: str
    objective: str
    kappa: float | None
    nll: float
    kl: float
    rmse: float


class InformationPlane(Exhibit):
    """Figure 2: a panel a model family, a colour a data set, GECO's points joined in the order of kappa."""

    name: ClassVar[str] = "figure2"
    title: ClassVar[str] = "Information plane analysis of conditional ConvDRAW, ConvDRAW and VAE+NVP"

    def runs(self, scale: Scale) -> list[RunSpec]:
        return [spec for _, _, spec in self._places(scale)]

    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        points, missing = [], []
        for family, source, spec in self._places(scale):
            if not finished.has(spec):
                missing.append(spec.name)
                continue
            record = finished[spec]
            kappa = spec.config.constraints.re
            at = (record.nll, record.kl_train, record.rmse_train)
            points.append(PlanePoint(family, source.name, spec.config.objective, kappa, *at))
        if not points:
            raise MissingRunError("none of its runs finished")
        sources = [source for _, source, _ in self._places(scale)]
        bins = "Digits have 17 grey values, so that their NLL is lower than that of 8-bit images of the same error. "
        return Drawn(
            picture=_draw(points),
            caption=[
                setting(scale, self.runs(scale), sources),
                "NLL is that of the quantized normal at sigma_opt (equation 3, 1,000 training images, z sampled), so "
                "that it is a function of the error alone; KL is the mean over the training split. "
                f"{bins if scale.preset == 'tiny' else ''}"
                f"GECO: kappa {', '.join(f'{k:g}' for k in scale.kappas)} from left to right.",
                "The annealed weight of the KL falls from 2.0 to 0.7 over the first tenth of the run. "
                "The paper prints no numbers beside this figure.",
            ],
            claims=plane_claims(points),
            table=Table(
                ("model", "data", "objective", "kappa", "RMSE", "NLL (nats per dimension)", "KL (nats per image)"),
                tuple((p.family, p.data, p.objective, p.kappa, p.rmse, p.nll, p.kl) for p in points),
            ),
            notes=[f"Run {name} did not finish and is left out." for name in missing],
        )

    def _places(self, scale: Scale) -> list[tuple[str, Source, RunSpec]]:
        families: list[tuple[str, Model, tuple[Source, ...]]] = [
            (MODELS[model], model, scale.unconditional) for model in scale.models
        ]
        if "ConvDRAW" in scale.models:
            families.insert(0, ("conditional ConvDRAW", "ConvDRAW", scale.conditional))
        return [
            (family, source, spec)
            for family, model, sources in families
            for source in sources
            for spec in (
                scale.run(source, model, "elbo"),
                scale.run(source, model, "annealed"),
                *(scale.run(source, model, re=kappa) for kappa in scale.kappas),
            )
        ]


def plane_claims(points: Sequence[PlanePoint]) -> list[Claim]:
    """Whether the ELBO alone ends at a lower NLL and a higher KL than GECO at each kappa, by model and data set."""
    claims, ratios = [], []
    for family, data in dict.fromkeys((p.family, p.data) for p in points):
        group = [p for p in points if (p.family, p.data) == (family, data)]
        elbo = next((p for p in group if p.objective == "elbo"), None)
        geco = [p for p in group if p.objective == "geco"]
        if elbo is None or not geco:
            claims.append(Claim(f"{family} on {data}: the runs to compare did not finish.", None))
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
        spread = f"{times[0]:.3g} to {times[-1]:.3g} times" if times else "no multiple of"
        claims.append(
            Claim(
                f"{family} on {data}: the ELBO's NLL ({elbo.nll:.3f}, RMSE {elbo.rmse:.4f}) is lower than GECO's at "
                f"{len(geco) - len(higher)} of {len(geco)} kappas, and its KL ({elbo.kl:.4g}) "
                f"is {spread} GECO's{exceptions}.",
                not higher and not cheaper,
            )
        )
    if ratios:
        claims.append(
            Claim(
                "The ELBO's KL is 'some times many orders of magnitude higher': the greatest ratio here is "
                f"{max(ratios):.3g}.",
                max(ratios) >= _ORDERS,
            )
        )
    return claims


def _draw(points: Sequence[PlanePoint]) -> Figure:
    families = list(dict.fromkeys(p.family for p in points))
    figure = new_figure(4.2)
    panels = figure.subplots(1, len(families), squeeze=False)[0]
    for axes, family in zip(panels, families, strict=True):
        style(axes, "NLL (nats per dimension)", "KL (nats per image)" if axes is panels[0] else "")
        axes.set_title(family, size=FONT + 1, color=INK)
        axes.margins(0.09)
        panel = [p for p in points if p.family == family]
        for data, colour in zip(dict.fromkeys(p.data for p in panel), COLOURS, strict=False):
            group = [p for p in panel if p.data == data]
            geco = sorted((p for p in group if p.objective == "geco"), key=lambda p: p.kappa or 0)
            axes.plot([p.nll for p in geco], [p.kl for p in geco], color=colour, linewidth=1.3, zorder=2, label=data)
            for p in group:
                face = colour if p.objective == "geco" else "white"
                mark = {"marker": _MARKERS[p.objective], "markersize": 6.5, "markeredgewidth": 1.4}
                axes.plot(p.nll, p.kl, color=colour, markerfacecolor=face, zorder=3, **mark)
        logarithmic(axes)
        axes.legend(loc="best", frameon=False, fontsize=FONT, labelcolor=INK)
    marks = [
        Line2D([], [], linestyle="none", marker=_MARKERS[o], color=INK, label=label,
               markerfacecolor=INK if o == "geco" else "white")
        for o, label in _LABELS.items()
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=FONT)
    return figure
