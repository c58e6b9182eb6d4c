"""What a person sees of a sweep while it runs, read from the runs' folders: workers need not report anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from bridle.sweeps.runs import RunSpec
from bridle.training.folder import RunFolder
from bridle.training.progress import describe

__all__ = ["SweepView", "last_row"]

_TAIL = 16_384  # bytes that hold more than one row of metrics.csv


class SweepView:
    """A line for each run that has ended. On a terminal, below these, a line for each run that is being trained.

    Arguments:
        specs: The runs of the sweep.
        out: The sweep's folder.
    """

    def __init__(self, specs: Sequence[RunSpec], out: Path) -> None:
        self.specs, self.out = specs, out
        self.width = max(len(spec.name) for spec in specs)
        self.open = {spec.name: spec for spec in specs if not RunFolder(out / spec.name).finished}
        # What metrics.csv was like at first: a run whose file has changed since is being trained.
        self.before = {name: _changed(out / name) for name in self.open}
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, get_renderable=self._running, refresh_per_second=2, transient=True)

    def __enter__(self) -> SweepView:
        if skipped := len(self.specs) - len(self.open):
            self._print(f"{skipped} of {len(self.specs)} runs are finished already")
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def ended(self, spec: RunSpec, failure: str | None) -> None:
        """Says how a run ended: where it came to, or the one line of its failure."""
        self.open.pop(spec.name, None)
        row = last_row(RunFolder(self.out / spec.name).metrics_file)
        text = f"failed: {failure}" if failure else describe(row) if row else "finished"
        done = len(self.specs) - len(self.open)
        self._print(f"{done}/{len(self.specs)}  {spec.name:<{self.width}}  {text}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _running(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for name, spec in list(self.open.items()):
            if _changed(self.out / name) != self.before[name]:
                row = last_row(RunFolder(self.out / name).metrics_file)
                step = int(row["step"]) if row else 0
                bar = ProgressBar(total=spec.config.steps, completed=step, width=20)
                table.add_row(name, bar, f"{step}/{spec.config.steps}", describe(row) if row else "")
        done = len(self.specs) - len(self.open)
        total = Table.grid(padding=(0, 2))
        total.add_row(ProgressBar(total=len(self.specs), completed=done, width=40), f"{done}/{len(self.specs)} runs")
        return Group(table, total)


def last_row(file: Path) -> dict[str, float] | None:
    """The last whole row of a metrics.csv, None where there is none yet."""
    try:
        with file.open("rb") as metrics:
            header = metrics.readline().decode()
            metrics.seek(max(metrics.tell(), os.fstat(metrics.fileno()).st_size - _TAIL))
            lines = [line for line in metrics.read().decode().splitlines(keepends=True) if line.endswith("\n")]
    except OSError:
        return None
    names = header.strip().split(",")
    cells = lines[-1].strip().split(",") if lines else []
    return dict(zip(names, map(float, cells), strict=True)) if len(cells) == len(names) else None


def _changed(run: Path) -> float | None:
    """When metrics.csv was last written to."""
    try:
        return RunFolder(run).metrics_file.stat().st_mtime
    except OSError:
        return None
