"""``bridle report``"""

from __future__ import annotations

from pathlib import Path

from bridle.cli.parsing import make_parser, parse
from bridle.reports.page import write_report

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Makes one page of one or several runs, side by side on one information plane."""
    parser = make_parser("report", "Make one page, a single HTML file, of one or several runs.")
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help="Runs' folders.")
    parser.add_argument("--out", type=str, default="report.html", help="The page.")
    namespace = parse(parser, arguments)
    print(f"written: {write_report([Path(r) for r in namespace.runs], Path(namespace.out))}")
