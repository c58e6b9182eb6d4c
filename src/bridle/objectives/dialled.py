"""The paper's objective over a dial: the least rate at each kappa of a range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bridle.constraints import ImageConstraint, Reconstruction
from bridle.dial import Dial, DialledGECO
from bridle.geco import Constraint, Rule
from bridle.judge import Limits
from bridle.objectives.base import Stand
from bridle.objectives.lagrangian import LagrangianObjective

__all__ = ["DialledObjective"]


class DialledObjective(LagrangianObjective):
    """GECO over a dial: minimise the KL subject to constraints whose kappa differs between images.

    Each image's value is divided by the bound at its own kappa, so that all images of a batch see the same constraint,
    a ratio of at most 1. A constraint whose kappa has no range takes part with the one that it has; its multiplier is a
    function of the others' kappas all the same.

    What is shown while it trains is told for the middle of the ranges: the value is the worst point's share of its
    bound in kappa's units there, of the points that small batches have images for; the multiplier is the mean over the
    points.

    Arguments:
        constraints: What is constrained, each at the middle of its range; names must differ.
        bounds: For each constraint by name its bound there; what the constraint itself says, unless a setting differs.
        dial: The ranges.
        rule: How the multipliers move.

    Example:
        >>> from bridle.constraints import RE
        >>> dial = Dial({"re": (0.05, 0.2)}, points=3)
        >>> re = RE(dial.middle["re"])
        >>> objective = DialledObjective([re], {"re": re.bound((1, 8, 8))}, dial)
        >>> objective.geco.multipliers()["re"]
        tensor([1., 1., 1.])
    """

    geco: DialledGECO

    def __init__(
        self,
        constraints: Sequence[ImageConstraint],
        bounds: Mapping[str, Constraint],
        dial: Dial,
        rule: str | Rule = "pi",
    ) -> None:
        relative = {name: replace(bound, upper=torch.ones(bound.shape)) for name, bound in bounds.items()}
        kappas = dial.kappas(dial.grid())
        super().__init__(
            constraints,
            DialledGECO(relative, dial, rule=rule),
            {c.name: _limits(c, kappas.get(c.name), bounds[c.name].shape.numel()) for c in constraints},
        )
        self.dial = dial

    def loss(
        self, r: Reconstruction, kl: Tensor, mse: Tensor, held_out: Reconstruction | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert r.position is not None
        kappas = self.dial.kappas(r.position)
        values: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
        for term in self.terms():
            value = _over_bound(term, term.each(r), kappas)
            if held_out is None:
                values[term.name] = value
            else:
                values[term.name] = value, _over_bound(term, term.each(held_out), kappas)
        out = self.geco(r.kl, position=r.position, **values)
        return out.loss, {f"{name}.ratio": 1 + c for name, c in out.violations.items()}

    def stands(self) -> list[Stand]:
        middle = self.dial.middle
        return self.stands_at(middle, self.dial.position(middle))

    def stands_at(self, kappas: Mapping[str, float], position: Tensor) -> list[Stand]:
        """Where each constraint stands at one kappa for each range, which is met at a position, shape ``(1, ranges)``.
        Verdicts are those of the whole range: its worst point's. Waits for the device.
        """
        multipliers, verdicts = self.geco.multipliers_at(position), self.judge.verdicts()
        return [
            Stand(
                term.at(kappas.get(term.name, term.kappa)),
                multipliers[term.name].mean().item(),
                self.geco.constraints[term.name].scale,
                verdicts[term.name],
            )
            for term in self.terms()
        ]

    def value(self, term: ImageConstraint, means: dict[str, Tensor]) -> Tensor:
        ratios = means[f"{term.name}.ratio"].nan_to_num(nan=-math.inf, posinf=math.inf)
        worst: Tensor = term.in_kappa_units(ratios.max() * term.measured_at(term.kappa))
        return worst

    def warnings(self, bin: float) -> Iterator[str]:
        for term in self.terms():
            tightest, _ = self.dial.ranges.get(term.name, (term.kappa, term.kappa))
            if (warning := term.at(tightest).warning(bin)) is not None:
                yield warning


def _over_bound(term: ImageConstraint, each: Tensor, kappas: Mapping[str, Tensor]) -> Tensor:
    """Each image's values over its bound: what is measured at its kappa."""
    if term.name not in kappas:
        return each / term.measured_at(term.kappa)
    bound = term.measured_at(kappas[term.name])
    return each / (bound if each.dim() == 1 else bound.view(-1, *[1] * (each.dim() - 1)))


def _limits(term: ImageConstraint, kappas: Tensor | None, elements: int) -> Limits:
    """What the judge asks of a constraint (see :class:`bridle.Judge`), for values over their bound.

    Arguments:
        term: The constraint.
        kappas: At the points of the dial, shape ``(points,)``; None where it has no range.
        elements: Of the constraint's vector.
    """

    def limits(share: float) -> tuple[Tensor, Tensor]:
        at = torch.tensor([term.kappa]) if kappas is None else kappas
        bound = term.measured_at(at)
        ends = [term.measured_at((1 + sign * share) * at) / bound for sign in (-1, 1)]
        # In the order of GECO's rows: all points of one element, then those of the next.
        least, greatest = (end.repeat(elements) if kappas is not None else end for end in ends)
        return least, greatest

    return limits
