"""What constraints cost: GECO with 1, 4 and 64 of them, eager and compiled, beside Cooper and mdmm."""

from __future__ import annotations

from collections.abc import Callable

import cooper
import mdmm
import torch
from torch import Tensor, nn

from benchmarks.speed.timing import Times, in_turn, table
from bridle.geco import GECO, Constraint

__all__ = ["measure"]

COUNTS = (1, 4, 64)
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


def measure() -> list[str]:
    """The table. What is left of each step when that with fixed weights is taken away is the constraints' cost."""
    rows = []
    for count in COUNTS:
        steps = {
            "fixed": _fixed(count),
            "GECO": _geco(count, compiled=False),
            "GECO, one vector": _geco(count, compiled=False, vector=True),
            "GECO, compiled": _geco(count, compiled=True),
            "Cooper": _cooper(count),
            "mdmm": _mdmm(count),
        }
        times = in_turn(steps, ROUNDS, warmup=20)
        for name in steps:
            if name != "fixed":
                extra = _less(times[name], times["fixed"])
                rows.append([count, name, f"{1e6 * extra:.0f}", f"{100 * extra / STEP:.1f}%"])
    header = ["constraints", "", "extra, µs", "of a step of 5 ms"]
    text = (
        "Loss, backward, Adam and the multipliers' step where rate and distortions are leaves, less the same with fixed"
    )
    return ["## Constraints", f"{text} weights. One thread's work whatever the model.", table(header, rows)]


def _less(times: Times, base: Times) -> float:
    """The median of the differences within a round, in seconds."""
    return Times(tuple(a - b for a, b in zip(times.seconds, base.seconds, strict=True))).median


def _optimizer(leaves: Leaves) -> torch.optim.Optimizer:
    return torch.optim.Adam(leaves.parameters(), lr=1e-6, fused=True)


def _fixed(count: int) -> Step:
    leaves, weights = Leaves(count), torch.full((count,), 30.0)
    optimizer = _optimizer(leaves)

    def step() -> None:
        optimizer.zero_grad()
        (leaves.objective + torch.dot(weights, leaves.values)).backward()
        optimizer.step()

    return step


def _geco(count: int, compiled: bool, vector: bool = False) -> Step:
    """As separate constraints, or as the elements of one."""
    leaves = Leaves(count)
    optimizer = _optimizer(leaves)
    if vector:
        geco = GECO({"c": Constraint(upper=torch.full((count,), 0.01))})
    else:
        geco = GECO({f"c{i}": Constraint(upper=0.01) for i in range(count)})

    def values() -> dict[str, Tensor]:
        if vector:
            return {"c": leaves.values}
        return {f"c{i}": value for i, value in enumerate(leaves.values.unbind())}

    loss = torch.compile(lambda: geco(leaves.objective, **values()).loss) if compiled else None
    move = torch.compile(geco.step) if compiled else geco.step

    def step() -> None:
        optimizer.zero_grad()
        (geco(leaves.objective, **values()).loss if loss is None else loss()).backward()
        optimizer.step()
        move()

    return step


def _cooper(count: int) -> Step:
    leaves = Leaves(count)
    multiplier = cooper.multipliers.DenseMultiplier(num_constraints=count)
    constraint = cooper.Constraint(constraint_type=cooper.ConstraintType.INEQUALITY, multiplier=multiplier)

    class Problem(cooper.ConstrainedMinimizationProblem):
        def __init__(self) -> None:
            super().__init__()
            self.constraint = constraint

        def compute_cmp_state(self) -> cooper.CMPState:
            violation = cooper.ConstraintState(violation=leaves.values / 0.01 - 1)
            return cooper.CMPState(loss=leaves.objective, observed_constraints={self.constraint: violation})

    problem = Problem()
    optimizer = cooper.optim.SimultaneousOptimizer(
        cmp=problem,
        primal_optimizers=_optimizer(leaves),
        dual_optimizers=torch.optim.SGD(problem.dual_parameters(), lr=1e-2, maximize=True),
    )

    def step() -> None:
        optimizer.roll()

    return step


def _mdmm(count: int) -> Step:
    leaves = Leaves(count)
    constraints = [mdmm.MaxConstraint(lambda i=i: leaves.values[i] / 0.01 - 1, max=0.0) for i in range(count)]
    lagrangian = mdmm.MDMM(constraints)
    optimizer = lagrangian.make_optimizer(leaves.parameters(), optimizer=torch.optim.Adam, lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        lagrangian(leaves.objective).value.backward()
        optimizer.step()

    return step
