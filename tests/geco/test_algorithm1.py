"""The faithful Algorithm 1 against a second, independent writing of it in plain Python floats."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from bridle.geco import GECO, Constraint


def printed(**bound: float | Tensor) -> Constraint:
    """The paper's setting: C = value - bound, multiplier 1 at first, no limits of any kind."""
    return Constraint(**bound, scale="absolute", rate=0.02, alpha=0.9, bounds=None, max_log_step=None)


@dataclass
class Printed:
    """Algorithm 1 line by line, on lists of floats."""

    signs: list[float]
    bounds: list[float]
    rate: float = 0.02
    alpha: float = 0.9
    multipliers: list[float] = field(default_factory=list)
    averages: list[float] | None = None

    def __post_init__(self) -> None:
        self.multipliers = [1.0] * len(self.signs)

    def batch(self, objective: float, values: list[float]) -> tuple[float, list[float]]:
        """The loss, and its derivative in each value; then the multipliers move."""
        c = [s * (v - b) for s, v, b in zip(self.signs, values, self.bounds, strict=True)]
        if self.averages is None:
            self.averages = c
        else:
            self.averages = [self.alpha * m + (1 - self.alpha) * x for m, x in zip(self.averages, c, strict=True)]
        # C_t = C + stopgrad(C_ma - C): its value is C_ma, its gradient that of C.
        loss = objective + sum(lam * m for lam, m in zip(self.multipliers, self.averages, strict=True))
        slopes = [lam * s for lam, s in zip(self.multipliers, self.signs, strict=True)]
        self.multipliers = [
            lam * math.exp(self.rate * m) for lam, m in zip(self.multipliers, self.averages, strict=True)
        ]
        return loss, slopes


CASES: dict[str, tuple[dict[str, Constraint], list[float], list[float], list[int]]] = {
    # constraints; and for the reference: signs, bounds, and which value each row reads
    "scalar upper": ({"a": printed(upper=-0.5)}, [1.0], [-0.5], [0]),
    "scalar lower": ({"a": printed(lower=0.7)}, [-1.0], [0.7], [0]),
    "vector": ({"a": printed(upper=torch.tensor([-0.5, 0.1, 0.0]))}, [1.0] * 3, [-0.5, 0.1, 0.0], [0, 1, 2]),
    "equal": ({"a": printed(equal=0.3)}, [1.0, -1.0], [0.3, 0.3], [0, 0]),
    "interval": ({"a": printed(lower=0.4, upper=0.6)}, [1.0, -1.0], [0.6, 0.4], [0, 0]),
    "several": (
        {"a": printed(upper=-0.2), "b": printed(lower=torch.tensor([0.5, 0.2])), "c": printed(equal=0.1)},
        [1.0, -1.0, -1.0, 1.0, -1.0],
        [-0.2, 0.5, 0.2, 0.1, 0.1],
        [0, 1, 2, 3, 3],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_trajectory_loss_and_gradients_equal_the_printed_algorithm(case: str) -> None:
    constraints, signs, bounds, reads = CASES[case]
    geco = GECO(constraints, rule="algorithm1")
    reference = Printed(signs, bounds)
    rng = np.random.default_rng(0)
    count = max(reads) + 1
    slope = rng.normal(size=(count, 4))
    w = torch.tensor(rng.normal(size=4), requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.02)
    w_reference = w.detach().numpy().copy()

    for _ in range(200):
        noise = rng.normal(scale=0.3, size=count)
        flat = torch.tensor(slope) @ w + torch.tensor(noise)
        values, start = {}, 0
        for name, constraint in constraints.items():
            values[name] = flat[start : start + constraint.shape.numel()].reshape(constraint.shape)
            start += constraint.shape.numel()
        out = geco((w**2).sum(), **values)
        optimizer.zero_grad()
        out.loss.backward()
        assert w.grad is not None

        v = slope @ w_reference + noise
        before = list(reference.multipliers)
        loss, slopes = reference.batch(float((w_reference**2).sum()), [v[r] for r in reads])
        gradient = 2 * w_reference + sum(s * slope[r] for s, r in zip(slopes, reads, strict=True))
        assert out.loss.item() == pytest.approx(loss, rel=1e-4, abs=1e-5)
        np.testing.assert_allclose(w.grad.numpy(), gradient, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(geco.state[0].exp().numpy(), before, rtol=1e-4)

        optimizer.step()
        geco.step()
        w_reference = w_reference - 0.02 * gradient
        np.testing.assert_allclose(geco.state[0].exp().numpy(), reference.multipliers, rtol=1e-4)
        assert reference.averages is not None
        np.testing.assert_allclose(geco.state[1].numpy(), reference.averages, rtol=1e-4, atol=1e-5)
    assert max(abs(math.log(lam)) for lam in reference.multipliers) > 0.3, "the multipliers hardly moved"


def test_alpha_zero_moves_by_the_batch_itself() -> None:
    geco = GECO({"a": Constraint(upper=0.0, scale="absolute", rate=0.5, alpha=0.0)}, rule="algorithm1")
    for value, expected in ((1.0, 0.5), (-0.4, 0.3), (0.2, 0.4)):
        geco(torch.tensor(0.0), a=torch.tensor(value))
        geco.step()
        assert geco.state[0].item() == pytest.approx(expected, abs=1e-6)
        assert geco.state[1].item() == pytest.approx(value)


def test_limits_of_step_and_multiplier() -> None:
    constraint = Constraint(upper=1.0, scale="absolute", rate=1.0, alpha=0.0, bounds=(0.25, 3.0), max_log_step=0.5)
    geco = GECO({"a": constraint}, rule="algorithm1")
    logs = []
    for value in (11.0, 11.0, 11.0, -9.0, -9.0, -9.0, -9.0, -9.0, -9.0, 1.1):
        geco(torch.tensor(0.0), a=torch.tensor(value))
        geco.step()
        logs.append(geco.state[0].item())
    top, bottom = math.log(3.0), math.log(0.25)
    expected = [0.5, 1.0, top, top - 0.5, top - 1.0, top - 1.5, top - 2.0, bottom, bottom, bottom + 0.1]
    assert logs == pytest.approx(expected, abs=1e-5)


def test_initial_and_own_rate_of_each_constraint() -> None:
    constraints = {
        "a": Constraint(upper=1.0, scale="absolute", initial=4.0, rate=0.1),
        "b": Constraint(upper=1.0, scale="absolute", initial=0.5, rate=0.2),
    }
    geco = GECO(constraints, rule="algorithm1")
    assert [m.item() for m in geco.multipliers().values()] == pytest.approx([4.0, 0.5])
    geco(torch.tensor(0.0), a=torch.tensor(2.0), b=torch.tensor(3.0))
    geco.step()
    assert [m.item() for m in geco.multipliers().values()] == pytest.approx([4 * math.exp(0.1), 0.5 * math.exp(0.4)])


@pytest.mark.parametrize("rule", ["pi", "algorithm1"])
def test_output_is_a_loss_and_detached_numbers(rule: str) -> None:
    geco = GECO({"a": Constraint(upper=2.0, initial=3.0), "b": Constraint(lower=4.0, initial=5.0)}, rule=rule)
    objective, a, b = (torch.tensor(v, requires_grad=True) for v in (7.0, 3.0, 3.0))
    out = geco(objective, a=a, b=b)
    lagrangian = 7 + 3 * (3 / 2 - 1) + 5 * (1 - 3 / 4)
    assert out.objective.item() == 7
    assert out.lagrangian.item() == pytest.approx(lagrangian)
    assert out.loss.item() == pytest.approx(lagrangian)
    assert out.violations["a"].item() == pytest.approx(0.5)
    assert out.violations["b"].item() == pytest.approx(0.25)
    out.loss.backward()
    assert [t.grad.item() for t in (objective, a, b)] == pytest.approx([1, 3 / 2, -5 / 4])
    detached = [out.objective, out.lagrangian, *out.violations.values()]
    assert not any(t.requires_grad for t in detached)
