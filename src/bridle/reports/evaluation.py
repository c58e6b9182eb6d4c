"""What ``bridle evaluate`` adds to a run's summary, for the terminal and for the run's page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridle.errors import CheckpointError
from bridle.evaluation.latents import ACTIVE_ABOVE

__all__ = ["Line", "evaluation_lines", "read_evaluation"]


@dataclass(frozen=True)
class Line:
    """What is measured, its unit (empty where there is none), and the number with its standard error."""

    label: str
    unit: str
    value: str


def read_evaluation(run: Path) -> list[Line]:
    """The lines of a run's evaluation.json, none where there is no such file, or where it is the curve of a run with a
    dial.

    Raises:
        CheckpointError: The file is damaged, or of another version.
    """
    file = run / "evaluation.json"
    if not file.is_file():
        return []
    try:
        values = json.loads(file.read_text())
        return [] if "curve" in values else evaluation_lines(values)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is damaged or of another version ({error!r}): write it anew by bridle evaluate {run}"
        ) from None


def evaluation_lines(values: Mapping[str, Any]) -> list[Line]:
    """The contents of evaluation.json, less those of summary.json, in the order in which they are shown."""
    latents, holes, samples = values["latents"], values["holes"], values["samples"]
    ratio = "not defined"
    if holes["ratio"] is not None:
        ratio = f"{holes['ratio']:.3f} +- {holes['ratio_standard_error']:.3f}"
    active = f"{latents['active']} of {latents['dimensions']}"
    lines = [Line(f"active latents (variance of the mean above {ACTIVE_ABOVE})", "", active)]
    if latents["kl"] is not None:
        kl = sorted(_leaves(latents["kl"]))
        some = (kl[-1], statistics.median_low(kl), kl[0])
        lines.append(
            Line("KL of one latent: greatest, median, least", "nats", ", ".join(f"{value:.3f}" for value in some))
        )
    lines += [
        Line("RMSE of prior samples, encoded and decoded", "pixel units", f"{holes['prior']:.4f}"),
        Line("the same of posterior samples", "pixel units", f"{holes['data']:.4f}"),
        Line("ratio of the two, 1 without holes, by its own judgement", "", ratio),
    ]
    for label, kind in (
        ("energy distance of prior samples from images", "prior"),
        ("the same of posterior samples", "data"),
    ):
        value = f"{samples[kind]:.5f} +- {samples[kind + '_standard_error']:.5f}"
        lines.append(Line(label, "pixel units", value))
    if (weighted := values["importance"]) is not None:
        value = f"{weighted['log_likelihood']:.2f} +- {weighted['standard_error']:.2f}"
        lines += [
            Line(f"log-likelihood, {weighted['n']:,} held-out images, K = {weighted['k']}", "nats", value),
            Line("the same", "bits per dimension", f"{weighted['bits_per_dim']:.3f}"),
        ]
    if (marginal := values["marginal"]) is not None:
        mode = "full" if marginal["components"] == marginal["n"] else "quick, biased low"
        value = f"{marginal['marginal_kl']:.3f} +- {marginal['standard_error']:.3f}"
        outside = "" if marginal["within_bounds"] else ": the estimate is outside"
        lines += [
            Line(f"marginal KL, {mode}, {marginal['samples']:,} samples, {marginal['precision']}", "nats", value),
            Line("  at least max(0, average KL - log N)", "nats", f"{marginal['lower_bound']:.3f}"),
            Line("  at most the average KL", "nats", f"{marginal['average_kl']:.3f}{outside}"),
        ]
    return lines


def _leaves(nested: list[Any] | float) -> Iterator[float]:
    if isinstance(nested, list):
        for part in nested:
            yield from _leaves(part)
    else:
        yield nested
