"""One model with a dial against a model for each kappa; see README.md beside this file.

All are trained by the same plain loop: Adam with the learning rate of `bridle train`, the same batches and seeds, and
the multipliers by the default rule. What a run ended with is a line of a JSON file as soon as it is known, and the same
command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bridle import models
from bridle.constraints import RE
from bridle.data import BatchOrder, Split
from bridle.dial import Dial, DialledGECO
from bridle.evaluation import measure_split
from bridle.geco import GECO, Constraint
from bridle.models import Dialled, LatentModel
from bridle.training import ClassSpec, TrainConfig
from bridle.training.build import build_data
from bridle.training.presets import PresetName, preset_for
from bridle.training.state import seed_step

PRESETS: dict[str, PresetName] = {"Digits": "tiny", "MNIST": "small", "CIFAR10": "small"}
KAPPAS = 10


class Row(NamedTuple):
    """What a model ended with at a kappa: ``kl`` in nats and ``rmse`` in pixel units, on the training split;
    ``milliseconds`` a step."""

    kind: str
    seed: int
    kappa: float
    rmse: float
    kl: float
    multiplier: float
    milliseconds: float


class Task(NamedTuple):
    """What is compared: ``steps`` of a separate run, of which the dial has twice as many."""

    data: str
    model: str
    least: float
    greatest: float
    steps: int
    batch: int
    lr: float
    settings: dict[str, Any]

    @property
    def kappas(self) -> list[float]:
        """Evenly in their logarithm, both ends included."""
        ratio = self.greatest / self.least
        return [round(self.least * ratio ** (i / (KAPPAS - 1)), 4) for i in range(KAPPAS)]

    def fresh(self, split: Split, seed: int) -> LatentModel:
        torch.manual_seed(seed)
        model: LatentModel = getattr(models, self.model)(split.image_shape, split.context_shape, **self.settings)
        return model

    def batches(self, split: Split, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> Iterator[Tensor]:
        """The images of each step, with its seed and its learning rate set."""
        config, order = TrainConfig(steps=steps, lr=self.lr), BatchOrder(len(split), self.batch, seed)
        for step in range(steps):
            seed_step(seed, step)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate(step)
            yield split.batch(order.index(step)).x


def separate(task: Task, split: Split, kappa: float, seed: int) -> Row:
    model, bound = task.fresh(split, seed), RE(kappa).bound(split.image_shape)
    geco = GECO({"re": bound})
    optimizer = torch.optim.Adam(model.parameters(), lr=task.lr, fused=True)
    began = time.process_time()
    for x in task.batches(split, optimizer, task.steps, seed):
        out = model(x)
        optimizer.zero_grad()
        geco(out.kl.mean(), re=(x - out.x_hat).square().mean()).loss.backward()
        clip(model, optimizer)
        geco.step()
    milliseconds = 1e3 * (time.process_time() - began) / task.steps
    return measured("separate", model, split, seed, kappa, geco.multipliers()["re"].item(), milliseconds)


def dialled(task: Task, split: Split, seed: int) -> list[Row]:
    price = RE(task.least).bound(split.image_shape)  # which is the same for all kappas
    dial = Dial({"re": (task.least, task.greatest)})
    model = Dialled(task.fresh(split, seed), dial)
    geco = DialledGECO({"re": Constraint(upper=1.0, initial=price.initial, bounds=price.bounds)}, dial)
    optimizer = torch.optim.Adam(model.parameters(), lr=task.lr, fused=True)
    began = time.process_time()
    for x in task.batches(split, optimizer, 2 * task.steps, seed):
        position = dial.draw(len(x))
        kappa = dial.kappas(position)["re"]
        out = model(position, x)
        optimizer.zero_grad()
        mse = (x - out.x_hat).square().mean(dim=(1, 2, 3))
        geco(out.kl, position=position, re=mse / kappa.square()).loss.backward()
        clip(model, optimizer)
        geco.step()
    milliseconds = 1e3 * (time.process_time() - began) / (2 * task.steps)
    rows = []
    for kappa in task.kappas:
        multiplier = (dial.shares(dial.position({"re": kappa})) @ geco.state[0]).exp().item()
        rows.append(measured("dial", model.at(kappa), split, seed, kappa, multiplier, milliseconds))
    return rows


def clip(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), TrainConfig().clip)
    optimizer.step()


def measured(
    kind: str, model: LatentModel, split: Split, seed: int, kappa: float, multiplier: float, milliseconds: float
) -> Row:
    ended = measure_split(model, split)
    return Row(kind, seed, kappa, ended.rmse, ended.kl, multiplier, milliseconds)


def rows_of(task: Task, file: Path, seeds: Sequence[int]) -> list[Row]:
    """All rows, trained where the file does not have them."""
    rows = [Row(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    split = build_data(TrainConfig(data=ClassSpec(f"bridle.data.{task.data}"))).split("train")

    def keep(new: Sequence[Row]) -> None:
        with file.open("a") as lines:
            for row in new:
                print(row, flush=True)
                lines.write(json.dumps(row._asdict()) + "\n")
        rows.extend(new)

    for seed in seeds:
        if not any(row.kind == "dial" and row.seed == seed for row in rows):
            keep(dialled(task, split, seed))
        for kappa in task.kappas:
            if not any((row.kind, row.seed, row.kappa) == ("separate", seed, kappa) for row in rows):
                keep([separate(task, split, kappa, seed)])
    return [row for row in rows if row.seed in seeds]


def corrected(row: Row, multiplier: float) -> float:
    """The KL at exactly kappa: what the multiplier says that the error's distance from it is worth."""
    return row.kl + multiplier * ((row.rmse / row.kappa) ** 2 - 1)


def table(task: Task, rows: Sequence[Row]) -> Iterator[str]:
    """Means over seeds, with their standard deviations where there are several."""
    yield "| kappa | separate: RMSE/kappa, KL | dial: the same | KL at exactly kappa: separate, dial | difference |"
    yield "|---|---|---|---|---|"
    for kappa in task.kappas:
        pairs = [
            (one, other)
            for one in rows
            for other in rows
            if (one.kind, other.kind) == ("separate", "dial")
            and one.seed == other.seed
            and one.kappa == kappa
            and other.kappa == kappa
        ]
        worth = statistics.mean(one.multiplier for one, _ in pairs)
        exact = [(corrected(one, worth), corrected(other, worth)) for one, other in pairs]
        cells = [
            f"{statistics.mean(r.rmse / kappa for r in kind):.3f}, {statistics.mean(r.kl for r in kind):.2f}"
            for kind in zip(*pairs, strict=True)
        ]
        means = ", ".join(f"{statistics.mean(kls):.2f}" for kls in zip(*exact, strict=True))
        shares = [100 * (other / one - 1) for one, other in exact]
        spread = f" +- {statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
        yield f"| {kappa:g} | {cells[0]} | {cells[1]} | {means} | {statistics.mean(shares):+.1f}{spread}% |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="Digits", choices=list(PRESETS))
    parser.add_argument("--model", default="ConvVAE", choices=["ConvVAE", "ConvDRAW", "NVPVAE"])
    parser.add_argument("--range", type=float, nargs=2, default=(0.05, 0.25), metavar=("LEAST", "GREATEST"))
    parser.add_argument("--steps", type=int, help="of a separate run; the preset's if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file, a line a row")
    given = parser.parse_args()
    preset = preset_for(given.model, PRESETS[given.data])
    steps = given.steps or preset.steps
    task = Task(given.data, given.model, *given.range, steps, preset.batch, preset.lr, preset.model)
    rows = rows_of(task, given.out, given.seeds)
    clocks = {k: statistics.median(r.milliseconds for r in rows if r.kind == k) for k in ("separate", "dial")}
    print(
        f"\n{given.data}, {given.model}, {task.steps} steps of each separate run and {2 * task.steps} of the dial; ",
        end="",
    )
    print(f"seeds {', '.join(map(str, given.seeds))}; {platform.machine()}, torch {torch.__version__}; {date.today()}")
    print(f"a step: separate {clocks['separate']:.2f} ms, dial {clocks['dial']:.2f} ms of the processor\n")
    print(*table(task, rows), sep="\n")
    worst = max(abs(row.rmse / row.kappa - 1) for row in rows if row.kind == "dial")
    print(f"\nthe dial is at most {100 * worst:.1f}% off kappa")


if __name__ == "__main__":
    main()
