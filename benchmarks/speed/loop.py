"""What ``bridle train`` adds to a loop written by hand, and what it waits for its data."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path

import torch

from benchmarks.speed.timing import Times, ratio, table
from bridle.constraints import RE
from bridle.data import Batch, BatchOrder, DataSet, Split
from bridle.geco import GECO
from bridle.training import ClassSpec, Constraints, TrainConfig, train
from bridle.training.build import build_data
from bridle.training.presets import PRESETS
from bridle.training.state import TrainingState

__all__ = ["measure"]

CASES = {
    "ConvVAE, Digits": ("ConvVAE", "Digits", "tiny", 400),
    "ConvDRAW, MNIST": ("ConvDRAW", "MNIST", "small", 20),
    "ConvVAE, CIFAR10": ("ConvVAE", "CIFAR10", "small", 40),
    "ConvVAE, MNISTSum": ("ConvVAE", "MNISTSum", "small", 60),
}
ROUNDS = 7


class OneBatch(DataSet):
    """A data set whose every batch is the same, at hand."""

    def __init__(self, whole: DataSet, images: int) -> None:
        self.whole, self.images = whole, images
        self.classes, self.colored = whole.classes, whole.colored

    def split(self, name: str) -> Split:  # type: ignore[override]
        return Fixed(self.whole.split(name), self.images)  # type: ignore[arg-type]


class Fixed:
    """A split that gives the same batch whatever is asked for, where as many images are."""

    def __init__(self, split: Split, images: int) -> None:
        self.split = split
        self.image_shape, self.context_shape, self.bin = split.image_shape, split.context_shape, split.bin
        self.at_hand = split.batch(torch.arange(images))

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: torch.Tensor) -> Batch:
        return self.at_hand if len(index) == len(self.at_hand.x) else self.split.batch(index)

    def to(self, device: torch.device) -> Fixed:
        return self


def measure() -> list[str]:
    """The table."""
    rows = []
    for name, (model, data_name, preset_name, steps) in CASES.items():
        preset = PRESETS[model][preset_name]  # type: ignore[index]
        config = TrainConfig(
            data=ClassSpec(f"bridle.data.{data_name}"),
            model=ClassSpec(f"bridle.models.{model}", dict(preset.model)),
            constraints=Constraints(re=0.1),
            steps=steps,
            batch=preset.batch,
            lr=preset.lr,
            checkpoint_every=steps,
        )
        try:
            data = build_data(config)
            data.split("train")
        except Exception as error:
            rows.append([name, "", "", "", f"not measured: {error}"])
            continue
        one = OneBatch(data, config.batch)
        contestants = {
            "by hand": lambda config=config, data=data: _by_hand(config, data),
            "bridle": lambda config=config, data=data: _bridle(config, data),
            "one batch": lambda config=config, data=one: _bridle(config, data),
        }
        seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        for turn in range(-1, ROUNDS):
            for contestant, run in contestants.items():
                taken = run()
                if turn >= 0:
                    seconds[contestant].append(taken / steps)
        times = {contestant: Times(tuple(taken)) for contestant, taken in seconds.items()}
        more = statistics.median(a - b for a, b in zip(times["bridle"].seconds, times["by hand"].seconds, strict=True))
        rows.append(
            [
                name,
                times["by hand"].milliseconds(),
                f"{1e3 * more:.2f}",
                ratio(times["by hand"], times["bridle"]),
                ratio(times["one batch"], times["bridle"]),
            ]
        )
    header = ["", "by hand, ms a step", "`bridle train` more, ms", "speed over by hand", "speed over one fixed batch"]
    return [
        "## The loop",
        "Training from nothing, without reading the data and measuring the finished run. By hand: the same model, "
        "data, GECO, clipping and Adam in a bare loop. One fixed batch: `bridle train` whose data are at hand.",
        table(header, rows),
    ]


def _bridle(config: TrainConfig, data: DataSet) -> float:
    """Seconds of the steps alone, as the summary counts them."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        return float(train(config, Path(folder) / "run", data=data)["seconds"])


def _by_hand(config: TrainConfig, data: DataSet) -> float:
    split = data.split("train")
    model = TrainingState(config, data, split, torch.device("cpu")).system.model
    geco = GECO({"re": RE(0.1).bound(split.image_shape)})
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order = BatchOrder(len(split), config.batch, config.seed)
    began = time.monotonic()
    for step in range(config.steps):
        batch = split.batch(order.index(step))
        out = model(batch.x, batch.context)  # type: ignore[operator]
        loss = geco(out.kl.mean(), re=(out.x_hat - batch.x).square().mean()).loss
        loss.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad()
        geco.step()
    return time.monotonic() - began
