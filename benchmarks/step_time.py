"""What a training step takes on the accelerator, or on the CPU where there is none, by preset and precision."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from datetime import date

import torch

from bridle.training import ClassSpec, Constraints, TrainConfig
from bridle.training.build import build_data
from bridle.training.presets import PRESETS, preset_for
from bridle.training.state import TrainingState, device_for

WARM_UP = 4


def step_seconds(config: TrainConfig, precision: str, repeats: int) -> float:
    """The median time of a step on a batch at hand: forward and backward pass, clipping, Adam, multipliers."""
    device, data = device_for(config), build_data(config)
    split = data.split("train").to(device)
    state = TrainingState(config, data, split, device)
    system = state.system.train()
    batch = split.batch(torch.arange(config.batch, device=device))
    seconds = []
    for _ in range(WARM_UP + repeats):
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            out = system(batch)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), config.clip)
        state.optimizer.step()
        state.optimizer.zero_grad()
        system.objective.step()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="CIFAR10", choices=["Digits", "MNIST", "CIFAR10"])
    parser.add_argument("--presets", nargs="+", default=["small", "paper"], choices=["tiny", "small", "paper"])
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    print("| model | preset | images | float32, ms | bfloat16, ms |\n|---|---|---|---|---|")
    for model in PRESETS:
        for name in given.presets:
            preset = preset_for(model, name)
            config = TrainConfig(
                data=ClassSpec(f"bridle.data.{given.data}"),
                model=ClassSpec(f"bridle.models.{model}", preset.model),
                constraints=Constraints(re=0.1),
                batch=preset.batch,
                lr=preset.lr,
            )
            cells = [f"{1e3 * step_seconds(config, precision, given.repeats):.1f}" for precision in ("fp32", "bf16")]
            print(f"| {model} | {name} | {preset.batch} | {' | '.join(cells)} |", flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"\n{given.data}; {device}, torch {torch.__version__}; {date.today()}")


if __name__ == "__main__":
    main()
