"""What moves the multipliers: ours, its peers, and their grids of settings.

Each rule is one small class behind one protocol, written anew from its publication's description, or the package
itself where there is one (cooper-optim, mdmm: ``pip install 'bridle[benchmarks]'``). Peers see the relative
constraints C = value / bound - 1 times a ``scale``, which is part of their grid where their authors leave it open;
their multipliers are told on the relative C, so that all can be compared.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from benchmarks.arena.terms import Measured, Terms
from bridle.constraints import RE
from bridle.errors import ConfigError
from bridle.geco import GECO, Constraint, Rule
from bridle.judge import STATES, Judge

__all__ = [
    "CONTESTANTS",
    "OURS",
    "PEERS",
    "WITHOUT_RULE",
    "Contestant",
    "Entry",
    "Fixed",
    "Ours",
    "edges",
    "ours",
    "setting_name",
]

Setting = Mapping[str, float | str]


class Contestant(ABC):
    """Moves the multipliers of one training run."""

    @property
    def state(self) -> str | None:
        """What it says of the run by itself, such as "cannot be met"; None where it says nothing."""
        return None

    @abstractmethod
    def loss(self, seen: Measured) -> Tensor:
        """What is differentiated, 0-dimensional."""

    @abstractmethod
    def step(self) -> None:
        """Follows the optimizer's step: moves the multipliers by what the last :meth:`loss` saw."""

    @property
    @abstractmethod
    def multipliers(self) -> Tensor:
        """The multipliers of the relative constraints, nats, shape ``(rows,)``."""


class Ours(Contestant):
    """Bridle's GECO as a user gets it, with the starts and bounds that its constraints state.

    Arguments:
        terms: The constraints.
        rule: A rule of :mod:`bridle.geco`; the default one if not given.
        start: What the multipliers that the constraints start at are multiplied by.
    """

    def __init__(self, terms: Terms, rule: str | Rule | None = None, start: float = 1.0) -> None:
        bounds = {name: replace(bound, initial=start * bound.initial) for name, bound in terms.bounds.items()}
        self.geco = (GECO(bounds) if rule is None else GECO(bounds, rule=rule)).to(terms.device)
        self.judge = Judge(self.geco, {term.name: term.limits for term in terms.terms})

    def loss(self, seen: Measured) -> Tensor:
        return self.geco(seen.kl, **seen.values).loss

    def step(self) -> None:
        self.geco.step()
        self.judge.step()

    @property
    def state(self) -> str:
        """What is said of the constraint that is worst off."""
        return max((verdict.state for verdict in self.judge.verdicts().values()), key=STATES.index)

    @property
    def multipliers(self) -> Tensor:
        return torch.cat([multiplier.reshape(-1) for multiplier in self.geco.multipliers().values()])


class Fixed(Contestant):
    """Multipliers that do not move. The loss is divided by one plus their sum: Adam sees the same, and no gradient is
    so large that it is clipped.

    Arguments:
        terms: The constraints.
        multipliers: One a row; infinite ones leave the rate out.
    """

    def __init__(self, terms: Terms, multipliers: Sequence[float]) -> None:
        fixed = torch.tensor(list(multipliers), dtype=torch.float32, device=terms.device)
        self._multipliers = fixed
        infinite = fixed.isinf()
        if infinite.any():
            self.kl_weight, self.weights = 0.0, infinite.float() / infinite.sum()
        else:
            total = 1 + fixed.sum()
            self.kl_weight, self.weights = 1 / total.item(), fixed / total

    def loss(self, seen: Measured) -> Tensor:
        return self.kl_weight * seen.kl + torch.dot(self.weights, seen.c)

    def step(self) -> None:
        return

    @property
    def multipliers(self) -> Tensor:
        return self._multipliers


class Algorithm1(Contestant):
    """The paper's Algorithm 1 as printed: multipliers from one, no bounds, log multiplier moved by ``nu`` times the
    moving average of C, which starts at the first batch's."""

    def __init__(self, terms: Terms, scale: str, nu: float) -> None:
        self.scale, self.nu = _scale(terms, scale), nu
        self.log_multiplier = torch.zeros_like(self.scale)
        self.average: Tensor | None = None

    def loss(self, seen: Measured) -> Tensor:
        c = self.scale * seen.c
        self.average = _averaged(self.average, c)
        return seen.kl + torch.dot(self.log_multiplier.exp(), c + (self.average - c).detach())

    def step(self) -> None:
        assert self.average is not None
        self.log_multiplier = self.log_multiplier + self.nu * self.average

    @property
    def multipliers(self) -> Tensor:
        return self.log_multiplier.exp() * self.scale


class Genesis(Contestant):
    """The form of GENESIS and its many copies: loss = err + beta KL, beta from one,
    ``beta *= exp(nu (goal - average))``, with ten times the rate once the goal is met. With several constraints each
    has a beta of its own, whose inverse is its multiplier, and the loss is divided by their sum, which is the same for
    one."""

    def __init__(self, terms: Terms, scale: str, nu: float) -> None:
        self.scale, self.nu = _scale(terms, scale), nu
        self.log_beta = torch.zeros_like(self.scale)
        self.average: Tensor | None = None

    def loss(self, seen: Measured) -> Tensor:
        c = self.scale * seen.c
        self.average = _averaged(self.average, c)
        multiplier = (-self.log_beta).exp()
        return (seen.kl + torch.dot(multiplier, c)) / multiplier.sum()

    def step(self) -> None:
        assert self.average is not None
        rate = torch.where(self.average < 0, 10 * self.nu, self.nu)
        self.log_beta = self.log_beta - rate * self.average

    @property
    def multipliers(self) -> Tensor:
        return (-self.log_beta).exp() * self.scale


class SoftplusSquared(Contestant):
    """Sonnet's rule: multiplier = softplus(w)^2, from one, gradient ascent in w: plain, or by Adam as there."""

    def __init__(self, terms: Terms, ascent: str, rate: float) -> None:
        self.w = torch.full_like(terms.bound, math.log(math.e - 1)).requires_grad_()
        kind: Any = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[ascent]
        self.optimizer = kind([self.w], lr=rate, maximize=True)

    def loss(self, seen: Measured) -> Tensor:
        self.optimizer.zero_grad()
        return seen.kl + torch.dot(torch.nn.functional.softplus(self.w).square(), seen.c)

    def step(self) -> None:
        self.optimizer.step()  # the gradient in w came with that in the weights

    @property
    def multipliers(self) -> Tensor:
        return torch.nn.functional.softplus(self.w).square()


class Cooper(Contestant):
    """Cooper's projected gradient ascent from zero, or its nuPI where ``kp`` is given: the package itself."""

    def __init__(self, terms: Terms, rate: float, kp: float | None = None) -> None:
        cooper = _package("cooper", "cooper-optim")
        self.cmp_state = cooper.CMPState
        self.constraint_state = cooper.ConstraintState
        self.multiplier = cooper.multipliers.DenseMultiplier(num_constraints=len(terms.bound))
        self.constraint = cooper.Constraint(
            constraint_type=cooper.ConstraintType.INEQUALITY, multiplier=self.multiplier
        )
        weights = list(self.multiplier.to(terms.device).parameters())
        if kp is None:
            self.optimizer: Any = torch.optim.SGD(weights, lr=rate, maximize=True)
        else:
            self.optimizer = cooper.optim.nuPI(weights, lr=rate, Kp=torch.tensor(kp), maximize=True)
        self.dual: Tensor | None = None

    def loss(self, seen: Measured) -> Tensor:
        state = self.cmp_state(
            loss=seen.kl, observed_constraints={self.constraint: self.constraint_state(violation=seen.c)}
        )
        self.dual = state.compute_dual_lagrangian().lagrangian
        loss: Tensor = state.compute_primal_lagrangian().lagrangian
        return loss

    def step(self) -> None:
        assert self.dual is not None
        self.optimizer.zero_grad()
        self.dual.backward()
        self.optimizer.step()
        self.multiplier.post_step_()

    @property
    def multipliers(self) -> Tensor:
        weight: Tensor = self.multiplier.weight
        return weight


class MDMM(Contestant):
    """mdmm's MaxConstraint with its slack variable, multipliers and slacks moved by Adam as its make_optimizer does:
    the package itself."""

    def __init__(self, terms: Terms, rate: float, damping: float) -> None:
        mdmm = _package("mdmm", "mdmm")
        self.c = torch.zeros_like(terms.bound)
        parts = [
            mdmm.MaxConstraint(lambda row=row: self.c[row], max=0.0, damping=damping) for row in range(len(self.c))
        ]
        self.parts = parts
        self.lagrangian = mdmm.MDMM(parts).to(terms.device)
        self.optimizer = self.lagrangian.make_optimizer(
            [nn.Parameter(torch.zeros((), device=terms.device))], optimizer=torch.optim.Adam, lr=rate
        )

    def loss(self, seen: Measured) -> Tensor:
        self.c = seen.c
        self.optimizer.zero_grad()
        loss: Tensor = self.lagrangian(seen.kl).value
        return loss

    def step(self) -> None:
        self.optimizer.step()

    @property
    def multipliers(self) -> Tensor:
        return torch.stack([-part.lmbda for part in self.parts])


class ControlVAE(Contestant):
    """A PI controller in ControlVAE's manner, on the constraint: multiplier = kp sigmoid(C) + ki sum(C), at least zero,
    the sum at rest while the multiplier is at zero and C would press it further."""

    def __init__(self, terms: Terms, kp: float, ki: float) -> None:
        self.kp, self.ki = kp, ki
        self.integral = torch.zeros_like(terms.bound)
        self.c = torch.zeros_like(terms.bound)
        self._multipliers = torch.full_like(terms.bound, kp / 2)

    def loss(self, seen: Measured) -> Tensor:
        self.c = seen.c.detach()
        return seen.kl + torch.dot(self._multipliers, seen.c)

    def step(self) -> None:
        at_rest = (self._multipliers <= 0) & (self.c < 0)
        self.integral = self.integral + self.ki * self.c.masked_fill(at_rest, 0)
        self._multipliers = (self.kp * self.c.sigmoid() + self.integral).clamp(min=0)

    @property
    def multipliers(self) -> Tensor:
        return self._multipliers


@dataclass(frozen=True)
class Entry:
    """A contestant and its grid: ``make(terms, **setting)`` enters it into a run."""

    make: Callable[..., Contestant]
    grid: tuple[Setting, ...]


def _grid(**axes: Sequence[float | str]) -> tuple[Setting, ...]:
    return tuple(dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


PEERS: dict[str, Entry] = {
    "algorithm1": Entry(
        Algorithm1,
        _grid(scale=["relative"], nu=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2])
        + _grid(scale=["mean"], nu=[0.03, 0.1, 0.3, 1, 3])
        + _grid(scale=["sum"], nu=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2]),
    ),
    "genesis": Entry(
        Genesis,
        _grid(scale=["relative"], nu=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2])
        + _grid(scale=["sum"], nu=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2]),
    ),
    "softplus": Entry(
        SoftplusSquared,
        _grid(ascent=["sgd"], rate=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2])
        + _grid(ascent=["adam"], rate=[1e-3, 3e-3, 1e-2, 3e-2, 0.1]),
    ),
    "cooper": Entry(Cooper, _grid(rate=[3e-3, 1e-2, 3e-2, 0.1, 0.3, 1])),
    "nupi": Entry(Cooper, _grid(rate=[3e-3, 1e-2, 3e-2, 0.1, 0.3], kp=[0.1, 0.3, 1, 3, 10, 30])),
    "mdmm": Entry(MDMM, _grid(rate=[3e-3, 1e-2, 3e-2, 0.1, 0.3, 1], damping=[1, 10, 100, 1e3, 1e4])),
    "controlvae": Entry(ControlVAE, _grid(kp=[1, 3, 10, 30, 100], ki=[3e-3, 1e-2, 3e-2, 0.1, 0.3, 1])),
}
"""The peers. A grid whose best setting lies at its edge is extended there."""

OURS: dict[str, str | Rule | None] = {"bridle": None}
"""Our rules by the contestant's name, None for the default: what an ablation adds to."""


def ours(rule: str | Rule | None, start: float = 1.0) -> Entry:
    """A rule of ours as a contestant, with a checksum of how it moves multipliers for its one setting."""
    return Entry(lambda terms, moves: Ours(terms, rule, start), ({"moves": _fingerprint(rule, start)},))


def _fingerprint(rule: str | Rule | None, factor: float) -> str:
    """Eight letters that change when the rule moves multipliers otherwise: rows of another rule are not ours."""
    bounds = {"c": Constraint(upper=torch.ones(3))}
    geco = GECO(bounds) if rule is None else GECO(bounds, rule=rule)
    steps = torch.arange(-300, 900)
    # Nothing learned, learning, a bound just met, noise, an overshoot, slack, a violation anew.
    eventful = (
        1
        + 4 * (-steps.clamp_min(0) / 60).exp()
        + 0.1 * (steps * 2.4).sin()
        - 0.6 * (steps // 150 == 2)
        + 1.0 * (steps >= 500)
    )
    far_but_falling = 1 + 300 * (-(steps + 300) / 200).exp()
    standing = torch.full_like(eventful, 4)
    moved = []
    for step, values in enumerate(torch.stack((eventful, far_but_falling, standing), dim=1), start=1):
        geco(torch.zeros(()), c=values)
        geco.step()
        if step % 50 == 0:  # and few digits: rounding differs between processors
            moved += [f"{multiplier:.3g}" for multiplier in geco.multipliers()["c"].tolist()]
    start = factor * RE(0.1).bound((1, 8, 8)).initial
    return f"{crc32(f'{start} {moved}'.encode()):08x}"


CONTESTANTS: dict[str, Entry] = {name: ours(rule) for name, rule in OURS.items()} | PEERS
"""Every contestant with a rule, by name."""

WITHOUT_RULE = ("by_hand", "oracle", "error_alone")
"""Those without one, whose multipliers do not move within a training: see ``by_hand.py``, ``oracle.py``, README.md."""


def setting_name(setting: Setting) -> str:
    """A setting as one word of a file.

    Example:
        >>> setting_name({"scale": "sum", "nu": 1e-3})
        'scale=sum,nu=0.001'
    """
    return ",".join(
        f"{key}={value if isinstance(value, str) else format(value, 'g')}" for key, value in setting.items()
    )


def edges(setting: Setting, grid: Sequence[Setting]) -> list[str]:
    """The axes on whose edge a setting of the grid lies, among those that differ from it in that axis alone.

    Example:
        >>> grid = [{"scale": "sum", "nu": nu} for nu in (1e-3, 1e-2, 1e-1)]
        >>> edges(grid[0], grid), edges(grid[1], grid)
        (['nu'], [])
    """
    at = []
    for axis, value in setting.items():
        others = [s for s in grid if s.keys() == setting.keys() and all(s[k] == setting[k] for k in s if k != axis)]
        values = [s[axis] for s in others]
        if len(values) > 1 and not isinstance(value, str) and value in (min(values), max(values)):
            at.append(axis)
    return at


def _scale(terms: Terms, scale: str) -> Tensor:
    """What the relative C is multiplied by to be the difference from the bound, as a mean or a sum over pixels."""
    match scale:
        case "relative":
            return torch.ones_like(terms.bound)
        case "mean":
            return terms.bound
        case _:
            return terms.bound * terms.summed


def _averaged(average: Tensor | None, c: Tensor) -> Tensor:
    """The moving average with the decay of all published code, 0.99, from the first value on."""
    return c.detach() if average is None else torch.lerp(c.detach(), average, 0.99)


def _package(name: str, distribution: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise ConfigError(f"contestant {name} needs a package: pip install {distribution}") from None
