"""``bridle evaluate``"""

from __future__ import annotations

from pathlib import Path

from bridle.cli.parsing import make_parser, parse
from bridle.reports.table import print_table
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.load import load_run
from bridle.training.summary import summarize

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Measures a run's model at its latest checkpoint and prints the numbers; RUN/evaluation.json keeps them, by the
    keys of summary.json."""
    parser = make_parser("evaluate", "Measure a run at its latest checkpoint: rate, error, likelihood.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    path = Path(parse(parser, arguments).run)
    folder = RunFolder(path)
    data = build_data(folder.read_config())
    loaded = load_run(path, data=data)
    summary = summarize(loaded.model, loaded.objective, data, loaded.config.constrain_on, loaded.step, loaded.seconds)
    folder.write_json("evaluation.json", summary)
    print_table({path.name: summary})
    print(f"written: {path / 'evaluation.json'}")
