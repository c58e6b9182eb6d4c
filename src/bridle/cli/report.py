"""``bridle report``"""

from __future__ import annotations

from pathlib import Path

from bridle.cli.parsing import make_parser, parse
from bridle.reports.page import write_report
from bridle.reports.record import RunRecord, run_names
from bridle.reports.table import print_table

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Makes one page of one or several runs, side by side on one information plane, and prints their numbers."""
    parser = make_parser("report", "Make one page, a single HTML file, of one or several runs.")
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help="Runs' folders.")
    parser.add_argument("--out", type=str, default="report.html", help="The page.")
    namespace = parse(parser, arguments)
    runs = [Path(run) for run in namespace.runs]
    page = write_report(runs, Path(namespace.out))
    records = [RunRecord.read(run) for run in runs]
    print_table({name: record.summary for name, record in zip(run_names(records), records, strict=True)})
    print(f"report: {page}")
