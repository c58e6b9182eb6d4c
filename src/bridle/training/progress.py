"""What a person sees of a run while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["TrainingView", "describe"]


class TrainingView:
    """A progress bar on a terminal (a line now and then elsewhere), and TensorBoard scalars where it is installed.

    Arguments:
        folder: The run; TensorBoard's files go into ``tensorboard/`` in it.
        steps: Steps of the whole run.
        start: Steps done before.
        shown: False on all processes but one.
    """

    def __init__(self, folder: Path, steps: int, start: int, shown: bool) -> None:
        self.console = Console(stderr=True, quiet=not shown)
        self.lines = not self.console.is_terminal
        self.next_line = start
        self.steps = steps
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=self.lines or not shown,
        )
        self.task = self.bar.add_task("training", total=steps, completed=start, numbers="")
        self.writer = _summary_writer(folder / "tensorboard", start) if shown else None

    def __enter__(self) -> TrainingView:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.writer is not None:
            self.writer.close()

    def show(self, row: Mapping[str, float]) -> None:
        """Shows a row of metrics.csv."""
        step = int(row["step"])
        self.bar.update(self.task, completed=step, numbers=describe(row))
        if self.lines and step >= self.next_line:
            self.console.print(f"step {step}/{self.steps}  {describe(row)}", highlight=False, soft_wrap=True)
            self.next_line += max(1, self.steps // 10)
        if self.writer is not None:
            for name, value in row.items():
                if name != "step":
                    self.writer.add_scalar(name.replace(".", "/"), value, step)


def describe(row: Mapping[str, float]) -> str:
    """A row of metrics.csv in one line: the KL, and each constraint's value against kappa with its multiplier.

    Example:
        >>> describe({"kl": 12.3456, "re.value": 0.1012, "re.kappa": 0.1, "re.multiplier": 29.87})
        'kl 12.35  re 0.1012/0.1 x29.9'
    """
    parts = [f"kl {row['kl']:.2f}"]
    names = [key.removesuffix(".kappa") for key in row if key.endswith(".kappa")]
    for name in names:
        value, kappa, multiplier = (row[f"{name}.{part}"] for part in ("value", "kappa", "multiplier"))
        parts.append(f"{name} {value:.4f}/{kappa:g} x{multiplier:.3g}")
    if not names:
        parts.append(f"rmse {row['rmse']:.4f} sigma {row['sigma']:.4f} beta {row['beta']:.3g}")
    return "  ".join(parts)


def _summary_writer(folder: Path, start: int):  # type: ignore[no-untyped-def]
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)
