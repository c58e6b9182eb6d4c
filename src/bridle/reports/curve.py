"""The page of a run with a dial: its rate-distortion curve, and what each kappa looks like."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL.Image import Image
from torch import Tensor

from bridle.data import DataSet
from bridle.errors import BridleError, ConfigError
from bridle.files import write_whole
from bridle.models import LatentModel
from bridle.reports.grids import image_grid
from bridle.reports.pieces import drawn, environment, number, svg
from bridle.reports.record import CurvePoint, RunRecord
from bridle.reports.shown import as_shown, examples
from bridle.reports.style import COLOURS, DASHES, FAINT, FONT, logarithmic, new_figure, style
from bridle.training.load import load_dialled

__all__ = ["draw_curve", "write_curve"]

_IMAGES = 8


def write_curve(run: Path, data: DataSet, out: Path) -> Path:
    """Writes the page, whole or not at all.

    Arguments:
        run: The folder of a finished run with a dial.
        data: What it was trained on.
        out: The HTML file.

    Returns:
        ``out``.

    Raises:
        CheckpointError: The folder holds no finished run.
        ConfigError: The run has no dial.
        BridleError: The page cannot be written.
    """
    record = RunRecord.read(run)
    if not record.curves:
        raise ConfigError(f"{run} was trained for one kappa: a curve needs a range, such as --constraints.re 0.05:0.25")
    model = load_dialled(run)
    some, show = examples(data, _IMAGES), as_shown(data)

    def looks(at: LatentModel) -> tuple[Image, Image]:
        """Reconstructions and samples: the same images, and the same noise, for every kappa."""
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            x_hat = at.reconstruct(some.x, some.context, generator)
            samples = at.sample(len(some.x), some.context, generator)
        return _strip(show(x_hat)), _strip(show(samples))

    sections = []
    for name, points in record.curves.items():
        rows = []
        for point in points:
            pictures = looks(model.at(**{constraint: point.kappas[constraint] for constraint in model.dial.ranges}))
            x_hat, samples = map(drawn, pictures)
            rows.append({"numbers": _numbers(name, point), "x_hat": x_hat, "samples": samples})
        others = {other: kappa for other, kappa in points[0].kappas.items() if other != name}
        title = name + "".join(f", {other} {kappa:g}" for other, kappa in others.items())
        sections.append({"name": name, "title": title, "figure": svg(draw_curve(name, points)), "rows": rows})
    middle = {name: record.constraints[name].kappa for name in record.curves}
    kappa = ",".join(f"{name}={value:g}" for name, value in middle.items())
    kappa = kappa if len(middle) > 1 else f"{next(iter(middle.values())):g}"
    stated = " ".join(f"--constraints.{name} {value:g}" for name, value in middle.items())
    folder = shlex.quote(str(run))
    page = (
        environment()
        .get_template("curve.html.j2")
        .render(
            title=record.name,
            facts=[record.data, record.model, f"{record.steps:,} steps"],
            verdict=_verdict(record),
            data=drawn(_strip(show(some.x))),
            sections=sections,
            given=some.context is not None,
            commands=[
                ("samples", f"bridle sample {folder} --kappa {kappa}"),
                ("reconstructions", f"bridle reconstruct {folder} --kappa {kappa} image.png"),
                (
                    "a model of its own, trained further",
                    f"bridle train --init {folder} {stated} --out runs/at-one-kappa",
                ),
            ],
        )
    )
    try:
        with write_whole(out) as file:
            file.write(page.encode())
    except OSError as error:
        raise BridleError(f"cannot write the page {out}: {error.strerror}") from error
    return out


def draw_curve(name: str, points: Sequence[CurvePoint]) -> Figure:
    """The rate over the constrained value, and the value as a share of kappa over kappa.

    Arguments:
        name: The constraint whose kappa changes.
        points: In the order of kappa.
    """
    figure = new_figure(4.2)
    rate, share = figure.subplots(1, 2, width_ratios=(1.4, 1))
    values = [point.values[name] for point in points]
    style(rate, f"{name}, in the units of kappa", "KL (nats per image)")
    # Twice the standard error, in the error too where it is the constrained value.
    errors = [2 * point.rmse_standard_error for point in points] if name == "re" else None
    rate.errorbar(values, [point.kl for point in points], [2 * point.kl_standard_error for point in points], errors,
                  color=COLOURS[0], marker="o", markersize=5, linewidth=1.3)  # fmt: skip
    logarithmic(rate)
    style(share, f"kappa of {name}", "value over kappa")
    kappas = [point.kappas[name] for point in points]
    share.axhspan(0.99, 1.01, color=FAINT, alpha=0.15, linewidth=0)
    share.axhline(1, color=FAINT, linestyle=DASHES, linewidth=1)
    share.plot(kappas, [v / k for v, k in zip(values, kappas, strict=True)], color=COLOURS[0], marker="o", markersize=5)
    share.annotate("within 1%", (kappas[-1], 1.01), (0, 3), textcoords="offset points", size=FONT - 1, color=FAINT,
                   ha="right")  # fmt: skip
    return figure


def _verdict(record: RunRecord) -> str:
    """The page in one sentence."""
    parts = []
    for name, points in record.curves.items():
        off = max(abs(point.values[name] / point.kappas[name] - 1) for point in points)
        first, last = points[0], points[-1]
        parts.append(
            f"{name} from {first.kappas[name]:g} to {last.kappas[name]:g}: at most {100 * off:.1f}% off kappa, "
            f"at {number(first.kl)} to {number(last.kl)} nats per image"
        )
    return "; ".join(parts) + "."


def _numbers(name: str, point: CurvePoint) -> dict[str, str]:
    return {
        "kappa": f"{point.kappas[name]:g}",
        "value": number(point.values[name]),
        "kl": f"{number(point.kl)} ± {number(point.kl_standard_error, 2)}",
    }


def _strip(images: Tensor) -> Image:
    return image_grid(images, columns=len(images))
