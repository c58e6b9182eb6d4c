"""The paper's objective: the least rate under constraints on reconstructions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bridle.constraints import KL, ImageConstraint, Reconstruction
from bridle.geco import GECO, Constraint, Rule
from bridle.judge import Judge
from bridle.objectives.base import Objective, Stand

__all__ = ["ConstrainedObjective"]


class ConstrainedObjective(Objective):
    r"""GECO: minimise the KL subject to constraints (equation 2).

    With the constraint ``kl`` the problem is turned round, and the distortion is minimised:
    :math:`\frac D2 \log(\mathrm{mse})`, D the number of dimensions of an image. Up to a constant that is the Gaussian
    negative log-likelihood in nats at its best sigma, the root of the mean squared error itself (equation 3). So rate
    and distortion have one unit, whatever the scale of the errors: the multiplier over kappa is the beta of a
    beta-VAE with learned sigma, and 1 where the constraint holds by itself. The plain error would need a multiplier
    that falls with it, by the square of its scale.

    Arguments:
        constraints: What is constrained; names must differ.
        bounds: For each constraint by name its bound; what the constraint itself says, unless a setting differs.
        rule: How the multipliers move.

    Example:
        >>> from bridle.constraints import RE
        >>> re = RE(0.1)
        >>> objective = ConstrainedObjective([re], {"re": re.bound((1, 8, 8))})
        >>> objective.geco.multipliers()["re"]
        tensor(1.)
    """

    name = "geco"

    def __init__(
        self, constraints: Sequence[ImageConstraint], bounds: Mapping[str, Constraint], rule: str | Rule = "pi"
    ) -> None:
        super().__init__()
        self._rate_bound = any(isinstance(c, KL) for c in constraints)
        self.constraints = nn.ModuleDict({c.name: c for c in constraints})
        self.geco = GECO(bounds, rule=rule)
        self.judge = Judge(self.geco, {c.name: c.limits for c in constraints})

    def loss(
        self, r: Reconstruction, kl: Tensor, mse: Tensor, held_out: Reconstruction | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
        metrics = {}
        for constraint in self.terms():
            name = constraint.name
            value = constraint.measure(r)
            measured = value.detach() if held_out is None else constraint.measure(held_out).detach()
            values[name] = value if held_out is None else (value, measured)
            metrics[f"{name}.measured"] = measured
        minimised = _distortion(mse, math.prod(r.x.shape[1:])) if self._rate_bound else kl
        out = self.geco(minimised, weight=len(r.x), **values)
        return out.loss, metrics

    def step(self, skip: bool | Tensor | None = None) -> None:
        self.geco.step(skip)
        self.judge.step()

    def stands(self) -> list[Stand]:
        multipliers, verdicts = self.geco.multipliers(), self.judge.verdicts()
        return [
            Stand(t, multipliers[t.name].mean().item(), self.geco.constraints[t.name].scale, verdicts[t.name])
            for t in self.terms()
        ]

    def finished(self) -> bool:
        return bool(self.judge.finished())

    def terms(self) -> Iterator[ImageConstraint]:
        """The constraints, in their order."""
        for term in self.constraints.values():
            yield cast(ImageConstraint, term)

    def warnings(self, bin: float) -> Iterator[str]:
        yield from (warning for term in self.terms() if (warning := term.warning(bin)) is not None)

    def columns(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        columns = super().columns(means)
        metrics, states = self.geco.metrics(), self.judge.codes()
        for term in self.terms():
            value = means[f"{term.name}.measured"]
            columns[f"{term.name}.value"] = worst = term.worst(value)
            columns[f"{term.name}.kappa"] = torch.full_like(worst, term.kappa)
            for part in ("multiplier", "violation", "nonfinite"):
                columns[f"{term.name}.{part}"] = metrics[f"{term.name}/{part}"]
            columns[f"{term.name}.state"], columns[f"{term.name}.settled_at"] = states[term.name]
        return columns


def _distortion(mse: Tensor, dimensions: int) -> Tensor:
    """Gaussian negative log-likelihood of an image at the best sigma, nats, up to a constant."""
    # An error of 1e-4 is well below the rounding of 8-bit pixels; without it a perfect batch would be minus infinity.
    return dimensions / 2 * (mse + 1e-8).log()
