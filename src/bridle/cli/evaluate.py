"""``bridle evaluate``"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bridle.cli.parsing import add_best, make_parser, parse
from bridle.evaluation import Evaluation, evaluate
from bridle.evaluation.evaluate import Mixture
from bridle.evaluation.marginal import Precision
from bridle.objectives import ConstrainedObjective
from bridle.reports.evaluation import Line, evaluation_lines
from bridle.reports.page import write_report
from bridle.reports.table import print_table
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.load import load_run
from bridle.training.state import device_for
from bridle.training.summary import summarize

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Measures a run's model at its latest checkpoint and prints the numbers; RUN/evaluation.json keeps them, by the
    keys of summary.json and those of :class:`bridle.evaluation.Evaluation`, and the run's page, where there is one,
    shows them. Those of the best checkpoint go into RUN/evaluation-best.json."""
    parser = make_parser("evaluate", "Measure a run at its latest checkpoint: rate, error, likelihood, marginal KL.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    add_best(parser)
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
    loaded = load_run(path, device_for(config), namespace.best)
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
    name = "evaluation-best.json" if namespace.best else "evaluation.json"
    folder.write_json(name, {**summary, **further})
    print_table({path.name: summary})
    for line in _lines(evaluation):
        title = f"{line.label} ({line.unit})" if line.unit else line.label
        print(f"{title:<58}  {line.value}")
    for what, reason in evaluation.skipped.items():
        print(f"skipped: {what}: {reason}")
    print(f"written: {path / name}")
    if not namespace.best and (page := path / "report.html").is_file():
        print(f"report: {write_report([path], page)}")


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
