"""``bridle train``"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from bridle.cli.parsing import make_parser, parse
from bridle.cli.settings import CLASSES, add_settings, config_from, refuse_rate_range, with_init, with_preset
from bridle.errors import ConfigError
from bridle.training import resume, train
from bridle.training.build import build_data
from bridle.training.folder import RunFolder

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Trains or resumes, then draws the pictures and the report of the run."""
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        namespace = parse(_resume_parser(), arguments)
        out = Path(namespace.resume)
        data = build_data(RunFolder(out).read_config())
        summary = resume(out, namespace.steps, data)
    else:
        refuse_rate_range(arguments)
        namespace = parse(_train_parser(), with_preset(with_init(arguments)), CLASSES)
        if namespace.out is None:
            raise ConfigError("--out is missing: the folder for the run, such as --out runs/digits")
        out, config = Path(namespace.out), config_from(namespace)
        config.validate()
        data = build_data(config)
        summary = train(config, out, namespace.overwrite, data)
    if summary:
        from bridle.reports.finish import finish_run
        from bridle.reports.table import print_table

        page = finish_run(out, data)
        print_table({out.name: summary})
        print(f"report: {page}")


def _train_parser() -> ArgumentParser:
    parser = make_parser("train", "Train a model on images, to the error that you state.")
    parser.add_argument("--config", action="config", help="A YAML file with any of these settings.")
    parser.add_argument("--out", type=str | None, default=None, help="The folder for the run.")
    parser.add_argument(
        "--overwrite", nargs="?", type=bool, const=True, default=False, help="Replace the run that the folder holds."
    )
    parser.add_argument("--resume", metavar="RUN", help="Go on with a run instead; only --steps may be given with it.")
    add_settings(parser)
    return parser


def _resume_parser() -> ArgumentParser:
    parser = make_parser("train --resume", "Go on with a run from its latest checkpoint, with the run's own settings.")
    parser.add_argument("--resume", type=str, required=True, metavar="RUN", help="The run's folder.")
    parser.add_argument("--steps", type=int | None, default=None, help="A new end of the run.")
    return parser
