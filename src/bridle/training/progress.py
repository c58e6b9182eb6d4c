"""What a person sees of a run while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridle.judge import verdict

__all__ = ["TrainingView", "describe"]


class TrainingView:
    """A progress bar on a terminal (a line now and then elsewhere), and TensorBoard scalars where it is installed.

    Arguments:
        folders: The run, or several that are trained together, each with a bar of its own and under its folder's name;
            TensorBoard's files go into ``tensorboard/`` in it.
        steps: Steps of the whole run.
        start: Steps done before; of several runs the fewest.
        shown: False on all processes but one.
    """

    def __init__(self, folders: Sequence[Path], steps: int, start: int, shown: bool) -> None:
        self.console = Console(stderr=True, quiet=not shown)
        self.lines = not self.console.is_terminal
        self.names = [f"{folder.name}: " if len(folders) > 1 else "" for folder in folders]
        self.next_lines = [start] * len(folders)
        self.steps = steps
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=self.lines or not shown,
        )
        self.tasks = [self.bar.add_task("training", total=steps, completed=start, numbers=name) for name in self.names]
        self.writers = [_summary_writer(folder / "tensorboard", start) if shown else None for folder in folders]

    def __enter__(self) -> TrainingView:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        for writer in self.writers:
            if writer is not None:
                writer.close()

    def end(self, steps: int) -> None:
        """Says that the run ends after so many steps."""
        self.steps = steps
        self.bar.update(self.tasks[0], total=steps)

    def show(self, row: Mapping[str, float], run: int = 0) -> None:
        """Shows a row of metrics.csv, of several runs the one with this index."""
        step, name, writer = int(row["step"]), self.names[run], self.writers[run]
        self.bar.update(self.tasks[run], completed=step, numbers=name + describe(row))
        if self.lines and step >= self.next_lines[run]:
            self.console.print(f"{name}step {step}/{self.steps}  {describe(row)}", highlight=False, soft_wrap=True)
            self.next_lines[run] += max(1, self.steps // 10)
        if writer is not None:
            for column, value in row.items():
                if column != "step":
                    writer.add_scalar(column.replace(".", "/"), value, step)


def describe(row: Mapping[str, float]) -> str:
    """A row of metrics.csv in one line: the KL, and each constraint's value against kappa, multiplier and state.

    Example:
        >>> re = {"re.value": 0.1012, "re.kappa": 0.1, "re.multiplier": 29.87, "re.state": 1, "re.settled_at": 1450}
        >>> describe({"kl": 12.3456, **re})
        'kl 12.35  re 0.1012/0.1 x29.9 settled at 1,450'
    """
    parts = [f"kl {row['kl']:.2f}"]
    names = [key.removesuffix(".kappa") for key in row if key.endswith(".kappa")]
    for name in names:
        value, kappa, multiplier = (row[f"{name}.{part}"] for part in ("value", "kappa", "multiplier"))
        said = verdict(row[f"{name}.state"], row[f"{name}.settled_at"])
        parts.append(f"{name} {value:.4f}/{kappa:g} x{multiplier:.3g} {said}")
    if not names:
        parts.append(f"rmse {row['rmse']:.4f} sigma {row['sigma']:.4f} beta {row['beta']:.3g}")
    return "  ".join(parts)


def _summary_writer(folder: Path, start: int):  # type: ignore[no-untyped-def]
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)
