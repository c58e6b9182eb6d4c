"""What a training step cannot avoid: its convolutions and matrix products, counted, and run by themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["alone", "flops"]

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def flops(loss: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Floating-point operations of the convolutions and matrix products of a forward and a backward pass."""
    with FlopCounterMode(display=False) as counter:
        loss(x).backward()
    total: int = counter.get_total_flops()
    return total


def alone(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """The layers of a step and nothing else: on inputs that are at hand, forward and backward, as often as the step has
    them."""
    calls: list[_Call] = []
    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    handles = [
        layer.register_forward_hook(
            lambda layer, inputs, _: calls.append(_Call(layer, inputs[0].shape, inputs[0].requires_grad))
        )
        for layer in layers
    ]
    model(x)
    for handle in handles:
        handle.remove()
    copies = {layer: copy.deepcopy(layer) for layer in layers}
    at_hand = {call: _at_hand(copies[call.layer], call, x) for call in calls}
    work = [(copies[call.layer], *at_hand[call]) for call in calls]

    def run() -> None:
        for layer, inputs, gradient in work:
            layer(inputs).backward(gradient)

    return run


class _Call(NamedTuple):
    """``differentiated``: whether the gradient goes on to what is before the layer, as it does not where that is x."""

    layer: nn.Module
    shape: torch.Size
    differentiated: bool


def _at_hand(layer: nn.Module, call: _Call, like: Tensor) -> tuple[Tensor, Tensor]:
    inputs = torch.rand(call.shape, device=like.device, requires_grad=call.differentiated)
    return inputs, torch.rand_like(layer(inputs))
