"""What a constraint costs: a training step with GECO, Cooper and mdmm against the same step with a fixed beta.

The four take turns within one process, so that whatever else the machine does falls on all of them alike; a ratio is
formed within each round, and its median over the rounds is reported. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cooper
import mdmm
import torch
from torch import Tensor, nn

from bridle.geco import GECO, Constraint
from bridle.models.convvae import ConvVAE

KAPPA = 0.1
LR = 1e-3
BASE = "fixed beta"

Step = Callable[[Tensor], object]


class Network(nn.Module):
    """The rate and the distortion of a VAE of about a million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = ConvVAE((1, 28, 28), hidden=860)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.vae(x)
        return out.kl.mean(), (out.x_hat - x).square().mean()


class Nothing(nn.Module):
    """The same two numbers as leaves: what is left to time is the machinery of the constraint itself."""

    def __init__(self) -> None:
        super().__init__()
        self.kl = nn.Parameter(torch.tensor(10.0))
        self.mse = nn.Parameter(torch.tensor(0.02))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.kl, self.mse


def fixed_beta(model: nn.Module) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        kl, mse = model(x)
        (kl + 400 * mse).backward()
        optimizer.step()

    return step


def with_geco(rule: str) -> Callable[[nn.Module], Step]:
    def contestant(model: nn.Module) -> Step:
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        geco = GECO({"re": Constraint(upper=KAPPA**2)}, rule=rule)

        def step(x: Tensor) -> None:
            optimizer.zero_grad()
            kl, mse = model(x)
            geco(kl, re=mse).loss.backward()
            optimizer.step()
            geco.step()

        return step

    return contestant


class CooperProblem(cooper.ConstrainedMinimizationProblem):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.constraint = cooper.Constraint(
            constraint_type=cooper.ConstraintType.INEQUALITY,
            multiplier=cooper.multipliers.DenseMultiplier(num_constraints=1),
        )

    def compute_cmp_state(self, x: Tensor) -> cooper.CMPState:
        kl, mse = self.model(x)
        violation = cooper.ConstraintState(violation=(mse / KAPPA**2 - 1).reshape(1))
        return cooper.CMPState(loss=kl, observed_constraints={self.constraint: violation})


def with_cooper(model: nn.Module) -> Step:
    problem = CooperProblem(model)
    optimizer = cooper.optim.SimultaneousOptimizer(
        cmp=problem,
        primal_optimizers=torch.optim.Adam(model.parameters(), lr=LR),
        dual_optimizers=torch.optim.SGD(problem.dual_parameters(), lr=1e-2, maximize=True),
    )
    return lambda x: optimizer.roll(compute_cmp_state_kwargs={"x": x})


def with_mdmm(model: nn.Module) -> Step:
    value: dict[str, Tensor] = {}
    constraint = mdmm.MaxConstraint(lambda: value["c"], max=0.0)
    lagrangian = mdmm.MDMM([constraint])
    optimizer = lagrangian.make_optimizer(model.parameters(), optimizer=torch.optim.Adam, lr=LR)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        kl, mse = model(x)
        value["c"] = mse / KAPPA**2 - 1
        lagrangian(kl).value.backward()
        optimizer.step()

    return step


CONTESTANTS: dict[str, Callable[[nn.Module], Step]] = {
    BASE: fixed_beta,
    "Bridle, pi (default)": with_geco("pi"),
    "Bridle, algorithm1": with_geco("algorithm1"),
    "Cooper": with_cooper,
    "mdmm": with_mdmm,
}


class Result(NamedTuple):
    """One contestant: median step in ms; over the base, per round: median extra in us and ratio with 95% interval."""

    median: float
    extra: float
    ratio: float
    low: float
    high: float


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measure(model: nn.Module, x: Tensor, rounds: int, warmup: int) -> dict[str, Result]:
    """Time every contestant once a round, on a copy of the model each; the order rotates from round to round."""
    steps = {name: contestant(copy.deepcopy(model)) for name, contestant in CONTESTANTS.items()}
    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with no_garbage_collection():
        for turn in range(-warmup, rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                start = time.perf_counter()
                steps[name](x)
                elapsed = time.perf_counter() - start
                if turn >= 0:
                    seconds[name].append(elapsed)
    return {name: summarize(taken, seconds[BASE]) for name, taken in seconds.items()}


def summarize(taken: list[float], base: list[float], resamples: int = 2000) -> Result:
    mine, plain = torch.tensor(taken, dtype=torch.float64), torch.tensor(base, dtype=torch.float64)
    ratios = mine / plain
    drawn = torch.randint(len(ratios), (resamples, len(ratios)), generator=torch.Generator().manual_seed(0))
    medians = ratios[drawn].quantile(0.5, dim=1)
    low, high = medians.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    extra = statistics.median((mine - plain).tolist())
    return Result(1e3 * statistics.median(taken), 1e6 * extra, statistics.median(ratios.tolist()), low, high)


def processor() -> str:
    """The name of the CPU, as well as this platform tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def table(results: dict[str, Result]) -> str:
    lines = [
        "| | step, ms | extra, µs | ratio to the fixed beta (95% interval) |",
        "|---|---|---|---|",
    ]
    for name, r in results.items():
        ratio = "1" if name == BASE else f"{r.ratio:.4f} ({r.low:.4f} to {r.high:.4f})"
        lines.append(f"| {name} | {r.median:.3f} | {r.extra:.0f} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="steps of each contestant that are timed")
    parser.add_argument("--warmup", type=int, default=30, help="steps of each contestant before that")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads, one table each")
    parser.add_argument("--batch", type=int, default=128, help="images of 28x28 a step")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()

    torch.manual_seed(0)
    x = torch.rand(options.batch, 1, 28, 28)
    network = Network()
    weights = sum(p.numel() for p in network.parameters())
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "cooper-optim", "mdmm"))
    parts = [
        "# What a constraint costs",
        f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}; {date.today()}.",
        f"`{' '.join(['python', *sys.argv])}`: medians over {options.rounds} rounds, all contestants in turn in each.",
    ]
    for threads in options.threads:
        torch.set_num_threads(threads)
        parts += [
            f"## A training step, {threads} thread{'s' * (threads > 1)}",
            f"ConvVAE of {weights:,} weights, {options.batch} images of 28x28, Adam.",
            table(measure(network, x, options.rounds, options.warmup)),
        ]
    torch.set_num_threads(1)
    parts += [
        "## The constraint alone, 1 thread",
        "The rate and the distortion are two leaves: loss, backward, Adam on the two, and the multiplier's step.",
        table(measure(Nothing(), x, 10 * options.rounds, 10 * options.warmup)),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
