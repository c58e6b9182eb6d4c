"""A model that follows a dial: the weights of any module, changed by where the dial stands."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from bridle.dial import Dial
from bridle.models.base import Follow, LatentModel
from bridle.ruler import Ruler

__all__ = ["Dialled"]

Module = TypeVar("Module", bound=nn.Module)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)

# Weights of one output of a convolution that is scaled: at least so many.
_MANY = 256

# How fast gains are learned, as a share of the dial's haste. A latent whose gain moves fast is noisy, which is what
# tight kappas and samples do not bear: on Digits (NVPVAE, one seed) the ratio of holes at the tightest kappa is 1.34
# with 0.5 and 1.44 with 0.75, at which the KL is two points lower on average.
_CALM = 0.5

_Kind = Literal["gain", "scale", "shift"]
_KINDS: dict[Follow, tuple[_Kind, ...]] = {
    "scale": ("scale",),
    "shift": ("shift",),
    "both": ("scale", "shift"),
    "gains": ("gain", "shift"),
    "all": ("gain", "scale", "shift"),
}


class Dialled(nn.Module, Generic[Module]):
    """A module whose layers depend on a position on a dial.

    ::

        position ──► for every output of a layer that follows: scale, shift; for every input: gain
        layer(x) ──► layer(x * gain) * scale + shift        (no shift where the layer has no bias)

    All of these are free at every point of the dial's grid and linear between these, as the logarithms of the
    multipliers are.

    The module need not know of it: encoder, decoder, prior and flow alike, and a recurrent layer at every step. Scales
    and gains start at one, shifts at zero, so that it starts as it was. And since such a layer is one with other
    weights, :meth:`at` gives a module of the same class for any one kappa, with nothing left of the dial.

    A loss that counts errors in units of kappa has a gradient in ``x_hat`` that goes with 1 / kappa, so that tight
    kappas decide what becomes of the weights that all have in common. In a decoder that is nobody's wish: the best one
    for a kappa is the same however much it weighs. So the decoder of a :class:`bridle.models.LatentModel` that names
    it (``dialled_decoder``) is given gradients of one size: multiplied by :meth:`bridle.Dial.looseness` where they
    enter it, and divided by that where they leave it for the encoder, which has to weigh errors against the rate.

    Layers must be called, as ``self.layer(x)``: of one whose weight is read by itself the dial knows nothing.

    Arguments:
        module: Any module, a :class:`bridle.models.LatentModel` for example. It becomes part of this one.
        dial: The ranges.
        layers: The linear layers and convolutions of it that follow the dial, each with ``"scale"``, ``"shift"``,
            ``"both"`` of these, ``"gains"`` (gain and shift), or ``"all"``. If not given, what a
            :class:`bridle.models.LatentModel` says of itself, and all layers of any other module, with scale and shift,
            but without a scale where that would cost as much as the layer itself.

    Raises:
        ValueError: A module without such layers, one of them that shares a weight or is not of the module, or a module
            that recomputes.

    Example:
        >>> from bridle.models import ConvVAE
        >>> dial = Dial({"re": (0.05, 0.25)})
        >>> model = Dialled(ConvVAE((1, 8, 8)), dial)
        >>> model(dial.draw(5), torch.rand(5, 1, 8, 8)).x_hat.shape
        torch.Size([5, 1, 8, 8])
        >>> type(model.at(0.1))
        <class 'bridle.models.convvae.ConvVAE'>
    """

    _one: Tensor

    def __init__(self, module: Module, dial: Dial, layers: Mapping[nn.Module, Follow] | None = None) -> None:
        super().__init__()
        if layers is None and isinstance(module, LatentModel):
            layers = module.dialled_layers()
        named = [(name, m) for name, m in module.named_modules() if isinstance(m, _LAYERS) and _scalable(m)]
        if layers is None:
            layers = {layer: "both" if _worth_a_scale(layer) else "shift" for _, layer in named}
        elif set(layers) - {layer for _, layer in named}:
            raise ValueError("what follows a dial must be linear layers and convolutions of the module")
        named = [(name, layer) for name, layer in named if layer in layers]
        if not named:
            raise ValueError(f"{type(module).__name__} has no linear layer and no convolution that could follow a dial")
        uses = Counter(id(p) for part in module.modules() for p in part.parameters(recurse=False))
        if any(uses[id(p)] > 1 for _, layer in named for p in layer.parameters()):
            raise ValueError(f"two layers of {type(module).__name__} share a weight: each would change it for itself")
        if any(getattr(part, "recompute", False) for part in module.modules()):
            # What runs again in the backward pass would find the dial gone.
            raise ValueError(f"a {type(module).__name__} with recompute cannot follow a dial: leave recompute out")
        self.module = module
        self.dial = dial
        self.ruler = Ruler(dial)
        self._names = [name for name, _ in named]
        self._kinds = [_kinds(layer, layers[layer]) for _, layer in named]
        self._parts = [
            _inputs(layer) if kind == "gain" else _outputs(layer)
            for (_, layer), kinds in zip(named, self._kinds, strict=True)
            for kind in kinds
        ]
        numbers = itertools.count()
        taken = [{kind: next(numbers) for kind in kinds} for kinds in self._kinds]
        self._of_layers = [(its.get("gain"), its.get("scale"), its.get("shift")) for its in taken]
        # One row for each range, whose coordinate all points share, and one for each point.
        self.modulation = nn.Parameter(named[0][1].weight.new_zeros(len(dial.ranges) + dial.size, sum(self._parts)))
        self.register_buffer("_one", self.modulation.new_ones(1), persistent=False)
        self._turn = _Turn()
        self._follow()

    def forward(self, position: Tensor, *arguments: Any, **keywords: Any) -> Any:
        """What the module gives for its own arguments, with each example at its place on the dial.

        Arguments:
            position: Shape ``(B, ranges)``, B the first dimension of what its layers take. Or a part of B, each for as
                many examples that follow one another.
            arguments: The module's.
            keywords: The module's.
        """
        weights = _Weights(self.dial.tightness(position), self.dial.looseness(position))
        self._turn.begin(self._changes(self.dial.features(position)), weights)
        try:
            return self.module(*arguments, **keywords)
        finally:
            self._turn.end()

    def at(self, kappa: float | None = None, **kappas: float) -> Module:
        """A copy of the module as it is at one kappa, of the module's own class: where the ``ruler`` says that this
        kappa is met, which is where it was aimed at as long as nothing was measured.

        Arguments:
            kappa: Where the dial has one range.
            kappas: Where it has several, each by its constraint's name.

        Raises:
            ValueError: A kappa that is missing or outside of its range.
        """
        if kappa is not None:
            if kappas or len(self.dial.ranges) > 1:
                raise ValueError(f"the dial needs a kappa by name for each of {', '.join(self.dial.ranges)}")
            kappas = {next(iter(self.dial.ranges)): kappa}
        return self.at_position(self.ruler.place(kappas))

    @torch.no_grad()
    def at_position(self, position: Tensor) -> Module:
        """A copy of the module as it is at one position, shape ``(1, ranges)``, of the module's own class."""
        changes = self._changes(self.dial.features(position.to(self.modulation)))
        for follower in reversed(self._followers):
            follower.leave()
        module = copy.deepcopy(self.module)
        self._follow()
        for name, change in zip(self._names, changes, strict=True):
            layer = module.get_submodule(name)
            assert isinstance(layer, _LAYERS)
            _fold(change, layer)
        return module

    def _changes(self, features: Tensor) -> list[_Change]:
        """What becomes of each layer at each position."""
        # A product a layer: what is cut out of one product for all is put together again, slowly, in the backward pass.
        parts, one = self.modulation.split(self._parts, dim=1), self._one
        return [
            _Change(
                None if gain is None else torch.addmm(one, features, parts[gain], alpha=_CALM),
                None if scale is None else torch.addmm(one, features, parts[scale]),
                None if shift is None else _Shift(features, parts[shift]),
            )
            for gain, scale, shift in self._of_layers
        ]

    def _follow(self) -> None:
        layers = (self.module.get_submodule(name) for name in self._names)
        self._followers: list[_Follower] = [_Layer(layer, self._turn, number) for number, layer in enumerate(layers)]
        decoder = self.module.dialled_decoder() if isinstance(self.module, LatentModel) else None
        if decoder is not None:
            # Around its first and last layer, whose gains and shifts are the decoder's.
            self._followers.append(_Decoder(decoder, self._turn))


class _Shift(NamedTuple):
    """A product that is not made yet: (positions, features) and (features, outputs)."""

    features: Tensor
    weight: Tensor


class _Change(NamedTuple):
    """``gain`` of a layer's inputs, (positions, inputs), and ``scale`` and ``shift`` of its outputs, (positions,
    outputs); None where the layer has none."""

    gain: Tensor | None
    scale: Tensor | None
    shift: _Shift | None


class _Weights(NamedTuple):
    """What the gradient is multiplied by where it leaves a decoder and where it enters it, (positions,)."""

    leaving: Tensor
    entering: Tensor


class _Turn:
    """What becomes of each layer at the positions under way, in their order, and how a decoder's gradients are weighed;
    nothing between calls."""

    changes: list[_Change]
    weights: _Weights | None

    def __init__(self) -> None:
        self.end()

    def begin(self, changes: list[_Change], weights: _Weights | None) -> None:
        self.changes, self.weights = changes, weights
        self._fitted: dict[tuple[int, _Kind, int, int], Tensor] = {}

    def end(self) -> None:
        self.begin([], None)

    def fitted(self, number: int, kind: _Kind, layer: nn.Module, maps: Tensor) -> Tensor:
        """One change of a layer as its inputs or outputs need it: made once for all of a recurrent layer's steps."""
        key = number, kind, maps.shape[0], maps.dim()
        if key not in self._fitted:
            self._fitted[key] = _fitted(_made(getattr(self.changes[number], kind)), layer, maps)
        return self._fitted[key]


class _Follower:
    """Stands in the place of a module's ``forward``; leaves what it does as it is unless a dial's turn is under way.

    A hook before and one behind would do the same, but made a training step on small images about 1% longer.
    """

    def __init__(self, module: nn.Module, turn: _Turn) -> None:
        self.module, self.turn = module, turn
        self.own = module.__dict__.get("forward")  # of this very module, not of its class
        # No bound method, which could not be pickled with what stands in its place.
        self.plain: Callable[..., Any] = partial(type(module).forward, module) if self.own is None else self.own
        module.forward = self  # type: ignore[assignment]

    def leave(self) -> None:
        """Gives the module its ``forward`` back."""
        del self.module.forward
        if self.own is not None:
            self.module.forward = self.own


class _Layer(_Follower):
    """Changes what one layer is given and what it gives."""

    def __init__(self, layer: nn.Module, turn: _Turn, number: int) -> None:
        super().__init__(layer, turn)
        self.number = number

    def __call__(self, input: Tensor, *rest: Any, **keywords: Any) -> Tensor:
        if not self.turn.changes:
            output: Tensor = self.plain(input, *rest, **keywords)
            return output
        gain, scale, shift = self.turn.changes[self.number]
        if gain is not None:
            input = input * (gain if gain.shape == input.shape else self._fitted("gain", input))
        output = self.plain(input, *rest, **keywords)
        if scale is not None:
            output = output * (scale if scale.shape == output.shape else self._fitted("scale", output))
        if shift is None:
            return output
        if output.dim() == 2 and output.shape[0] == shift.features.shape[0]:
            return torch.addmm(output, *shift)  # made where it is added, in one go
        return output + self._fitted("shift", output)

    def _fitted(self, kind: _Kind, maps: Tensor) -> Tensor:
        return self.turn.fitted(self.number, kind, self.module, maps)


class _Decoder(_Follower):
    """Weighs a decoder's gradients: where they leave it they are what they would be without all this, and where they
    enter it they go by how loose kappa is."""

    def __call__(self, z: Tensor, *rest: Any, **keywords: Any) -> Tensor:
        weights = self.turn.weights
        if weights is None:
            x_hat: Tensor = self.plain(z, *rest, **keywords)
            return x_hat
        return _weighed(self.plain(_weighed(z, weights.leaving), *rest, **keywords), weights.entering)


def _weighed(x: Tensor, weight: Tensor) -> Tensor:
    """What it is given, with a gradient that is multiplied by a weight for each position, (positions,)."""
    n, positions = x.shape[0], weight.shape[0]
    if 1 < positions < n:
        weight = weight.repeat_interleave(n // positions)
    # All of the way from x to x is x; the gradient comes by the end of that way, which has the weight.
    return torch.lerp(x.detach(), x, weight.to(x.dtype).view((-1,) + (1,) * (x.dim() - 1)))


def _fold(change: _Change, layer: nn.Module) -> None:
    """Changes a layer's own weights as it is changed at one position."""
    assert isinstance(layer, _LAYERS)
    if change.gain is not None:
        layer.weight.mul_(_along_inputs(change.gain, layer))
    if change.scale is not None:
        dim = 1 if isinstance(layer, _TRANSPOSED) else 0
        layer.weight.mul_(change.scale.view([-1 if i == dim else 1 for i in range(layer.weight.dim())]))
        if layer.bias is not None:
            layer.bias.mul_(change.scale.squeeze(0))
    if change.shift is not None:
        assert layer.bias is not None
        layer.bias.add_(_made(change.shift).squeeze(0))


def _made(change: Tensor | _Shift) -> Tensor:
    return change.features @ change.weight if isinstance(change, _Shift) else change


def _along_inputs(gain: Tensor, layer: nn.Module) -> Tensor:
    """The gain of each input, (1, inputs), where the layer's weight has it."""
    assert isinstance(layer, _LAYERS)
    between = [1] * (layer.weight.dim() - 2)
    if isinstance(layer, _TRANSPOSED):
        return gain.view(-1, 1, *between)
    # The weight of an output has the inputs of its group.
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    return gain.view(groups, -1).repeat_interleave(_outputs(layer) // groups, dim=0).unflatten(1, (-1, *between))


def _fitted(change: Tensor, layer: nn.Module, maps: Tensor) -> Tensor:
    """What changes a layer's outputs or inputs, (positions, their number), for each example and along their
    dimension."""
    n, positions = maps.shape[0], change.shape[0]  # of which len() takes longer to tell
    if 1 < positions < n:
        change = change.repeat_interleave(n // positions, dim=0)
    if maps.dim() == 2:
        return change
    between = [1] * (maps.dim() - 2)
    # It is the last dimension of what a linear layer takes and gives, and the second of what a convolution does.
    shape = (-1, *between, change.shape[1]) if isinstance(layer, nn.Linear) else (*change.shape, *between)
    return change.view(shape)


def _scalable(layer: nn.Module) -> bool:
    """Whether the outputs lie along one dimension of the weight, as those of grouped transposed ones do not."""
    return not isinstance(layer, _TRANSPOSED) or layer.groups == 1


def _worth_a_scale(layer: nn.Module) -> bool:
    """Whether a scale of its outputs is worth its cost: so much for each output of each pixel, as the layer has weights
    for one."""
    assert isinstance(layer, _LAYERS)
    return isinstance(layer, nn.Linear) or layer.weight.numel() // _outputs(layer) >= _MANY


def _kinds(layer: nn.Module, follow: Follow) -> tuple[_Kind, ...]:
    """What of a layer follows. A shift is added to the bias: a layer without one is scaled instead."""
    kinds = _KINDS[follow]
    if layer.bias is None:
        kinds = tuple(kind for kind in kinds if kind != "shift") or ("scale",)
    return kinds


def _inputs(layer: nn.Module) -> int:
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)  # type: ignore[arg-type]


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]
