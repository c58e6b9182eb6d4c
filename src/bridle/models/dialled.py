"""A model that follows a dial: the weights of any module, changed by where the dial stands."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bridle.dial import HASTE, Dial
from bridle.models.base import Follow, LatentModel

__all__ = ["Dialled"]

Module = TypeVar("Module", bound=nn.Module)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)

# Weights of one output of a convolution that is scaled: at least so many.
_MANY = 256


class Dialled(nn.Module, Generic[Module]):
    """A module whose layers depend on a position on a dial.

    ::

        position ──► for every output of a layer that follows: scale, shift
        layer(x) ──► layer(x) * scale + shift        (no shift where the layer has no bias)

    Scales and shifts are free at every point of the dial's grid and linear between these, as the logarithms of the
    multipliers are.

    The module need not know of it: encoder, decoder, prior and flow alike, and a recurrent layer at every step. Scales
    start at one, shifts at zero, so that it starts as it was. And since such a layer is one with other weights,
    :meth:`at` gives a module of the same class for any one kappa, with nothing left of the dial.

    Layers must be called, as ``self.layer(x)``: of one whose weight is read by itself the dial knows nothing.

    Arguments:
        module: Any module, a :class:`bridle.models.LatentModel` for example. It becomes part of this one.
        dial: The ranges.
        layers: The linear layers and convolutions of it that follow the dial, each with ``"scale"``, ``"shift"`` or
            ``"both"``. If not given, what a :class:`bridle.models.LatentModel` says of itself, and all layers of any
            other module, without a scale where that would cost as much as the layer itself.

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
        self._names = [name for name, _ in named]
        outputs = [_outputs(layer) for _, layer in named]
        # A shift is added to the bias; a layer without one can be scaled alone.
        self._has_shift = [layers[layer] != "scale" and layer.bias is not None for _, layer in named]
        self._has_scale = [layers[layer] != "shift" or layer.bias is None for _, layer in named]
        scales = [n for n, has_scale in zip(outputs, self._has_scale, strict=True) if has_scale]
        shifts = [n for n, has_shift in zip(outputs, self._has_shift, strict=True) if has_shift]
        self._parts = (*scales, *shifts)
        # One row for each range, whose coordinate all points share, and one for each point.
        self.modulation = nn.Parameter(named[0][1].weight.new_zeros(len(dial.ranges) + dial.size, sum(self._parts)))
        with torch.no_grad():
            # Shares sum to one, and so each scale does.
            self.modulation[len(dial.ranges) :, : sum(scales)] = 1 / HASTE
        self._turn = _Turn()
        self._handles: list[RemovableHandle] = []
        self._hook()

    def forward(self, position: Tensor, *arguments: Any, **keywords: Any) -> Any:
        """What the module gives for its own arguments, with each example at its place on the dial.

        Arguments:
            position: Shape ``(B, ranges)``, B the first dimension of what its layers take. Or a part of B, each for as
                many examples that follow one another.
            arguments: The module's.
            keywords: The module's.
        """
        features = self.dial.features(position)
        self._turn.begin(features, self._changes(features))
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
        position = self.dial.position(kappas).to(self.modulation)
        for handle in self._handles:
            handle.remove()
        module = copy.deepcopy(self.module)
        self._hook()
        features = self.dial.features(position)
        for name, (scale, shift) in zip(self._names, self._changes(features), strict=True):
            layer = module.get_submodule(name)
            assert isinstance(layer, _LAYERS)
            if scale is not None:
                dim = 1 if isinstance(layer, _TRANSPOSED) else 0
                layer.weight.mul_(scale.view([-1 if i == dim else 1 for i in range(layer.weight.dim())]))
                if layer.bias is not None:
                    layer.bias.mul_(scale.squeeze(0))
            if layer.bias is not None and shift is not None:
                layer.bias.add_((features @ shift).squeeze(0))
        return module

    def _changes(self, features: Tensor) -> list[_Change]:
        """What becomes of each layer at each position."""
        # A product a layer: what is cut out of one product for all is put together again, slowly, in the backward pass.
        parts = iter(self.modulation.split(self._parts, dim=1))
        scales = [features @ next(parts) if has_scale else None for has_scale in self._has_scale]
        shifts = [next(parts) if has_shift else None for has_shift in self._has_shift]
        return [_Change(scale, shift) for scale, shift in zip(scales, shifts, strict=True)]

    def _hook(self) -> None:
        layers = [self.module.get_submodule(name) for name in self._names]
        self._handles = [
            layer.register_forward_hook(_Changing(self._turn, number)) for number, layer in enumerate(layers)
        ]


class _Change(NamedTuple):
    """``scale`` of a layer's outputs, (positions, outputs), and what makes the ``shift`` of them out of features,
    (features, outputs); None where the layer has none."""

    scale: Tensor | None
    shift: Tensor | None


class _Turn:
    """The features of the positions under way, and what becomes of each layer there, in their order; nothing between
    calls."""

    features: Tensor | None
    changes: list[_Change]

    def __init__(self) -> None:
        self.end()

    def begin(self, features: Tensor, changes: list[_Change]) -> None:
        self.features, self.changes = features, changes

    def end(self) -> None:
        self.features, self.changes = None, []


class _Changing:
    """Changes what one layer gives; leaves it as it is where the module is called by itself."""

    def __init__(self, turn: _Turn, number: int) -> None:
        self.turn, self.number = turn, number

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        features = self.turn.features
        if features is None:
            return output
        scale, shift = self.turn.changes[self.number]
        if scale is not None:
            output = output * _fitted(scale, layer, output)
        if shift is None:
            return output
        if output.dim() == 2 and len(output) == len(features):
            return torch.addmm(output, features, shift)
        return output + _fitted(features @ shift, layer, output)


def _fitted(change: Tensor, layer: nn.Module, output: Tensor) -> Tensor:
    """What changes the outputs, (positions, outputs), for each example and along the dimension of its outputs."""
    if 1 < len(change) < len(output):
        change = change.repeat_interleave(len(output) // len(change), dim=0)
    if output.dim() == 2:
        return change
    between = [1] * (output.dim() - 2)
    # Outputs are the last dimension of what a linear layer gives, and the second of what a convolution does.
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


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]
