"""What a training step cannot avoid: its convolutions and matrix products, counted, and run by themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable

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
    calls: list[tuple[nn.Module, torch.Size]] = []
    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    handles = [
        layer.register_forward_hook(lambda layer, inputs, _: calls.append((layer, inputs[0].shape))) for layer in layers
    ]
    model(x)
    for handle in handles:
        handle.remove()
    copies = {layer: copy.deepcopy(layer) for layer in layers}
    at_hand = {call: _inputs(copies[call[0]], call[1], x) for call in calls}
    work = [(copies[layer], *at_hand[layer, shape]) for layer, shape in calls]

    def run() -> None:
        for layer, inputs, gradient in work:
            layer(inputs).backward(gradient)

    return run


def _inputs(layer: nn.Module, shape: torch.Size, like: Tensor) -> tuple[Tensor, Tensor]:
    inputs = torch.rand(shape, device=like.device, requires_grad=True)
    return inputs, torch.rand_like(layer(inputs))
