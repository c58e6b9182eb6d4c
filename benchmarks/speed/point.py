"""One point of a scaling curve, in a process of its own so that its memory is its own: ``python -m
benchmarks.speed.point JSON`` prints the seconds of a step and the peak of memory in MB."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.convdraw import objective_of, training_step
from bridle.data import Batch, BatchOrder, TensorSplit
from bridle.geco import GECO, Constraint
from bridle.models import ConvDRAW, ConvVAE
from bridle.training.presets import PRESETS
from bridle.training.stacked import Pass, StackedModel

__all__ = ["KINDS"]

Step = Callable[[], object]

LEAST_SECONDS, LEAST_ROUNDS = 1.0, 5


def draw(steps: int = 6, batch: int = 16, side: int = 32, recompute: bool = False) -> Step:
    """ConvDRAW as at the preset ``small``: forward, backward, Adam, GECO."""
    settings = PRESETS["ConvDRAW"]["small"].model | {"steps": steps, "recompute": recompute}
    model, x = ConvDRAW((1, side, side), **settings).to(_device()), torch.rand(batch, 1, side, side, device=_device())
    return training_step(model, *objective_of(model), x)


def images(n: int) -> Step:
    """A ConvVAE as at ``small`` on batches drawn from n images of 28x28."""
    split = TensorSplit(torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8)).to(_device())
    model = ConvVAE((1, 28, 28), **PRESETS["ConvVAE"]["small"].model).to(_device())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    order, done = BatchOrder(n, 128, 0), count()

    def step() -> None:
        x = split.batch(order.index(next(done)).to(_device())).x
        out = model(x)
        (out.kl.mean() + 100 * (out.x_hat - x).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def constraints(number: int) -> Step:
    """As many constraints on leaves of the graph: loss, backward, and the multipliers' step."""
    objective = torch.tensor(10.0, device=_device(), requires_grad=True)
    values = torch.full((number,), 0.02, device=_device(), requires_grad=True)
    geco = GECO({f"c{i}": Constraint(upper=0.01) for i in range(number)}).to(_device())

    def step() -> None:
        geco(objective, **{f"c{i}": value for i, value in enumerate(values.unbind())}).loss.backward()
        geco.step()

    return step


def runs(number: int) -> Step:
    """As many ConvVAEs as at ``tiny``, stacked: forward, backward, and the Adam of each."""
    models = [ConvVAE((1, 8, 8), **PRESETS["ConvVAE"]["tiny"].model).to(_device()) for _ in range(number)]
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-4, fused=True) for model in models]
    stack, batch = StackedModel(models, 128), Batch(torch.rand(128, 1, 8, 8, device=_device()))

    def step() -> None:
        one = Pass(batch, stack.noise())
        outs = stack([one] * number)
        torch.stack([r.kl.mean() + 100 * (r.x_hat - r.x).square().mean() for r in outs]).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


KINDS: dict[str, Callable[..., Step]] = {"draw": draw, "images": images, "constraints": constraints, "runs": runs}


def measured(kind: str, **settings: Any) -> dict[str, float]:
    """The median step in seconds, and how much memory the process took at most since it had imported everything."""
    before = _memory("VmRSS")
    step = KINDS[kind](**settings)
    step()
    seconds: list[float] = []
    while len(seconds) < LEAST_ROUNDS or sum(seconds) < LEAST_SECONDS:
        _wait()
        began = time.perf_counter()
        step()
        _wait()
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "megabytes": _memory("VmHWM") - before}


def _memory(entry: str) -> float:
    """MB of this process as the system counts them, or the most that the accelerator has held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[entry].split()[0]) / 1e3


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given.pop("threads"))
    torch.manual_seed(0)
    print(json.dumps(measured(**given)))
