"""``bridle evaluate``"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from bridle.cli.parsing import make_parser, parse
from bridle.evaluation import Evaluation, evaluate
from bridle.evaluation.evaluate import Mixture
from bridle.evaluation.latents import ACTIVE_ABOVE
from bridle.evaluation.marginal import Precision
from bridle.objectives import ConstrainedObjective
from bridle.reports.table import print_table
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.load import load_run
from bridle.training.summary import summarize

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Measures a run's model at its latest checkpoint and prints the numbers; RUN/evaluation.json keeps them, by the
    keys of summary.json and those of :class:`bridle.evaluation.Evaluation`."""
    parser = make_parser("evaluate", "Measure a run at its latest checkpoint: rate, error, likelihood, marginal KL.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    parser.add_argument(
        "--importance", type=int, default=16, help="Samples K of the importance-weighted likelihood; 0 leaves it out."
    )
    parser.add_argument(
        "--marginal_kl",
        type=Mixture,
        default="full",
        help="The marginal KL over the full mixture, over 256 of its components (biased low), or none.",
    )
    parser.add_argument("--marginal_samples", type=int, default=100, help="Samples S of the marginal KL.")
    parser.add_argument("--precision", type=Precision, default="fp32", help="Of the marginal KL's densities.")
    namespace = parse(parser, arguments)
    path = Path(namespace.run)
    folder = RunFolder(path)
    config = folder.read_config()
    data = build_data(config)
    accelerated = config.device != "cpu" and torch.accelerator.is_available()
    loaded = load_run(path, (torch.accelerator.current_accelerator() if accelerated else None) or "cpu", data)
    evaluation = evaluate(
        loaded.model,
        data,
        loaded.objective.terms() if isinstance(loaded.objective, ConstrainedObjective) else (),
        importance=namespace.importance,
        mixture=namespace.marginal_kl,
        samples=namespace.marginal_samples,
        precision=namespace.precision,
    )
    summary = summarize(
        loaded.model,
        loaded.objective,
        data,
        config.constrain_on,
        loaded.step,
        loaded.seconds,
        evaluation.measurements,
    )
    further = asdict(evaluation)
    del further["measurements"]  # they are in the summary
    folder.write_json("evaluation.json", {**summary, **further})
    print_table({path.name: summary})
    for title, value in _lines(evaluation):
        print(f"{title:<58}  {value}")
    for name, reason in evaluation.skipped.items():
        print(f"skipped: {name}: {reason}")
    print(f"written: {path / 'evaluation.json'}")


def _lines(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What summary.json does not have: titles and values, with standard errors."""
    train, held_out = evaluation.measurements.train, evaluation.measurements.held_out
    latents, holes = evaluation.latents, evaluation.holes
    lines = [
        ("KL, training images (nats)", f"{train.kl:.3f} +- {train.kl_standard_error:.3f}"),
        ("KL, held-out images (nats)", f"{held_out.kl:.3f} +- {held_out.kl_standard_error:.3f}"),
        (f"active latents (variance of the mean above {ACTIVE_ABOVE})", f"{latents.active} of {latents.dimensions}"),
    ]
    if latents.kl is not None:
        kl = torch.tensor(latents.kl).flatten()
        values = f"{kl.max().item():.3f}, {kl.median().item():.3f}, {kl.min().item():.3f}"
        lines.append(("KL of one latent: greatest, median, least (nats)", values))
    lines += [
        ("RMSE of prior samples, encoded and decoded (pixel units)", f"{holes.prior:.4f}"),
        ("the same of posterior samples (pixel units)", f"{holes.data:.4f}"),
        ("ratio of the two, 1 without holes in the prior", f"{holes.ratio:.3f}"),
    ]
    if (weighted := evaluation.importance) is not None:
        value = f"{weighted.log_likelihood:.2f} +- {weighted.standard_error:.2f}"
        lines += [
            (f"log-likelihood, {weighted.n:,} held-out images, K = {weighted.k} (nats)", value),
            ("the same (bits per dimension)", f"{weighted.bits_per_dim:.3f}"),
        ]
    if (marginal := evaluation.marginal) is not None:
        value = f"{marginal.marginal_kl:.3f} +- {marginal.standard_error:.3f}"
        outside = "" if marginal.within_bounds else ": the estimate is outside"
        mode = "full" if marginal.components == marginal.n else "quick, biased low"
        lines += [
            (f"marginal KL, {mode}, {marginal.samples:,} samples, {marginal.precision} (nats)", value),
            ("  estimator", marginal.estimator),
            ("  at least max(0, average KL - log N) (nats)", f"{marginal.lower_bound:.3f}"),
            ("  at most the average KL (nats)", f"{marginal.average_kl:.3f}{outside}"),
            ("  took (seconds)", f"{marginal.seconds:.1f}"),
        ]
    return lines
