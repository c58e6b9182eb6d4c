"""``bridle evaluate``"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridle.cli.parsing import add_best, add_kappa, kappa_from, make_parser, parse
from bridle.dial import Dial
from bridle.evaluation import Evaluation, evaluate
from bridle.evaluation.evaluate import Mixture
from bridle.evaluation.marginal import Precision
from bridle.models.dialled import Dialled
from bridle.reports.evaluation import Line, evaluation_lines
from bridle.reports.page import write_report
from bridle.reports.table import print_table
from bridle.training.build import build_data
from bridle.training.curve import KAPPAS
from bridle.training.folder import RunFolder
from bridle.training.load import chosen_kappas, load_run
from bridle.training.state import device_for
from bridle.training.summary import summarize

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Measures a run's model at its latest checkpoint and prints the numbers; RUN/evaluation.json keeps them, by the
    keys of summary.json and those of :class:`bridle.evaluation.Evaluation`, and the run's page, where there is one,
    shows them. Those of the best checkpoint go into RUN/evaluation-best.json. Of a run with a dial it is the whole
    curve, or one point of it, which goes into RUN/evaluation-KAPPA.json."""
    parser = make_parser("evaluate", "Measure a run at its latest checkpoint: rate, error, likelihood, marginal KL.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    add_best(parser)
    add_kappa(parser)
    parser.add_argument(
        "--importance", type=int, default=16, help="Samples K of the importance-weighted likelihood; 0 leaves it out."
    )
    parser.add_argument(
        "--marginal_kl",
        type=Mixture,
        help="The marginal KL over the full mixture, over 256 of its components (biased low), or none; if not given, "
        "the full one, unless that would take a pass of the encoder for more than a million pairs (ConvDRAW).",
    )
    parser.add_argument("--marginal_samples", type=int, default=100, help="Samples S of the marginal KL.")
    parser.add_argument("--precision", type=Precision, default="fp32", help="Of the marginal KL's densities.")
    namespace = parse(parser, arguments)
    path, kappa = Path(namespace.run), kappa_from(namespace.kappa)
    folder = RunFolder(path)
    config = folder.read_config()
    loaded = load_run(path, device_for(config), namespace.best)
    kappas = chosen_kappas(path, loaded.system.model, kappa)
    data = build_data(config)
    name = "-".join(["evaluation", *["best"] * namespace.best, *[namespace.kappa] * (kappas is not None)]) + ".json"

    def measured(at: Mapping[str, float] | None) -> tuple[dict[str, Any], Evaluation]:
        model, stands = loaded.system.at(at)
        evaluation = evaluate(
            model,
            data,
            [stand.term for stand in stands],
            importance=namespace.importance,
            mixture=namespace.marginal_kl,
            samples=namespace.marginal_samples,
            precision=namespace.precision,
        )
        parts = evaluation.measurements
        return summarize(loaded.system, data, config.constrain_on, loaded.step, loaded.seconds, at, parts), evaluation

    if isinstance(loaded.system.model, Dialled) and kappas is None:
        folder.write_json(name, _curve(loaded.system.model.dial, measured))
        print(f"written: {path / name}")
        return
    summary, evaluation = measured(kappas)
    folder.write_json(name, {**summary, **_further(evaluation)})
    print_table({path.name: summary})
    for line in _lines(evaluation):
        title = f"{line.label} ({line.unit})" if line.unit else line.label
        print(f"{title:<58}  {line.value}")
    for what, reason in evaluation.skipped.items():
        print(f"skipped: {what}: {reason}")
    print(f"written: {path / name}")
    if name == "evaluation.json" and (page := path / "report.html").is_file():
        print(f"report: {write_report([path], page)}")


def _curve(dial: Dial, measured: Callable[[Mapping[str, float]], tuple[dict[str, Any], Evaluation]]) -> dict[str, Any]:
    """Measures ten kappas of each range, the others at their middle, and prints a line for each, "samples" being the
    energy distance of pictures from the prior: what evaluation.json keeps of a run with a dial."""
    curve: dict[str, list[dict[str, Any]]] = {}
    for name in dial.ranges:
        print(
            f"{'kappa of ' + name:>16}  {name:>10}  {'RMSE':>17}  {'KL, nats':>18}  {'marginal KL, nats':>20}"
            f"  {'samples':>17}"
        )
        curve[name] = []
        for kappas in dial.along(name, KAPPAS):
            summary, evaluation = measured(kappas)
            curve[name].append({"kappas": kappas, **summary, **_further(evaluation)})
            train, marginal, samples = evaluation.measurements.train, evaluation.marginal, evaluation.samples
            whole = "–" if marginal is None else f"{marginal.marginal_kl:.3f} +- {marginal.standard_error:.3f}"
            print(
                f"{kappas[name]:>16g}  {train.values[name]:>10.4f}  {train.rmse:.4f} +- {train.rmse_standard_error:.4f}"
                f"  {train.kl:>9.3f} +- {train.kl_standard_error:.3f}  {whole:>20}"
                f"  {samples.prior:.4f} +- {samples.prior_standard_error:.4f}"
            )
    return {"ranges": {name: list(ends) for name, ends in dial.ranges.items()}, "curve": curve}


def _further(evaluation: Evaluation) -> dict[str, Any]:
    """What a summary does not have."""
    further = asdict(evaluation)
    del further["measurements"]
    return further


def _lines(evaluation: Evaluation) -> list[Line]:
    """What summary.json does not have, with standard errors."""
    train, held_out, marginal = evaluation.measurements.train, evaluation.measurements.held_out, evaluation.marginal
    lines = [
        Line("KL, training images", "nats", f"{train.kl:.3f} +- {train.kl_standard_error:.3f}"),
        Line("KL, held-out images", "nats", f"{held_out.kl:.3f} +- {held_out.kl_standard_error:.3f}"),
        *evaluation_lines(asdict(evaluation)),
    ]
    if marginal is not None:
        lines += [
            Line("  estimator", "", marginal.estimator),
            Line("  took", "seconds", f"{marginal.seconds:.1f}"),
        ]
    return lines
