"""Training of a classifier on the labels of a data set."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from bridle.classifiers.network import BLOCKS, WIDTH, Classifier
from bridle.data import BatchOrder, DataSet, Split
from bridle.data.base import missing_labels
from bridle.errors import ConfigError

__all__ = ["STEPS", "accuracy", "train_classifier"]

STEPS = 2000
"""Steps of a training, unless others are asked for."""

_BATCH = 128
_RATE = 3e-3


def train_classifier(
    data: DataSet,
    steps: int = STEPS,
    width: int = WIDTH,
    blocks: int = BLOCKS,
    seed: int = 0,
    device: torch.device | None = None,
    progress: bool = False,
) -> Classifier:
    """Trains a classifier on the training split: Adam on the cross entropy, batches of 128, each moved by up to an
    eighth of the image, the learning rate rising to 3e-3 and falling to zero in one cycle.

    The state of torch's random numbers is left as it was, on every device.

    Arguments:
        data: A data set with labels.
        steps: Steps of the optimizer.
        width: Channels of the network's first layer.
        blocks: Residual blocks in each of its layers.
        seed: Seed of the weights and of the order of the images.
        device: Where to train; the accelerator, if there is one, if not given.
        progress: Show a progress bar, or where there is no terminal a line now and then.

    Returns:
        The classifier, in eval mode, on that device.

    Raises:
        ConfigError: The data have no labels, or a setting is out of its range.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    if device is None:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = device or torch.device("cpu")
    missing = missing_labels(data, "train")
    if missing is not None or data.classes is None:
        raise ConfigError(f"{type(data).__name__} has {missing} to train a classifier on")
    split = data.split("train").to(device)
    order = BatchOrder(len(split), min(_BATCH, len(split)), seed)
    shifts = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators, too
        network = Classifier(split.image_shape[0], data.classes, width, blocks)
    network = network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=_RATE, fused=device.type in ("cpu", "cuda"))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps + 1)

    console = Console(stderr=True, quiet=not progress)
    bar = Progress(
        TextColumn("classifier"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    with bar if console.is_terminal and progress else nullcontext():
        task = bar.add_task("classifier", total=steps, numbers="")
        for step in range(steps):
            batch = split.batch(order.index(step).to(device))
            assert batch.label is not None
            loss = F.cross_entropy(network(_moved(batch.x, shifts)), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done = step + 1
            if done % max(1, steps // 100) == 0 or done == steps:
                bar.update(task, completed=done, numbers=f"cross entropy {loss.item():.3f}")
            if not console.is_terminal and (done % max(1, steps // 5) == 0 or done == steps):
                console.print(f"classifier: step {done}/{steps}  cross entropy {loss.item():.3f}", highlight=False)
    return network.eval()


@torch.no_grad()
def accuracy(network: Classifier, split: Split) -> float:
    """Share of the split's images whose class it knows, 0 to 1; on the network's device, in eval mode.

    Raises:
        ConfigError: A split without labels.
    """
    device, training = network.head.weight.device, network.training
    split, right = split.to(device), 0
    network.eval()
    try:
        for index in torch.arange(len(split), device=device).split(512):
            batch = split.batch(index)
            if batch.label is None:
                raise ConfigError("a split without labels says nothing of a classifier's accuracy")
            right += int((network(batch.x).argmax(dim=1) == batch.label).sum())
    finally:
        network.train(training)
    return right / len(split)


def _moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """All images moved alike, with black coming in."""
    height, width = images.shape[2:]
    far = min(height, width) // 8
    if far == 0:
        return images
    down, right = torch.randint(0, 2 * far + 1, (2,), generator=generator).tolist()
    return F.pad(images, (far, far, far, far))[:, :, down : down + height, right : right + width]
