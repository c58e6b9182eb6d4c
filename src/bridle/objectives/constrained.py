"""The paper's objective: the least rate under constraints on reconstructions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from bridle.constraints import KL, ImageConstraint, Reconstruction
from bridle.geco import GECO, Constraint, Rule
from bridle.objectives.base import Stand
from bridle.objectives.lagrangian import LagrangianObjective

__all__ = ["ConstrainedObjective"]


class ConstrainedObjective(LagrangianObjective):
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

    def __init__(
        self, constraints: Sequence[ImageConstraint], bounds: Mapping[str, Constraint], rule: str | Rule = "pi"
    ) -> None:
        super().__init__(constraints, GECO(bounds, rule=rule), {c.name: c.limits for c in constraints})
        self._rate_bound = any(isinstance(c, KL) for c in constraints)

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

    def stands(self) -> list[Stand]:
        multipliers, verdicts = self.geco.multipliers(), self.judge.verdicts()
        return [
            Stand(t, multipliers[t.name].mean().item(), self.geco.constraints[t.name].scale, verdicts[t.name])
            for t in self.terms()
        ]

    def value(self, term: ImageConstraint, means: dict[str, Tensor]) -> Tensor:
        return term.worst(means[f"{term.name}.measured"])

    def warnings(self, bin: float) -> Iterator[str]:
        yield from (warning for term in self.terms() if (warning := term.warning(bin)) is not None)


def _distortion(mse: Tensor, dimensions: int) -> Tensor:
    """Gaussian negative log-likelihood of an image at the best sigma, nats, up to a constant."""
    # An error of 1e-4 is well below the rounding of 8-bit pixels; without it a perfect batch would be minus infinity.
    return dimensions / 2 * (mse + 1e-8).log()
