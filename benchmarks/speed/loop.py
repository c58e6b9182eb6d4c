"""What ``bridle train`` adds to a loop written by hand, and what it waits for its data."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from contextlib import redirect_stderr
from itertools import count, pairwise
from pathlib import Path

import torch

from benchmarks.speed.timing import Times, in_turn, ratio, table
from bridle.constraints import RE
from bridle.data import Batch, BatchOrder, DataSet, Split, SplitName
from bridle.errors import DataError
from bridle.geco import GECO
from bridle.training import ClassSpec, Constraints, TrainConfig, train
from bridle.training.build import build_data
from bridle.training.presets import PRESETS
from bridle.training.state import TrainingState

__all__ = ["measure"]

LOOPS = {
    "ConvVAE, Digits": ("ConvVAE", "Digits", "tiny", 300, 15),
    "ConvDRAW, MNIST": ("ConvDRAW", "MNIST", "small", 25, 7),
}
"""The model, the data, the preset, the steps of a training, and how many trainings of each kind are timed."""

IMAGES = 1000
"""Of each split, as the loops see it: measuring the finished run takes long otherwise."""

DATA = {
    "Digits": ("ConvVAE", "tiny"),
    "MNIST": ("ConvVAE", "small"),
    "CIFAR10": ("ConvVAE", "small"),
    "ColorMNIST": ("ConvVAE", "small"),
    "MNISTSum": ("ConvDRAW", "small"),
    "MNISTRotate": ("ConvDRAW", "small"),
}
STEPS = 40


class Few(DataSet):
    """A data set of the first images of each split, which notes when a batch was drawn."""

    def __init__(self, whole: DataSet) -> None:
        self.whole = whole
        self.classes, self.colored = whole.classes, whole.colored
        self.drawn: list[float] = []

    def split(self, name: SplitName) -> Split:
        return Beginning(self.whole.split(name), self.drawn)


class Beginning:
    """The first images of a split."""

    def __init__(self, split: Split, drawn: list[float]) -> None:
        self.split, self.drawn = split, drawn
        self.image_shape, self.context_shape, self.bin = split.image_shape, split.context_shape, split.bin

    def __len__(self) -> int:
        return min(IMAGES, len(self.split))

    def batch(self, index: torch.Tensor) -> Batch:
        self.drawn.append(time.perf_counter())
        return self.split.batch(index)

    def to(self, device: torch.device) -> Beginning:
        return Beginning(self.split.to(device), self.drawn)


def measure() -> list[str]:
    """The two tables."""
    return [
        "## The loop",
        "The median step, from one batch to the next; checkpoints and measuring the finished run come on top. By hand: "
        "the same model, data, GECO, clipping and Adam in a bare loop. The aims: at most 0.3 ms more on ConvVAE and "
        "Digits, and 99% of the speed on ConvDRAW and MNIST.",
        table(
            ["", "by hand, ms a step", "`bridle train`: more, ms", "its speed over by hand"],
            [_loop(name, *case) for name, case in LOOPS.items()],
        ),
        "## Data",
        "A step (forward, backward, Adam) on a batch drawn for it, and on one batch that is at hand. MB: the bytes "
        "that are read and the floats that are written. The aim: 98% of the speed on the latter.",
        table(
            ["data, model", "MB", "drawing a batch, ms", "step, ms", "speed over one batch at hand"],
            [_data(name, *case) for name, case in DATA.items()],
        ),
    ]


def _loop(name: str, model: str, data_name: str, preset_name: str, steps: int, rounds: int) -> list[str]:
    config = _config(model, data_name, preset_name, steps)
    data = Few(build_data(config))
    runs = {"by hand": _by_hand, "bridle": _bridle}
    seconds: dict[str, list[float]] = {contestant: [] for contestant in runs}
    for turn in range(-1, rounds):
        for contestant, run in runs.items():
            data.drawn.clear()
            run(config, data)
            if turn >= 0:
                seconds[contestant].append(_step(data.drawn, steps))
    times = {contestant: Times(tuple(taken)) for contestant, taken in seconds.items()}
    more = statistics.median(a - b for a, b in zip(times["bridle"].seconds, times["by hand"].seconds, strict=True))
    return [name, times["by hand"].milliseconds(), f"{1e3 * more:.2f}", ratio(times["by hand"], times["bridle"])]


def _step(drawn: list[float], steps: int) -> float:
    """Seconds of a step, the median between two batches of the training, which come before all others."""
    return statistics.median(b - a for a, b in pairwise(drawn[:steps]))


def _data(data_name: str, model_name: str, preset_name: str) -> list[str]:
    name, config = f"{data_name}, {model_name}", _config(model_name, data_name, preset_name, 1)
    try:
        split = build_data(config).split("train")
    except DataError as error:
        return [name, "", f"not measured: {error}", "", ""]
    model = TrainingState(config, build_data(config), split, torch.device("cpu")).system.model
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order, at_hand, drawn = BatchOrder(len(split), config.batch, 0), split.batch(torch.arange(config.batch)), count()

    def draw() -> Batch:
        return split.batch(order.index(next(drawn)))

    def step(batch: Batch) -> None:
        out = model(batch.x, batch.context)  # type: ignore[operator]
        (out.kl.mean() + 100 * (out.x_hat - batch.x).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()

    times = in_turn({"draw": draw, "both": lambda: step(draw()), "one": lambda: step(at_hand)}, STEPS)
    moved = 5 * sum(part.numel() for part in (at_hand.x, at_hand.context) if part is not None)
    return [
        name,
        f"{moved / 1e6:.2g}",
        times["draw"].milliseconds(),
        times["both"].milliseconds(),
        ratio(times["one"], times["both"]),
    ]


def _config(model: str, data_name: str, preset_name: str, steps: int) -> TrainConfig:
    preset = PRESETS[model][preset_name]  # type: ignore[index]
    return TrainConfig(
        data=ClassSpec(f"bridle.data.{data_name}"),
        model=ClassSpec(f"bridle.models.{model}", dict(preset.model)),
        constraints=Constraints(re=0.1),
        steps=steps,
        batch=preset.batch,
        lr=preset.lr,
        checkpoint_every=steps,
    )


def _bridle(config: TrainConfig, data: DataSet) -> None:
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        train(config, Path(folder) / "run", data=data)


def _by_hand(config: TrainConfig, data: DataSet) -> None:
    split = data.split("train")
    model = TrainingState(config, data, split, torch.device("cpu")).system.model
    geco = GECO({"re": RE(0.1).bound(split.image_shape)})
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order = BatchOrder(len(split), config.batch, config.seed)
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
