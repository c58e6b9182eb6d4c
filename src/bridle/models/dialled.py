"""A model that follows a dial: the weights of any module, changed by where the dial stands."""

from __future__ import annotations

import copy
from typing import Any, Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bridle.dial import Dial

__all__ = ["Dialled"]

Module = TypeVar("Module", bound=nn.Module)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)

# Adam's steps have one size whatever the gradient is; with this the condition is learned three times as fast as the
# weights. On Digits (ConvVAE, 6,000 steps) it took 2 to 4% off the KL at equal error, at every kappa of ten.
_HASTE = 3.0

# Inputs and outputs of a linear layer that is tilted: one of them at most so many. On Digits (ConvVAE, one seed) tilts
# took up to 5% off the KL at equal error, most at loose kappas; tilting the wide layers too, another 1 to 5%, but it
# doubles their cost.
_NARROW = 64

# Weights of one output of a convolution that is scaled: at least so many.
_MANY = 256


class Dialled(nn.Module, Generic[Module]):
    """A module whose layers depend on a position on a dial.

    ::

        position ──► MLP ──► for every output of every linear layer and convolution: scale, shift
        layer(x) ──► layer(x) * scale + shift        (no shift where the layer has no bias)

    A convolution of few inputs, where a scale would cost as much as the layer itself, has a shift alone. And a narrow
    linear layer, such as those next to the latents, is tilted besides: its weight changes evenly along each range, by a
    matrix of its own. A scale makes a latent more or less precise; a tilt can turn one into another, as a model needs
    that spends few nats on the few latents that matter most.

    The module need not know of it: encoder, decoder, prior and flow alike, and a recurrent layer at every step. Scales
    start at one, shifts and tilts at zero, so that it starts as it was. And since such a layer is one with other
    weights, :meth:`at` gives a module of the same class for any one kappa, with nothing left of the dial.

    Layers must be called, as ``self.layer(x)``: of one whose weight is read by itself the dial knows nothing.

    Arguments:
        module: Any module, a :class:`bridle.models.LatentModel` for example. It becomes part of this one.
        dial: The ranges.
        width: Units of both hidden layers of the MLP.

    Raises:
        ValueError: A module without such layers, two of them that share a weight, or a module that recomputes.

    Example:
        >>> from bridle.models import ConvVAE
        >>> dial = Dial({"re": (0.05, 0.25)})
        >>> model = Dialled(ConvVAE((1, 8, 8)), dial)
        >>> model(dial.draw(5), torch.rand(5, 1, 8, 8)).x_hat.shape
        torch.Size([5, 1, 8, 8])
        >>> type(model.at(0.1))
        <class 'bridle.models.convvae.ConvVAE'>
    """

    def __init__(self, module: Module, dial: Dial, width: int = 32) -> None:
        super().__init__()
        named = [(name, m) for name, m in module.named_modules() if isinstance(m, _LAYERS) and _scalable(m)]
        if not named:
            raise ValueError(f"{type(module).__name__} has no linear layer and no convolution that could follow a dial")
        if len({id(layer.weight) for _, layer in named}) < len(named):
            raise ValueError(f"two layers of {type(module).__name__} share a weight: each would change it for itself")
        if any(getattr(part, "recompute", False) for part in module.modules()):
            # What runs again in the backward pass would find the dial gone.
            raise ValueError(f"a {type(module).__name__} with recompute cannot follow a dial: leave recompute out")
        self.module = module
        self.dial = dial
        self._names = [name for name, _ in named]
        outputs = [_outputs(layer) for _, layer in named]
        self._has_bias = [layer.bias is not None for _, layer in named]
        self._has_scale = [_has_scale(layer) for _, layer in named]
        self._parts = (
            *(n for n, has_scale in zip(outputs, self._has_scale, strict=True) if has_scale),
            *(n for n, has_bias in zip(outputs, self._has_bias, strict=True) if has_bias),
        )
        self.embedding = nn.Sequential(
            nn.Linear(len(dial.ranges), width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.modulation = nn.Linear(width, sum(self._parts))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self._tilted = [isinstance(layer, nn.Linear) and min(layer.weight.shape) <= _NARROW for _, layer in named]
        self.tilts = nn.ParameterList(
            layer.weight.new_zeros(len(dial.ranges), *layer.weight.shape)
            for (_, layer), tilted in zip(named, self._tilted, strict=True)
            if tilted
        )
        self._turn = _Turn()
        self._handles: list[RemovableHandle] = []
        self._hook()

    def forward(self, position: Tensor, *arguments: Any, **keywords: Any) -> Any:
        """What the module gives for its own arguments, with each example at its place on the dial.

        Arguments:
            position: Shape ``(B, ranges)``, B the first dimension of what its layers take. Or a part of B, each for as
                many examples that follow one another: the fewer there are, the less the condition costs.
            arguments: The module's.
            keywords: The module's.
        """
        self._turn.begin(_centred(position), self._changes(position))
        try:
            return self.module(*arguments, **keywords)
        finally:
            self._turn.end()

    @torch.no_grad()
    def at(self, kappa: float | None = None, **kappas: float) -> Module:
        """A copy of the module as it is at one kappa, of the module's own class.

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
        position = self.dial.position(kappas).to(self.modulation.weight)
        for handle in self._handles:
            handle.remove()
        module = copy.deepcopy(self.module)
        self._hook()
        for name, (scale, shift, tilt) in zip(self._names, self._changes(position), strict=True):
            layer = module.get_submodule(name)
            assert isinstance(layer, _LAYERS)
            if tilt is not None:
                layer.weight.add_(torch.tensordot(_centred(position).squeeze(0), tilt, dims=1))
            if scale is not None:
                dim = 1 if isinstance(layer, _TRANSPOSED) else 0
                layer.weight.mul_(scale.view([-1 if i == dim else 1 for i in range(layer.weight.dim())]))
                if layer.bias is not None:
                    layer.bias.mul_(scale.squeeze(0))
            if layer.bias is not None and shift is not None:
                layer.bias.add_(shift.squeeze(0))
        return module

    def _changes(self, position: Tensor) -> list[_Change]:
        """What becomes of each layer at each position."""
        parts = (_HASTE * self.modulation(self.embedding(_centred(position)))).split(self._parts, dim=1)
        scales, shifts, tilts = iter(parts), iter(parts[sum(self._has_scale) :]), iter(self.tilts)
        return [
            _Change(
                1 + next(scales) if has_scale else None,
                next(shifts) if has_bias else None,
                next(tilts) if tilted else None,
            )
            for has_scale, has_bias, tilted in zip(self._has_scale, self._has_bias, self._tilted, strict=True)
        ]

    def _hook(self) -> None:
        layers = [self.module.get_submodule(name) for name in self._names]
        self._handles = [
            layer.register_forward_hook(_Follow(self._turn, number)) for number, layer in enumerate(layers)
        ]


class _Change(NamedTuple):
    """``scale`` and ``shift`` of a layer's outputs, each (positions, outputs); ``tilt`` of its weight along each range,
    in all (ranges, outputs, inputs). None where the layer has none."""

    scale: Tensor | None
    shift: Tensor | None
    tilt: Tensor | None


class _Turn:
    """Where the dial stands at present, centred, and what becomes of each layer there, in their order; nothing between
    calls."""

    def __init__(self) -> None:
        self.end()

    def begin(self, place: Tensor, changes: list[_Change]) -> None:
        self.place, self.changes = place, changes

    def end(self) -> None:
        self.place, self.changes = torch.empty(0), []


class _Follow:
    """Changes what one layer gives; leaves it as it is where the module is called by itself."""

    def __init__(self, turn: _Turn, number: int) -> None:
        self.turn, self.number = turn, number

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.turn.changes:
            return output
        scale, shift, tilt = self.turn.changes[self.number]
        n, between = len(self.turn.place), [1] * (output.dim() - 2)
        # Outputs are the last dimension of what a linear layer gives, and the second of what a convolution does.
        shape = (n, 1, *between, -1) if isinstance(layer, nn.Linear) else (n, 1, -1, *between)
        grouped = output.unflatten(0, (n, -1))
        if tilt is not None:
            for along, weight in zip(self.turn.place.unbind(dim=1), tilt.unbind(), strict=True):
                added = F.linear(inputs[0], weight).unflatten(0, (n, -1))
                grouped = torch.addcmul(grouped, along.view(n, *[1] * output.dim()), added)
        if scale is None:
            changed = grouped if shift is None else grouped + shift.view(shape)
        elif shift is None:
            changed = grouped * scale.view(shape)
        else:
            changed = torch.addcmul(shift.view(shape), grouped, scale.view(shape))
        return changed.flatten(0, 1)


def _centred(position: Tensor) -> Tensor:
    """Positions from -1 to 1, so that the middle of a dial is where nothing has changed yet."""
    return 2 * position - 1


def _scalable(layer: nn.Module) -> bool:
    """Whether the outputs lie along one dimension of the weight, as those of grouped transposed ones do not."""
    return not isinstance(layer, _TRANSPOSED) or layer.groups == 1


def _has_scale(layer: nn.Module) -> bool:
    """Whether a scale of its outputs is worth its cost: so much for each output of each pixel, as the layer has weights
    for one."""
    assert isinstance(layer, _LAYERS)
    return isinstance(layer, nn.Linear) or layer.weight.numel() // _outputs(layer) >= _MANY or layer.bias is None


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]
