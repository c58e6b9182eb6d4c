"""``bridle curve``"""

from __future__ import annotations

from pathlib import Path

from bridle.cli.parsing import make_parser, parse
from bridle.reports.curve import write_curve
from bridle.training.build import build_data
from bridle.training.folder import RunFolder

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Makes the page by which a person chooses a kappa: the rate-distortion curve of a run with a dial, and what each
    kappa looks like."""
    parser = make_parser("curve", "Make one page to choose kappa by: the curve of a run with a dial, and its pictures.")
    parser.add_argument("run", type=str, metavar="RUN", help="The folder of a run with a range of kappas.")
    parser.add_argument("--out", type=str | None, default=None, help="The page; RUN/curve.html if not given.")
    namespace = parse(parser, arguments)
    run = Path(namespace.run)
    data = build_data(RunFolder(run).read_config())
    out = Path(namespace.out) if namespace.out is not None else run / "curve.html"
    print(f"written: {write_curve(run, data, out)}")
