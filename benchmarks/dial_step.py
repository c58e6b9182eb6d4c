"""What a dial adds to a training step: the same models and batches with one kappa and with a dial; see README.md.

The two take turns, a step each, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from bridle.data import BatchOrder, DataSet
from bridle.training import ClassSpec, Constraints, TrainConfig
from bridle.training.build import build_data
from bridle.training.compiling import compile_system
from bridle.training.presets import preset_for
from bridle.training.state import TrainingState, seed_step

MODELS = ("ConvVAE", "ConvDRAW", "NVPVAE")
PRESETS = {"Digits": "tiny", "MNIST": "small"}


class Stepper:
    """A run, a step at a time, each all that the training loop does in one."""

    def __init__(self, config: TrainConfig, data: DataSet, compiled: bool) -> None:
        self.config, self.split = config, data.split("train")
        self.state = TrainingState(config, data, self.split, torch.device("cpu"))
        self.state.begin(None, None)  # type: ignore[arg-type]
        self.weights = [weight for weight in self.state.system.parameters() if weight.requires_grad]
        self.order = BatchOrder(len(self.split), config.batch, config.seed)
        self.step = 0
        if compiled:
            compile_system(self.state.system, self.split.batch(self.order.index(0)))

    def seconds(self) -> float:
        config, state, system = self.config, self.state, self.state.system
        began = time.perf_counter()
        seed_step(config.seed, self.step)
        system.advance(self.step / state.end)
        for group in state.optimizer.param_groups:
            group["lr"] = config.learning_rate(self.step, state.end)
        out = system(self.split.batch(self.order.index(self.step)))
        out.loss.backward()
        state.totals.add(out.metrics)
        torch.nn.utils.clip_grad_norm_(self.weights, config.clip)
        state.optimizer.step()
        state.optimizer.zero_grad()
        system.objective.step()
        self.step += 1
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["Digits"], choices=list(PRESETS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--compile", action="store_true", help="both, as by `bridle train --compile true`")
    given = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"medians of {given.steps} steps in turns{', compiled' if given.compile else ''}\n"
    )
    print("| data, preset | model | one kappa, ms | dial, ms | ratio |\n|---|---|---|---|---|")
    for name in given.data:
        data = build_data(TrainConfig(data=ClassSpec(f"bridle.data.{name}")))
        for model in MODELS:
            preset = preset_for(model, PRESETS[name])  # type: ignore[arg-type]
            runs = [
                Stepper(
                    TrainConfig(
                        data=ClassSpec(f"bridle.data.{name}"),
                        model=ClassSpec(f"bridle.models.{model}", preset.model),
                        constraints=Constraints(re=kappa),
                        batch=preset.batch,
                        lr=preset.lr,
                    ),
                    data,
                    given.compile,
                )
                for kappa in (0.1, "0.06:0.22")
            ]
            for run in runs * 5:
                run.seconds()
            taken = [[run.seconds() for run in runs] for _ in range(given.steps)]
            one, dial = (1e3 * statistics.median(times) for times in zip(*taken, strict=True))
            ratios = statistics.median(b / a for a, b in taken)
            print(f"| {name}, {PRESETS[name]} | {model} | {one:.2f} | {dial:.2f} | {ratios:.3f} |", flush=True)


if __name__ == "__main__":
    main()
