"""What constraints cost: GECO with 1, 4 and 64 of them, eager and compiled, beside Cooper and mdmm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cooper
import mdmm
import torch
from torch import Tensor, nn

from benchmarks.speed.timing import Times, in_turn, ratio, table
from bridle.geco import GECO, Constraint
from bridle.models import ConvVAE
from bridle.training.presets import PRESETS

__all__ = ["measure"]

COUNTS = (1, 4, 64)
BOUND = 0.01
ROUNDS = 300
STEP = 5e-3
"""Seconds of the training step that the cost is compared with."""

Step = Callable[[], None]


class Leaves(nn.Module):
    """An objective and as many values as there are constraints, which nothing else computes."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.objective = nn.Parameter(torch.tensor(10.0))
        self.values = nn.Parameter(torch.full((count,), 0.02))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.objective, self.values


class Images(nn.Module):
    """The rate of a ConvVAE as at ``small``, and the mean squared error as the only value."""

    def __init__(self) -> None:
        super().__init__()
        preset = PRESETS["ConvVAE"]["small"]
        self.vae, self.x = ConvVAE((1, 28, 28), **preset.model), torch.rand(preset.batch, 1, 28, 28)

    def forward(self) -> tuple[Tensor, Tensor]:
        out = self.vae(self.x)
        return out.kl.mean(), (out.x_hat - self.x).square().mean().reshape(1)


def measure() -> list[str]:
    """The two tables."""
    return [
        "## Constraints",
        "Loss, backward, Adam and the multipliers' step where rate and distortions are leaves, less the same with "
        "fixed weights. One thread's work whatever the model. The aim: at most 1% of a step of 5 ms.",
        _alone(),
        "One of them within a training step of ConvVAE as at `small`, 128 images of 28x28:",
        _within(),
    ]


def _alone() -> str:
    """What is left of each step when that with fixed weights is taken away is the constraints' cost."""
    rows = []
    for count in COUNTS:
        steps = {
            "fixed": _fixed(Leaves(count)),
            "GECO": _geco(Leaves(count), count),
            "GECO, one vector": _geco(Leaves(count), count, vector=True),
            "GECO, algorithm1": _geco(Leaves(count), count, rule="algorithm1"),
            "GECO, compiled": _geco(Leaves(count), count, compiled=True),
            "Cooper": _cooper(Leaves(count), count),
            "mdmm": _mdmm(Leaves(count), count),
        }
        times = in_turn(steps, ROUNDS, warmup=20)
        for name in steps:
            if name != "fixed":
                extra = _less(times[name], times["fixed"])
                rows.append([count, name, f"{1e6 * extra:.0f}", f"{100 * extra / STEP:.1f}%"])
    return table(["constraints", "", "extra, µs", "of a step of 5 ms"], rows)


def _within() -> str:
    steps = {
        "fixed": _fixed(Images()),
        "GECO": _geco(Images(), 1),
        "GECO, algorithm1": _geco(Images(), 1, rule="algorithm1"),
        "Cooper": _cooper(Images(), 1),
        "mdmm": _mdmm(Images(), 1),
    }
    times = in_turn(steps, ROUNDS, warmup=20)
    rows = [
        [name, times[name].milliseconds(), f"{1e6 * _less(times[name], times['fixed']):.0f}", _over(times, name)]
        for name in steps
    ]
    return table(["", "step, ms", "extra, µs", "over fixed weights"], rows)


def _over(times: dict[str, Times], name: str) -> str:
    return "" if name == "fixed" else ratio(times[name], times["fixed"])


def _less(times: Times, base: Times) -> float:
    """The median of the differences within a round, in seconds."""
    return Times(tuple(a - b for a, b in zip(times.seconds, base.seconds, strict=True))).median


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)


def _fixed(model: nn.Module) -> Step:
    optimizer = _optimizer(model)

    def step() -> None:
        optimizer.zero_grad()
        objective, values = model()
        (objective + 30 * values.sum()).backward()
        optimizer.step()

    return step


def _geco(model: nn.Module, count: int, rule: str = "pi", compiled: bool = False, vector: bool = False) -> Step:
    """As separate constraints, or as the elements of one."""
    optimizer = _optimizer(model)
    bound = torch.full((count,), BOUND)
    bounds = {"c": Constraint(upper=bound)} if vector else {f"c{i}": Constraint(upper=BOUND) for i in range(count)}
    geco = GECO(bounds, rule=rule)

    def lagrangian() -> Tensor:
        objective, values = model()
        return geco(objective, **dict(zip(bounds, [values] if vector else values.unbind(), strict=True))).loss

    loss, move = (torch.compile(lagrangian), torch.compile(geco.step)) if compiled else (lagrangian, geco.step)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        move()

    return step


def _cooper(model: nn.Module, count: int) -> Step:
    multiplier = cooper.multipliers.DenseMultiplier(num_constraints=count)
    constraint = cooper.Constraint(constraint_type=cooper.ConstraintType.INEQUALITY, multiplier=multiplier)

    class Problem(cooper.ConstrainedMinimizationProblem):
        def __init__(self) -> None:
            super().__init__()
            self.constraint = constraint

        def compute_cmp_state(self) -> cooper.CMPState:
            objective, values = model()
            violation = cooper.ConstraintState(violation=values / BOUND - 1)
            return cooper.CMPState(loss=objective, observed_constraints={self.constraint: violation})

    problem = Problem()
    optimizer = cooper.optim.SimultaneousOptimizer(
        cmp=problem,
        primal_optimizers=_optimizer(model),
        dual_optimizers=torch.optim.SGD(problem.dual_parameters(), lr=1e-2, maximize=True),
    )

    def step() -> None:
        optimizer.roll()

    return step


def _mdmm(model: nn.Module, count: int) -> Step:
    now: list[Tensor] = []
    constraints = [mdmm.MaxConstraint(lambda i=i: now[0][i] / BOUND - 1, max=0.0) for i in range(count)]
    lagrangian = mdmm.MDMM(constraints)
    optimizer = lagrangian.make_optimizer(model.parameters(), optimizer=partial(torch.optim.Adam, fused=True), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        objective, values = model()
        now[:] = [values]
        lagrangian(objective).value.backward()
        optimizer.step()

    return step
