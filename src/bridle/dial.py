"""A dial: one training for a whole range of kappas, with a multiplier that is a function of kappa.

Each image of a batch has a *position* on the dial, and with it a kappa of its own for every constraint that has a
range. The logarithm of a multiplier is given at the points of a grid over the dial and linear between them. The
multiplier of a point moves by the average of C over the images around it, each weighted by its share of that point, and
by the same rule as the multiplier of a single kappa.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bridle.geco import GECO, Constraint, GECOOutput, Rule

__all__ = ["Dial", "DialledGECO"]

_ROUNDING = 1e-6

# Adam's steps have one size whatever the gradient is; with this a function over the dial is learned six times as fast
# as the weights, since a point of the dial sees few images of a batch. On Digits (ConvVAE, 6,000 steps) the KL at equal
# error, averaged over ten kappas, was 6% lower so. Twelve is better still there (3%), but at a learning rate of 5e-3 it
# fails.
HASTE = 6.0

# How much the ends stand for beyond themselves, as shares of a range, and how many images the tight end has on its
# inner side, over the average of a range; the loose end has what is left to two. A tight end is the last to be met, and
# needs images of its own. And what a model learns for tight kappas helps the loose ones little: with as many images for
# all, their KL on Digits was 8 to 9% above that of separate runs, and at kappa 0.08 16% below it.
_BEYOND_TIGHT, _BEYOND_LOOSE = 0.3, 0.5
_INSIDE_TIGHT = 0.1

# Loose kappas have more of the images at first and tight ones later, by a power of an image's place among all of them
# that rises over so much of the training. What all kappas share is then laid out by the loose ones, which were the ones
# to pay for it, and tight ones, which are met last whatever they are given at first, have the images when they can use
# them. On MNIST (NVPVAE, 8,000 steps) the KL at the tightest kappa was 12% lower so, with no more images there in all.
_FIRST, _LAST, _RISES = 0.4, 1.3, 0.6
_STAGES = 50


class Dial:
    """Ranges of kappa, one a constraint, and a grid of points over them.

    A position is a vector with one coordinate a range, in [0, 1], along the logarithm of kappa: halving an error is as
    far from anywhere. For a similarity, which is 1 at best, it is the logarithm of what is missing, 1 - kappa.

    What is at an end of a dial has neighbours on one side only, and at the tight one is the last to be learned. So
    positions go on for a little beyond the tightest kappa that can be asked for.

    Arguments:
        ranges: The least and the greatest kappa of each constraint by name.
        points: Of the grid, along each range.
        similarities: Names of the ranges that are similarities, with kappas below 1.
        margin: How far positions go on beyond the tight end of each range, over the length of the range.

    Raises:
        ValueError: A range that is empty, or not positive and finite; fewer than two points; a negative margin.

    Example:
        >>> dial = Dial({"re": (0.05, 0.2)}, points=3, margin=0)
        >>> position = dial.position({"re": 0.1})
        >>> position, dial.shares(position), dial.kappas(position)["re"]
        (tensor([[0.5000]]), tensor([[0., 1., 0.]]), tensor([0.1000]))
        >>> dial.shares(torch.tensor([[0.25]]))
        tensor([[0.5000, 0.5000, 0.0000]])
    """

    def __init__(
        self,
        ranges: Mapping[str, tuple[float, float]],
        points: int = 12,
        similarities: Collection[str] = (),
        margin: float = 0.05,
    ) -> None:
        if not ranges:
            raise ValueError("a dial needs a range, such as {'re': (0.05, 0.25)}")
        if points < 2:
            raise ValueError(f"a dial needs two points along each range, got {points}")
        if not 0 <= margin < math.inf:
            raise ValueError(f"the margin of a dial must be at least 0, got {margin}")
        for name, (least, greatest) in ranges.items():
            if not 0 < least < greatest < math.inf:
                raise ValueError(f"the range of {name!r} must be 0 < least < greatest, got {least} to {greatest}")
            if name in similarities and greatest >= 1:
                raise ValueError(f"the range of {name!r} must end below 1, got {least} to {greatest}")
        self.ranges = dict(ranges)
        self.points = points
        self.similarities = frozenset(similarities)
        self.margin = margin
        self._ends = {name: self._with_margin(name) for name in self.ranges}
        self._even: dict[tuple[int, torch.device | str | None, torch.dtype], _Even] = {}
        self._progress = 0.5

    @property
    def size(self) -> int:
        """Points of the whole grid."""
        return int(self.points ** len(self.ranges))

    @property
    def middle(self) -> dict[str, float]:
        """The kappa of each range half-way along it, to four digits."""
        return self._shown([0.5] * len(self.ranges))

    def along(self, name: str, n: int, others: Mapping[str, float] | None = None) -> list[dict[str, float]]:
        """``n`` kappas of one range, evenly from end to end, to four digits, with kappas of the other ranges beside
        them: their middles, if not given.

        Example:
            >>> Dial({"re": (0.05, 0.2)}).along("re", 3)
            [{'re': 0.05}, {'re': 0.1}, {'re': 0.2}]
        """
        return [
            self._shown([i / (n - 1) if other == name else 0.5 for other in self.ranges])
            | {other: kappa for other, kappa in (others or {}).items() if other != name}
            for i in range(n)
        ]

    def _shown(self, shares: list[float]) -> dict[str, float]:
        """The kappa so far along each range, from 0 to 1, to show to a person: to four digits, where these are in the
        range."""
        shown = {}
        for share, (name, (least, greatest)) in zip(shares, self.ranges.items(), strict=True):
            inside = self._along(name, torch.tensor(share, dtype=torch.float64), least, greatest).item()
            kappa = {0.0: least, 1.0: greatest}.get(share, inside)
            rounded = float(f"{kappa:.4g}")
            shown[name] = rounded if least < rounded < greatest else kappa
        return shown

    def _along(self, name: str, share: Tensor, least: float, greatest: float) -> Tensor:
        """The kappas of a constraint so far along the way between two of them."""
        if name in self.similarities:
            return 1 - (1 - least) * ((1 - greatest) / (1 - least)) ** share
        return least * (greatest / least) ** share

    def _with_margin(self, name: str) -> tuple[float, float]:
        """The kappas that the coordinates 0 and 1 stand for."""
        least, greatest = self.ranges[name]
        similarity = name in self.similarities
        end = torch.tensor(1 + self.margin if similarity else -self.margin, dtype=torch.float64)
        tightest = self._along(name, end, least, greatest).item()
        return (least, tightest) if similarity else (tightest, greatest)

    def refined(self, parts: int = 2) -> Dial:
        """The same ranges with so many parts in the place of each between two points."""
        return Dial(self.ranges, parts * (self.points - 1) + 1, self.similarities, self.margin)

    def grid(self) -> Tensor:
        """The positions of the grid's points, shape ``(size, ranges)``, in the order of :meth:`shares`."""
        return torch.cartesian_prod(*[torch.linspace(0, 1, self.points)] * len(self.ranges)).view(self.size, -1)

    def draw(
        self,
        n: int,
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        progress: float = 0.5,
    ) -> Tensor:
        """Positions for ``n`` images, shape ``(n, ranges)``.

        Each n-th part of what a range has of images has exactly one of them, in an order of its own: drawn one by one,
        a point of the grid would see twice as many images in one batch as in the next, and at times none. Loose kappas
        have more of them at first and tight ones later: at the tight end itself stand 1% at the beginning and 25% from
        60% of the training on, at the loose one 56 and 22%.

        Arguments:
            n: How many.
            generator: Of the randomness.
            device: Where they are wanted.
            progress: How much of the training is done, from 0 to 1. Half of it, if nothing is said, which is near what
                a training has on average.
        """
        cells = torch.rand(n, len(self.ranges), generator=generator, device=device).argsort(dim=0)
        uniform = (cells + torch.rand(n, len(self.ranges), generator=generator, device=device)) / n
        return self._spread(uniform, progress)

    def even(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """Positions for ``n`` images all over the dial, shape ``(n, ranges)``: the same until :meth:`advance` moves
        them, so that what depends on them alone is computed once. Not to be written to.

        Along the first range, in the middle of n equal parts of its images (see :meth:`draw`), in order; along each
        further one every n-th part has about one, and so has every part of a surface (the multiples of the inverse of a
        generalized golden ratio).
        """
        key = n, device, torch.get_default_dtype()
        if key not in self._even:
            with torch.inference_mode(False):  # wherever they are first asked for, they may be trained on
                self._even[key] = self._made_even(*key)
        return self._even[key].position

    def advance(self, progress: float) -> None:
        """Moves all :meth:`even` positions to where they belong when so much of the training is done, from 0 to 1; in
        fifty stages, and in place, since what is compiled knows these very tensors. Half of it is where they begin."""
        stage = math.floor(_STAGES * progress) / _STAGES
        if stage == self._progress:
            return
        self._progress = stage
        with torch.inference_mode(False):
            for key, kept in self._even.items():
                for old, new in zip(kept.tensors(), self._made_even(*key).tensors(), strict=True):
                    old.copy_(new)

    def _made_even(self, n: int, device: torch.device | str | None, dtype: torch.dtype) -> _Even:
        others = len(self.ranges) - 1
        steps = [1 / n, *(_golden(others) ** -(i + 1) for i in range(others))]
        parts = torch.arange(n, dtype=torch.float64).unsqueeze(1) + 0.5
        position = self._spread(parts * torch.tensor(steps, dtype=torch.float64) % 1, self._progress)
        position = position.to(dtype).to(device)
        return _Even(
            position,
            self.kappas(position),
            self.shares(position),
            self.features(position),
            self.looseness(position),
            self.tightness(position),
            self.images(position),
        )

    def _spread(self, uniform: Tensor, progress: float) -> Tensor:
        """Numbers all over [0, 1], one for each range, as coordinates of as many images as :meth:`draw` says."""
        power = _FIRST + (_LAST - _FIRST) * min(progress / _RISES, 1)
        coordinates = []
        for u, name in zip(uniform.unbind(dim=1), self.ranges, strict=True):
            similarity = name in self.similarities
            place = (1 - u if similarity else u) ** power
            share = place * (1 + _BEYOND_TIGHT + _BEYOND_LOOSE) - _BEYOND_TIGHT
            # The integral of a density that is linear in the distance c from the tight end is quadratic.
            more = 1 - _INSIDE_TIGHT
            c = ((_INSIDE_TIGHT**2 + 4 * more * share.clamp(0, 1)).sqrt() - _INSIDE_TIGHT) / (2 * more)
            c = c.masked_fill(share >= 1, 1.0)  # which rounding misses
            coordinates.append(1 - c if similarity else c)
        return torch.stack(coordinates, dim=1)

    def features(self, position: Tensor) -> Tensor:
        """What a function over the dial is made of, for positions ``(n, ranges)``: their coordinates, from -1 to 1, and
        their :meth:`shares`, side by side, shape ``(n, ranges + size)``, and all of it six times as large."""
        if (kept := self._kept(position)) is not None:
            return kept.features
        return HASTE * torch.cat((2 * position - 1, self.shares(position)), dim=1)

    def _kept(self, position: Tensor) -> _Even | None:
        for kept in self._even.values():
            if kept.position is position:
                return kept
        return None

    def kappas(self, position: Tensor) -> dict[str, Tensor]:
        """The kappa of each range at positions ``(n, ranges)``, each of shape ``(n,)``."""
        if (kept := self._kept(position)) is not None:
            return dict(kept.kappas)
        return {
            name: self._along(name, coordinate, *ends)
            for (name, ends), coordinate in zip(self._ends.items(), position.unbind(dim=1), strict=True)
        }

    def coordinate(self, name: str, kappa: Tensor) -> Tensor:
        """Where on the dial kappas of one range lie, of their shape: from 0 to 1, and beyond that outside of it."""
        least, greatest = self._ends[name]
        if name in self.similarities:
            return ((1 - kappa) / (1 - least)).log() / math.log((1 - greatest) / (1 - least))
        return (kappa / least).log() / math.log(greatest / least)

    def looseness(self, position: Tensor) -> Tensor:
        """How large an error may be at positions ``(n, ranges)``, over what it may be in the middle of the dial, shape
        ``(n,)``; of several ranges the geometric mean. The error of a similarity is the root of what is missing."""
        if (kept := self._kept(position)) is not None:
            return kept.looseness
        lengths = [
            math.log((1 - greatest) / (1 - least)) / 2 if name in self.similarities else math.log(greatest / least)
            for name, (least, greatest) in self._ends.items()
        ]
        return torch.exp((position - 0.5) @ position.new_tensor(lengths) / len(lengths))

    def tightness(self, position: Tensor) -> Tensor:
        """The inverse of :meth:`looseness`, shape ``(n,)``."""
        if (kept := self._kept(position)) is not None:
            return kept.tightness
        return self.looseness(position).reciprocal()

    def position(self, kappas: Mapping[str, float]) -> Tensor:
        """The position of one kappa for each range, shape ``(1, ranges)``.

        Raises:
            ValueError: A kappa that is missing, unknown, or outside of its range.
        """
        if kappas.keys() != self.ranges.keys():
            asked, given = ", ".join(self.ranges), ", ".join(kappas) or "none"
            raise ValueError(f"the dial needs a kappa for each of its ranges ({asked}), got {given}")
        coordinates = []
        for name, (least, greatest) in self.ranges.items():
            # An end may have gone through float32.
            if not least * (1 - _ROUNDING) <= kappas[name] <= greatest * (1 + _ROUNDING):
                raise ValueError(f"kappa of {name} must lie in {least:g} to {greatest:g}, got {kappas[name]:g}")
            kappa = torch.tensor(min(max(kappas[name], least), greatest), dtype=torch.float64)
            coordinates.append(self.coordinate(name, kappa).item())
        return torch.tensor([coordinates])

    def shares(self, position: Tensor) -> Tensor:
        """What share each point of the grid has in positions ``(n, ranges)``, shape ``(n, size)``: linear between its
        neighbours along each range, so that a row sums to one."""
        if (kept := self._kept(position)) is not None:
            return kept.shares
        index = torch.arange(self.points, device=position.device)
        shares = position.new_ones(len(position), 1)
        for coordinate in position.unbind(dim=1):
            along = (1 - (coordinate.unsqueeze(1) * (self.points - 1) - index).abs()).clamp_min(0)
            shares = (shares.unsqueeze(2) * along.unsqueeze(1)).flatten(1)
        return shares

    def images(self, position: Tensor) -> Tensor:
        """How many of the images at positions ``(n, ranges)`` each point has: the sum of their shares, ``(size,)``."""
        if (kept := self._kept(position)) is not None:
            return kept.images
        return self.shares(position).sum(dim=0)


class _Even(NamedTuple):
    """Positions, and what depends on them."""

    position: Tensor
    kappas: dict[str, Tensor]
    shares: Tensor
    features: Tensor
    looseness: Tensor
    tightness: Tensor
    images: Tensor

    def tensors(self) -> list[Tensor]:
        return [
            self.position,
            *self.kappas.values(),
            self.shares,
            self.features,
            self.looseness,
            self.tightness,
            self.images,
        ]


class DialledGECO(GECO):
    r"""GECO over a dial: minimises an objective subject to constraints whose bounds differ between images.

    The loss of a call is the mean over images of :math:`f_i + \sum_j \lambda_j(\kappa_i) C_{ij}`, each divided by
    :math:`1 + \sum_j \lambda_j(\kappa_i)`, so that tight and loose kappas have gradients of one size. All promises of
    :class:`bridle.GECO` hold. A constraint has a multiplier for each point of the dial: the last dimension of what
    :meth:`multipliers` gives.

    Arguments:
        constraints: Name to :class:`bridle.Constraint`, on values that are divided by their bound at each image's
            kappa: ``Constraint(upper=1.0)`` says that the mean of these ratios is at most 1 wherever the dial stands.
            A constraint without a range has a value and a bound as ever.
        dial: The ranges.
        rule: As for :class:`bridle.GECO`.

    Raises:
        ValueError: As for :class:`bridle.GECO`.

    Example:
        >>> dial = Dial({"floor": (1.0, 4.0)}, points=2)
        >>> geco = DialledGECO({"floor": Constraint(lower=1.0, initial=40.0)}, dial)
        >>> line = torch.zeros(2, requires_grad=True)      # least w^2 subject to w >= kappa; w = exp(a + b log kappa)
        >>> optimizer = torch.optim.Adam([line], lr=0.05)
        >>> for step in range(1500):
        ...     position = dial.draw(32, torch.Generator().manual_seed(step))
        ...     kappa = dial.kappas(position)["floor"]
        ...     w = torch.exp(line[0] + line[1] * kappa.log())
        ...     optimizer.zero_grad()
        ...     geco(w.square(), position=position, floor=w / kappa).loss.backward()
        ...     optimizer.step()
        ...     geco.step()
        >>> [round(x) for x in geco.multipliers()["floor"].tolist()]      # 2w = multiplier / kappa, at kappa 1 and 4
        [2, 32]
    """

    def __init__(self, constraints: Mapping[str, Constraint], dial: Dial, *, rule: str | Rule = "pi") -> None:
        super().__init__(
            {name: _repeated(constraint, dial.size) for name, constraint in constraints.items()}, rule=rule
        )
        self.dial = dial
        self._staged = torch.zeros(2 * (self._rows + 1))
        # Before its first image, which an average starts with whatever it was, a point counts as not met.
        self._average = self._registers.index("average")
        self.state[self._average] = 1.0

    def forward(  # type: ignore[override]
        self, objective: Tensor, *, position: Tensor, **values: Tensor | tuple[Tensor, Tensor]
    ) -> GECOOutput:
        """The loss of a batch. Pure, but for what it stages for :meth:`step`.

        Arguments:
            objective: What to minimise, of each image (its KL in nats, say), shape ``(B,)``.
            position: Where each image is on the dial, shape ``(B, ranges)``.
            values: For each constraint its value of each image, relative to the bound at that image's kappa, shape
                ``(B, *shape)`` with the shape of the constraint's bound; or a pair ``(differentiable, measured)``,
                whose first gives the gradient and whose second moves the multiplier.

        Returns:
            Means over the batch; ``violations`` are those of each point, averaged over the images around it, NaN where
            there are none.

        Raises:
            ValueError: A constraint's value is missing, unknown, or of another shape.
        """
        n = objective.shape[0]
        value, measured = self._of_images(n, values)
        points, stage = self.dial.size, self.training and torch.is_grad_enabled()
        bound, per_unit = self.settings.bound[::points], self.settings.per_unit[::points]

        with torch.no_grad():
            violation = (value - bound) * per_unit
            c = violation if measured is None else (measured - bound) * per_unit
            shares = self.dial.shares(position)
            multiplier = (shares @ self.state[0].view(-1, points).T).exp_()
            # A gradient grows with its multiplier: undivided the tightest kappas would drown the others.
            weight = multiplier.sum(dim=1).add_(1).mul_(n).reciprocal_()
            # The loss is linear in objectives and values, with these slopes: only that part needs a graph.
            slope = multiplier * weight.unsqueeze(1) * per_unit
            offset = torch.dot(slope.sum(dim=0), bound)
            sums, weights, total = c.T @ shares, self.dial.images(position), objective.float().sum()
            if stage:
                parts = (sums, total, weights.expand_as(sums), weights.sum())
                self._staged.add_(torch.cat([part.reshape(-1) for part in parts]))
            lagrangian = total + torch.dot(multiplier.view(-1), violation.reshape(-1))
            around = self.by_name((sums / weights).view(-1), torch.amax)
        loss = torch.dot(objective.float(), weight) + (torch.dot(value.reshape(-1), slope.reshape(-1)) - offset)
        return GECOOutput(loss, total / n, lagrangian / n, around)

    @torch.no_grad()
    def multipliers_at(self, position: Tensor) -> dict[str, Tensor]:
        """Each constraint's multiplier at one position, shape ``(1, ranges)``, in its bound's shape."""
        points, shares = self.dial.size, self.dial.shares(position.to(self.state))
        rows = (shares @ self.state[0].view(-1, points).T).exp().squeeze(0)
        multipliers = {}
        for block in self._blocks:
            part = rows[block.rows.start // points : block.rows.stop // points]
            if block.sides == 2:
                part = part.view(2, -1)[0] - part.view(2, -1)[1]
            multipliers[block.name] = part.view(block.shape[:-1])
        return multipliers

    def _unseen(self) -> Tensor:
        # A point without an image in a small batch is where its average is, which a checkpoint has: a verdict does not
        # depend on whether a run stopped.
        return torch.cat((self.state[self._average], self._seen[-1:]))

    def _of_images(self, n: int, values: Mapping[str, Tensor | tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor | None]:
        """Values and what is measured in their place, if that is something else, side by side, shape ``(n, rows of a
        point)``."""
        self._refuse_others(values)
        differentiable: list[Tensor] = []
        measured: list[Tensor] = []
        for block in self._blocks:
            value, shape = values[block.name], (n, *block.shape[:-1])
            pair = value if isinstance(value, tuple) else (value, value)
            for part, out in zip(pair, (differentiable, measured), strict=True):
                if part.shape != shape:
                    raise ValueError(
                        f"the value of {block.name!r} has shape {tuple(part.shape)}, expected {shape}: one an image"
                    )
                out.extend([part.float().reshape(n, -1)] * block.sides)
        pairs = any(isinstance(value, tuple) for value in values.values())
        return _side_by_side(differentiable), _side_by_side(measured).detach() if pairs else None


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _golden(dimensions: int) -> float:
    """The positive root of x ** (dimensions + 1) = x + 1: the golden ratio for one, and its heirs for more."""
    x = 2.0
    for _ in range(64):
        x = (1 + x) ** (1 / (dimensions + 1))
    return x


def _repeated(constraint: Constraint, points: int) -> Constraint:
    """The constraint with its bounds repeated for each point, along a last dimension."""

    def along(bound: float | Tensor | None) -> Tensor | None:
        return None if bound is None else torch.as_tensor(bound).unsqueeze(-1).repeat_interleave(points, dim=-1)

    return replace(
        constraint, upper=along(constraint.upper), lower=along(constraint.lower), equal=along(constraint.equal)
    )
