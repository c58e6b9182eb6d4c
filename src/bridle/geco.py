"""GECO: minimise an objective subject to constraints whose bounds a person can read.

The Lagrangian of *Taming VAEs* (Rezende and Viola, 2018), equation 2, is
``objective + sum(multiplier * C)`` with one positive multiplier for each bound. Algorithm 1 moves the logarithm
of every multiplier by a moving average of its constraint ``C``. Because the average enters the loss only behind a
stop-gradient, the gradient in the model's parameters is ``multiplier * grad C`` whatever the average is, so the
multiplier may be moved *after* the optimizer's step. That is what makes two phases possible:

    out = geco(kl, re=mse)                 # pure: a loss, and detached numbers
    out.loss.backward()
    optimizer.step()
    geco.step()                            # the only call that moves a multiplier or an average

Everything below works on flat vectors with one entry, a *row*, for each one-sided bound: a scalar constraint has one
row, a vector constraint one row an element, an interval or an equality two rows an element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

__all__ = ["GECO", "RULES", "Constraint", "GECOOutput", "RowSettings", "Rule", "algorithm1", "pi"]

# exp() of these still fits float32, so a multiplier without bounds can be large but never infinite.
_LOG_RANGE = (-87.0, 88.0)


@dataclass(frozen=True, eq=False)
class Constraint:
    """A bound on a value, and how the multiplier that enforces it moves.

    Give ``upper``, ``lower``, both (an interval) or ``equal``. A bound is a number, or a tensor for a vector
    constraint (one multiplier an element: per channel, per class); the value passed to :class:`GECO` has exactly
    its shape.

    Arguments:
        upper: The value may be at most this, in the value's own units.
        lower: The value must be at least this.
        equal: The value must be this.
        scale: What ``C``, the number that the multiplier multiplies, is. ``relative``: ``value / bound - 1`` for an
            upper bound, ``1 - value / bound`` for a lower one, divided by ``|bound|`` in general and by the half-width
            for an interval, so that rates and multipliers have no units. ``absolute``: ``value - bound``, as the paper
            prints it. A bound of zero must be absolute.
        initial: The multiplier before the first step, in nats per unit of ``C`` when the objective is in nats.
        rate: Change of ``log(multiplier)`` per step and unit of ``C``; ``None`` takes the rule's own.
        alpha: Decay of the moving average per step, in [0, 1). 0 switches the average off.
        bounds: The least and the greatest multiplier; ``None`` for none.
        max_log_step: The greatest change of ``log(multiplier)`` in one step; ``None`` for no limit.

    Raises:
        ValueError: No bound or contradictory ones, a bound that is not finite, a zero bound that is relative, or a
            setting out of its range.

    Example:
        >>> Constraint(upper=0.01)               # mean squared error of at most 0.1 squared
        Constraint(upper=0.01)
        >>> Constraint(lower=0.9, upper=1.1)     # an interval
        Constraint(upper=1.1, lower=0.9)
    """

    upper: float | Tensor | None = None
    lower: float | Tensor | None = None
    equal: float | Tensor | None = None
    scale: Literal["relative", "absolute"] = "relative"
    initial: float = 1.0
    rate: float | None = None
    alpha: float = 0.99
    bounds: tuple[float, float] | None = (1e-6, 1e6)
    max_log_step: float | None = 1.0

    def __post_init__(self) -> None:
        given = {k: _as_float32(v) for k in ("upper", "lower", "equal") if (v := getattr(self, k)) is not None}
        if not given:
            raise ValueError("a Constraint needs a bound: upper, lower, both (an interval) or equal")
        if "equal" in given and len(given) > 1:
            raise ValueError("a Constraint is either equal, or upper and/or lower, not both")
        if len({tuple(b.shape) for b in given.values()}) > 1:
            raise ValueError(f"lower has shape {tuple(given['lower'].shape)}, upper {tuple(given['upper'].shape)}")
        for side, bound in given.items():
            if not bool(torch.isfinite(bound).all()):
                raise ValueError(f"the {side} bound must be finite in float32, got {_one_line(getattr(self, side))}")
        if len(given) == 2 and not bool((given["lower"] < given["upper"]).all()):
            lower, upper = _one_line(self.lower), _one_line(self.upper)
            raise ValueError(f"the lower bound {lower} must be below the upper bound {upper}, in float32")
        if self.scale not in ("relative", "absolute"):
            raise ValueError(f"scale is 'relative' or 'absolute', got {self.scale!r}")
        if self.scale == "relative" and len(given) == 1 and bool((next(iter(given.values())) == 0).any()):
            raise ValueError("a bound of zero has no relative scale: use scale='absolute'")
        if not (self.initial > 0 and _LOG_RANGE[0] <= math.log(self.initial) <= _LOG_RANGE[1]):
            raise ValueError(f"initial must be positive and well within float32, got {self.initial}")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate must be positive and finite, got {self.rate}")
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha must be in [0, 1), got {self.alpha}")
        if self.bounds is not None and not 0 < self.bounds[0] <= self.initial <= self.bounds[1]:
            raise ValueError(f"bounds must satisfy 0 < least <= initial <= greatest, got {self.bounds}, {self.initial}")
        if self.max_log_step is not None and not self.max_log_step > 0:
            raise ValueError(f"max_log_step must be positive, got {self.max_log_step}")

    @property
    def shape(self) -> torch.Size:
        """Shape of the bound, and so of the value."""
        return next(torch.as_tensor(b).shape for b in (self.upper, self.lower, self.equal) if b is not None)

    def sides(self) -> list[tuple[float, Tensor, Tensor]]:
        """One-sided bounds as (sign, bound, unit), so that ``C = sign * (value - bound) / unit <= 0``."""
        if self.equal is not None:
            one_sided = [(1.0, self.equal), (-1.0, self.equal)]
        else:
            one_sided = [(s, b) for s, b in ((1.0, self.upper), (-1.0, self.lower)) if b is not None]
        bounds = [(sign, _as_float32(bound).reshape(-1)) for sign, bound in one_sided]
        if self.scale == "absolute":
            return [(sign, bound, torch.ones_like(bound)) for sign, bound in bounds]
        if self.equal is None and len(bounds) == 2:
            half_width = (bounds[0][1] - bounds[1][1]) / 2
            return [(sign, bound, half_width) for sign, bound in bounds]
        return [(sign, bound, bound.abs()) for sign, bound in bounds]

    def __repr__(self) -> str:
        changed = (f"{f.name}={v!r}" for f in fields(self) if (v := getattr(self, f.name)) is not f.default)
        return f"Constraint({', '.join(changed)})"


def _as_float32(bound: float | Tensor) -> Tensor:
    return torch.as_tensor(bound, dtype=torch.float32, device="cpu").detach()


def _one_line(bound: float | Tensor | None, most: int = 60) -> str:
    text = " ".join(str(bound).split())
    return text if len(text) <= most else f"{text[:most]}..."


class RowSettings(NamedTuple):
    """The settings of all rows, one entry a row; a rule may read them."""

    rate: Tensor
    alpha: Tensor
    bound: Tensor
    per_unit: Tensor
    log_initial: Tensor
    log_least: Tensor
    log_greatest: Tensor
    max_log_step: Tensor


State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """How multipliers move.

    Arguments:
        update: ``update(state, c, settings)`` returns the new ``log_multiplier``, ``average`` and further registers
            from their old values, the constraint ``c`` (all of shape ``(rows,)``) and the :class:`RowSettings`, whose
            ``alpha`` is zero at the first step, so that averages start at the first value. It must not branch on a
            tensor. The limits of a constraint (``bounds``, ``max_log_step``) are applied to what it returns.
        rate: The default of ``Constraint.rate``.
        registers: Names of what it keeps beside ``log_multiplier`` and ``average``; each starts at zero.
    """

    update: Callable[[State, Tensor, RowSettings], dict[str, Tensor]]
    rate: float
    registers: tuple[str, ...] = ()


def algorithm1(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    """The paper's Algorithm 1: ``log(multiplier)`` moves in proportion to the moving average of ``C``."""
    average = torch.lerp(c, state["average"], settings.alpha)
    return {"average": average, "log_multiplier": state["log_multiplier"] + settings.rate * average}


_FAR = 0.15  # of the error asinh(C): a value 15% off its bound
_LASTS = 100.0  # steps after which an error that keeps its sign moves the multiplier faster
_HEAD_START = 30.0  # steps in which a multiplier may double
_DEAR = math.log(64)  # of a multiplier over its start: twice the price of a constraint that starts at 1/32 of it
_TOO_DEAR = math.log(256)  # eight times that price
_SOON = math.log(4)  # of the steps: in four times those so far
_PATIENCE = 1000.0  # steps that a model may take before its error begins to fall
_STANDS = 0.2  # the share of the error below which a fall, in e-fold time, is none


def pi(state: State, c: Tensor, settings: RowSettings) -> dict[str, Tensor]:
    """A proportional-integral controller of ``log(multiplier)`` on the error ``e = asinh(C)``, patient while it learns.

    ``e`` is that of an average five times shorter than the paper's, and t the steps since its sign changed. The change
    is ``rate * e``, with ``e`` clipped to [-1, 1], and ``p - previous p``, with ``p`` the same clipped to
    [-0.15, 0.15]. From t = 100 on the first part is t / 100 times as large: an error that lasts is no noise, and after
    an overshoot the multiplier may have far to fall. Above the start, and while the bound is violated, it is at most
    ``k / (t + 30)``. k is 1, so that the multiplier grows no faster than time: pressed harder, a model that has yet to
    learn takes up latents that it hardly gives back later, and the overshoot is paid for in rate. Two exceptions where
    ``e`` is above 0.15:

    - k is 0 where ``multiplier * (1 + C)``, what a value pays that falls e-fold, is above 64 times the start, and the
      error falls at a pace, while t grows e-fold, at which it is zero in four times the steps: it gets there by itself.
      Above 256 times the start a pace of ``e / 5`` is enough: there the model is what takes its time.
    - k is 3 after 1,000 steps where the pace is below ``e / 5``: then a greater multiplier is what is missing.
    """
    average = torch.lerp(c, state["average"], settings.alpha)
    recent = torch.lerp(c, state["recent"], settings.alpha**5)
    error = recent.asinh()
    near = error.clamp(-_FAR, _FAR)
    steps = (state["steps"] + 1).masked_fill(near * state["near"] <= 0, 0)
    # An average over a quarter of those steps, so that its distance tells the pace at any of them.
    lag = 80 + steps / 4
    trail = torch.where(steps == 0, error, torch.lerp(state["trail"], error, 1 / lag))
    time = steps + _HEAD_START
    pace = (trail - error) * time / lag
    above = state["log_multiplier"] - settings.log_initial
    far = error > _FAR
    stands = pace < _STANDS * error
    patient = torch.where(pace * _SOON > error, _DEAR, _TOO_DEAR)
    waits = far & ~stands & (above + recent.clamp_min(0).log1p() > patient)
    stuck = far & stands & (steps > _PATIENCE)
    limit = ((1 + 2 * stuck) / time).masked_fill(waits, 0).masked_fill(above < 0, math.inf)
    integral = (settings.rate * (steps / _LASTS).clamp_min(1) * error.clamp(-1, 1)).minimum(limit)
    return {
        "average": average,
        "recent": recent,
        "near": near,
        "steps": steps,
        "trail": trail,
        "log_multiplier": state["log_multiplier"] + integral + (near - state["near"]),
    }


RULES: dict[str, Rule] = {
    "pi": Rule(pi, rate=0.03, registers=("recent", "near", "steps", "trail")),
    "algorithm1": Rule(algorithm1, rate=1e-3),
}


class GECOOutput(NamedTuple):
    """What one call of :class:`GECO` gives; all but ``loss`` is detached.

    ``loss`` is what to differentiate; ``objective`` what was passed in; ``lagrangian`` is
    ``objective + sum(multiplier * C_t)``, a number to look at, no selection metric (its multipliers move);
    ``violations`` maps each constraint to this batch's ``C``, in the constraint's scale and shape, above zero where it
    is violated (for an interval or an equality, that of the nearer bound).
    """

    loss: Tensor
    objective: Tensor
    lagrangian: Tensor
    violations: dict[str, Tensor]


class _Block(NamedTuple):
    """Where a constraint's rows lie in the flat vectors."""

    name: str
    shape: torch.Size
    sides: int
    rows: slice


class GECO(nn.Module):
    r"""Minimises an objective subject to named constraints (Algorithm 1 of the paper, or another rule).

    The loss of a call is :math:`f + \sum_i \lambda_i C^t_i` with
    :math:`C^t = C + \mathrm{stopgrad}(C_{ma} - C)`.

    Calling it is pure: it moves no multiplier and no average, and in training mode with gradients enabled it stages
    the detached values for the next :meth:`step`. Several calls before a step (gradient accumulation) and several
    ranks are averaged by ``weight``. In eval mode, or under ``no_grad``, nothing is staged. Whatever is staged is not
    part of ``state_dict``.

    Arguments:
        constraints: Name to :class:`Constraint`. A name is a Python identifier, since values are passed by keyword.
        rule: ``"pi"`` (the default), ``"algorithm1"`` (the paper's, as printed), or a :class:`Rule`.

    Raises:
        ValueError: No constraint, an unusable name, or an unknown rule.

    References:
        Taming VAEs (Rezende and Viola, 2018), equation 2 and Algorithm 1.

    Example:
        >>> weight = torch.tensor(5.0, requires_grad=True)     # least w^2 subject to w >= 2
        >>> geco = GECO({"floor": Constraint(lower=2.0)})
        >>> optimizer = torch.optim.Adam([weight], lr=0.05)
        >>> for _ in range(2000):
        ...     optimizer.zero_grad()
        ...     geco(weight**2, floor=weight).loss.backward()
        ...     optimizer.step()
        ...     geco.step()
        >>> round(weight.item(), 2), round(geco.multipliers()["floor"].item(), 1)   # 2w = multiplier / 2
        (2.0, 8.0)

        The paper's rule exactly as printed:

        >>> paper = Constraint(upper=0.01, scale="absolute", bounds=None, max_log_step=None)
        >>> geco = GECO({"re": paper}, rule="algorithm1")
    """

    state: Tensor
    nonfinite: Tensor
    settings: RowSettings

    def __init__(self, constraints: Mapping[str, Constraint], *, rule: str | Rule = "pi") -> None:
        super().__init__()
        if not constraints:
            raise ValueError("GECO needs at least one constraint, such as {'re': Constraint(upper=0.1**2)}")
        for name in constraints:
            if not name.isidentifier() or name in ("objective", "weight", "self"):
                raise ValueError(f"{name!r} cannot name a constraint: use an identifier other than objective, weight")
        if isinstance(rule, str):
            if rule not in RULES:
                raise ValueError(f"unknown rule {rule!r}: there are {', '.join(RULES)}")
            rule = RULES[rule]
        self.constraints = dict(constraints)
        self.rule = rule
        # decay is alpha from the first step on, and zero before it, so that averages start at the first value.
        self._registers = ("log_multiplier", "average", "decay", *rule.registers)

        self._blocks: list[_Block] = []
        initial: list[Tensor] = []
        settings: list[RowSettings] = []
        start = 0
        for name, constraint in self.constraints.items():
            sides = constraint.sides()
            for sign, bound, unit in sides:
                settings.append(_row_settings(constraint, rule, sign, bound, unit))
                initial.append(torch.full_like(bound, math.log(constraint.initial)))
            rows = sum(bound.numel() for _, bound, _ in sides)
            self._blocks.append(_Block(name, constraint.shape, len(sides), slice(start, start + rows)))
            start += rows
        self._rows = start
        self._scalars = all(not block.shape for block in self._blocks)

        self.register_buffer("state", torch.zeros(len(self._registers), self._rows))
        self.state[0] = torch.cat(initial)
        self.register_buffer("nonfinite", torch.zeros(self._rows))
        # The weighted sums of C (one a row) and of the objective; after them the sum of the weights, or one for each of
        # these. No buffer: DistributedDataParallel would overwrite every rank's with those of rank 0.
        self._staged = torch.zeros(self._rows + 2)
        self._one = torch.ones(1)
        self._seen = torch.zeros(self._rows + 1)
        self.settings = RowSettings(*(torch.cat(rows).to(self.state.device) for rows in zip(*settings, strict=True)))

    def forward(
        self, objective: Tensor, *, weight: float | Tensor | None = None, **values: Tensor | tuple[Tensor, Tensor]
    ) -> GECOOutput:
        """The loss of a batch. Pure, but for what it stages for :meth:`step`.

        Arguments:
            objective: What to minimise, 0-dimensional, averaged over the batch (the KL in nats, say).
            weight: How many examples the batch holds. Only ratios matter: over accumulated calls and over ranks.
            values: For each constraint its value, averaged over the batch, in exactly its bound's shape; or a pair
                ``(differentiable, measured)``, whose first gives the gradient and whose second moves the multiplier.

        Raises:
            ValueError: A constraint's value is missing, unknown, or of another shape than its bound.
        """
        if objective.dim() != 0:
            raise ValueError(f"the objective must be 0-dimensional (average it), got shape {tuple(objective.shape)}")
        if isinstance(weight, Tensor) and weight.dim() != 0:
            raise ValueError(f"weight must be a number or 0-dimensional, got shape {tuple(weight.shape)}")
        value, measured = self._collect(values)
        settings, stage = self.settings, self.training and torch.is_grad_enabled()

        with torch.no_grad():
            c = (measured - settings.bound) * settings.per_unit
            log_multiplier, average, decay = self.state.unbind()[:3]
            multiplier = log_multiplier.exp()
            # multiplier * C_t is linear in the value, with this slope: only that part needs a graph.
            slope = multiplier * settings.per_unit
            moved = torch.lerp(c, average, decay)
            offset = torch.dot(multiplier, moved) - torch.dot(slope, value.detach())
            if stage:
                batch = torch.cat((c, objective.detach().float().reshape(1), self._one))
                self._staged.add_(batch if weight is None else batch * weight)
        lagrangian = objective + (torch.dot(slope, value) + offset)
        return GECOOutput(lagrangian, objective.detach(), lagrangian.detach(), self.by_name(c, torch.amax))

    @torch.no_grad()
    def step(self, skip: bool | Tensor | None = None) -> None:
        """Moves every multiplier and average once, by what was staged since the last call.

        Call it once for each step of the optimizer. It reads nothing back to the host. A batch with a NaN or an
        infinity anywhere leaves everything untouched and is counted (``nonfinite`` in :meth:`metrics`). In eval mode,
        or when nothing was staged, it does nothing. Over several ranks what was staged is summed by one small
        ``all_reduce``, so every rank must call it equally often.

        Arguments:
            skip: True, or a tensor above zero (a GradScaler's ``found_inf``), when the optimizer skipped its step: what
                was staged is dropped. If one rank skips, all do.
        """
        if not self.training:
            return
        staged = self._staged
        total, weight = staged[: self._rows + 1], staged[self._rows + 1 :]
        if skip is not None:  # a weight of minus infinity outweighs whatever other ranks staged
            skipped = torch.as_tensor(skip, device=staged.device).reshape(()) != 0
            weight.masked_fill_(skipped, -math.inf)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(staged)
        probe = total * 0  # 0 where the sum is finite, NaN elsewhere: cheaper than isfinite()
        move = probe.sum() + weight > 0
        seen = torch.where(move, total / weight, self._unseen())
        c = seen[:-1]

        old, settings = self.state, self.settings
        registers = dict(zip(self._registers, old.unbind(), strict=True))
        new = self.rule.update(registers, c, settings._replace(alpha=registers["decay"]))
        new["decay"] = settings.alpha
        log_multiplier, limit = registers["log_multiplier"], settings.max_log_step
        limited = new["log_multiplier"].clamp(log_multiplier - limit, log_multiplier + limit)
        new["log_multiplier"] = limited.clamp(settings.log_least, settings.log_greatest)
        rows_move = move.expand(self._rows + 1)[:-1]
        self.state.copy_(torch.where(rows_move, torch.stack([new[name] for name in self._registers]), old))
        self.nonfinite.add_(probe[:-1] + probe[-1] != 0)
        self._seen.copy_(seen)
        staged.zero_()

    def _unseen(self) -> Tensor:
        """What stands in :attr:`seen` for rows that a step saw nothing of."""
        return self._seen

    @property
    def seen(self) -> Tensor:
        """What the last step moved the multipliers by: ``C``, one entry a row, and after them the objective; shape
        ``(rows + 1,)``, zero before the first step."""
        return self._seen

    def multipliers(self) -> dict[str, Tensor]:
        """Each constraint's multiplier, in its bound's shape and scale: what multiplies ``C`` in the Lagrangian.

        For an interval or an equality it is the difference of its two: above zero, it presses the value down.
        """
        return self.by_name(self.state[0].exp(), lambda pair, dim: pair[0] - pair[1])

    def metrics(self) -> dict[str, Tensor]:
        """0-dimensional tensors, none of them read back: for each constraint ``name/multiplier`` (its mean over a
        vector's elements), ``name/violation`` (the moving average of ``C``, its greatest element) and
        ``name/nonfinite`` (batches left out because this value, or the objective, was not finite)."""
        multipliers = self.multipliers()
        metrics = {}
        for block in self._blocks:
            metrics[f"{block.name}/multiplier"] = multipliers[block.name].mean()
            metrics[f"{block.name}/violation"] = self.state[1, block.rows].max()
            metrics[f"{block.name}/nonfinite"] = self.nonfinite[block.rows].max()
        return metrics

    def extra_repr(self) -> str:
        return ", ".join(f"{name}: {constraint!r}" for name, constraint in self.constraints.items())

    def _collect(self, values: Mapping[str, Tensor | tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        self._refuse_others(values)
        differentiable: list[Tensor] = []
        measured: list[Tensor] = []
        for block in self._blocks:
            value = values[block.name]
            pair = value if isinstance(value, tuple) else (value, value)
            for part, out in zip(pair, (differentiable, measured), strict=True):
                if part.shape != block.shape:
                    raise ValueError(
                        f"the value of {block.name!r} has shape {tuple(part.shape)}, its bound {tuple(block.shape)}: "
                        "average it over the batch, to exactly the bound's shape"
                    )
                out.extend([part if self._scalars else part.reshape(-1)] * block.sides)
        join = torch.stack if self._scalars else torch.cat
        flat = join(differentiable).float()
        if not any(isinstance(value, tuple) for value in values.values()):
            return flat, flat.detach()
        return flat, join(measured).detach().float()

    def _refuse_others(self, values: Mapping[str, object]) -> None:
        if values.keys() != self.constraints.keys():
            expected, given = ", ".join(self.constraints), ", ".join(values) or "none"
            raise ValueError(f"GECO needs the values of exactly its constraints ({expected}), got {given}")

    def by_name(self, rows: Tensor, combine: Callable[..., Tensor]) -> dict[str, Tensor]:
        """What is known of each row, by constraint and in its bound's shape.

        Arguments:
            rows: Shape ``(rows,)``.
            combine: ``combine(pair, dim=0)`` makes one of the two of an interval or an equality.
        """
        result = {}
        parts = rows.split([block.rows.stop - block.rows.start for block in self._blocks])
        for block, part in zip(self._blocks, parts, strict=True):
            if block.sides == 2:
                part = combine(part.view(2, -1), dim=0)
            result[block.name] = part.reshape(block.shape)
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GECO:
        # The state keeps float32 when a model around it is cast to half precision: only the device is followed.
        def keep_dtype(t: Tensor) -> Tensor:
            moved = fn(t)
            return moved if moved.dtype == t.dtype else t.to(moved.device)

        self._staged, self._one, self._seen = map(keep_dtype, (self._staged, self._one, self._seen))
        self.settings = RowSettings(*map(keep_dtype, self.settings))
        return cast(GECO, super()._apply(keep_dtype, recurse))

    def _state_views(self) -> dict[str, Tensor]:
        views = {}
        for block in self._blocks:
            for register, rows in zip(self._registers, self.state, strict=True):
                views[f"{block.name}.{register}"] = rows[block.rows]
            views[f"{block.name}.nonfinite"] = self.nonfinite[block.rows]
        return views

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        for key, view in self._state_views().items():
            destination[prefix + key] = view.detach().clone()

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: object) -> None:
        views = self._state_views()
        saved = {key[len(prefix) :]: tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
        if saved.keys() != views.keys():
            names = sorted({key.split(".")[0] for key in saved if "." in key})
            registers = sorted({key.split(".")[1] for key in saved if "." in key})
            raise ValueError(
                f"this GECO has the constraints {', '.join(sorted(self.constraints))} "
                f"with {', '.join(sorted((*self._registers, 'nonfinite')))}; "
                f"the state to load has {', '.join(names) or 'none'} with {', '.join(registers) or 'nothing'}"
            )
        for key, view in views.items():
            if view.shape != saved[key].shape:
                raise ValueError(f"{key} has shape {tuple(saved[key].shape)} in the state, {tuple(view.shape)} here")
        for key, view in views.items():
            view.copy_(saved[key])
        self._staged.zero_()


def _row_settings(constraint: Constraint, rule: Rule, sign: float, bound: Tensor, unit: Tensor) -> RowSettings:
    """The settings of one side of a constraint."""
    least, greatest = _LOG_RANGE if constraint.bounds is None else (math.log(b) for b in constraint.bounds)
    settings = RowSettings(
        rate=_as_float32(rule.rate if constraint.rate is None else constraint.rate),
        alpha=_as_float32(constraint.alpha),
        bound=bound,
        per_unit=sign / unit,
        log_initial=_as_float32(math.log(constraint.initial)),
        log_least=_as_float32(max(least, _LOG_RANGE[0])),
        log_greatest=_as_float32(min(greatest, _LOG_RANGE[1])),
        max_log_step=_as_float32(math.inf if constraint.max_log_step is None else constraint.max_log_step),
    )
    return RowSettings(*(setting.expand_as(bound) for setting in settings))
