"""Where the time of a training step goes, by kinds of operations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.convdraw import objective_of, training_step
from benchmarks.speed.timing import table
from bridle.geco import GECO, Constraint
from bridle.models import NVPVAE, ConvDRAW, ConvVAE, LatentModel
from bridle.training.presets import PRESETS

__all__ = ["measure"]

CASES: dict[str, tuple[type[LatentModel], str, tuple[int, int, int]]] = {
    "ConvDRAW, `small`": (ConvDRAW, "small", (1, 28, 28)),
    "NVPVAE, `small`": (NVPVAE, "small", (1, 28, 28)),
    "NVPVAE, `tiny`": (NVPVAE, "tiny", (1, 8, 8)),
    "ConvVAE, `tiny`": (ConvVAE, "tiny", (1, 8, 8)),
}
STEPS = 20
KINDS = {
    "convolutions": ("convolution", "conv_"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "Adam": ("_fused_adam", "Optimizer.step"),
}
"""What their operations are called, in part."""


def measure() -> list[str]:
    """The table."""
    rows = []
    for name, (family, preset_name, image) in CASES.items():
        preset = PRESETS[family.__name__][preset_name]  # type: ignore[index]
        model, x = family(image, **preset.model), torch.rand(preset.batch, *image)
        rows.append([name, *_shares(training_step(model, *objective_of(model), x))])
    rows.append(["GECO by itself", *_shares(_constraint())])
    return [
        "## Where the time goes",
        "Of the operations of a step with GECO, by the profiler; what Python does between them is not in it.",
        table(["step", "operations", "µs each", *KINDS, "all else"], rows),
    ]


def _constraint() -> Callable[[], None]:
    objective, value = torch.tensor(10.0), torch.tensor(0.02)
    geco = GECO({"c": Constraint(upper=0.01)})

    def step() -> None:
        geco(objective, c=value)
        geco.step()

    return step


def _shares(step: Callable[[], None]) -> list[str]:
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            step()
    events = profiler.events()
    total = sum(event.self_cpu_time_total for event in events)
    parts = [
        sum(event.self_cpu_time_total for event in events if any(name in event.name for name in names)) / total
        for names in KINDS.values()
    ]
    calls = sum(_is_operation(event.name) and not _within_operation(event) for event in events) / STEPS
    return [f"{calls:.0f}", f"{total / STEPS / calls:.1f}", *(f"{part:.0%}" for part in [*parts, 1 - sum(parts)])]


def _within_operation(event: FunctionEvent) -> bool:
    return event.cpu_parent is not None and _is_operation(event.cpu_parent.name)


def _is_operation(name: str) -> bool:
    return name.startswith("aten::")
