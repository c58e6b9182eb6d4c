"""What a training step cannot avoid: its convolutions and matrix products, counted, and run by themselves."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["alone", "bandwidth", "flops", "least_bytes"]

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def flops(run: Callable[[], Tensor]) -> int:
    """Floating-point operations of the convolutions and matrix products of a forward pass, and of the backward pass of
    what it gives, where that has one."""
    with FlopCounterMode(display=False) as counter:
        made = run()
        if made.requires_grad:
            made.backward()
    total: int = counter.get_total_flops()
    return total


def least_bytes(model: nn.Module, x: Tensor) -> int:
    """What a step in float32 moves even if everything but its layers is free.

    Each layer reads its input and its weights and writes its output; on the way back it reads the output's gradient,
    and input and weights again, and writes the gradients of both. Adam reads and writes every weight and its two
    moments, and reads the gradient.
    """
    numbers = 7 * sum(weight.numel() for weight in model.parameters())
    for call in _calls(model, lambda: model(x)):
        read, written = math.prod(call.shape), math.prod(call.made)
        weights = sum(weight.numel() for weight in call.layer.parameters())
        numbers += 2 * read + 2 * written + 3 * weights + call.differentiated * read
    return 4 * numbers


def bandwidth(device: torch.device, megabytes: int = 256) -> Callable[[], None]:
    """A copy that reads and writes as many bytes each."""
    source = torch.ones(megabytes * 250_000, device=device)
    copied = torch.empty_like(source)

    def run() -> None:
        copied.copy_(source)

    return run


def alone(model: nn.Module, forward: Callable[[], object]) -> Callable[[], None]:
    """The layers of a step and nothing else, as often as the step has them: on inputs that are at hand, forward and,
    where gradients are enabled, backward."""
    calls = _calls(model, forward)
    copies = {call.layer: copy.deepcopy(call.layer) for call in calls}
    at_hand = {call: _at_hand(copies[call.layer], call) for call in calls}
    work = [(copies[call.layer], *at_hand[call]) for call in calls]

    def run() -> None:
        for layer, inputs, gradient in work:
            made = layer(inputs)
            if made.requires_grad:
                made.backward(gradient)

    return run


class _Call(NamedTuple):
    """``differentiated``: whether the gradient goes on to what is before the layer, as it does not where that is x."""

    layer: nn.Module
    shape: torch.Size
    made: torch.Size
    differentiated: bool


def _calls(model: nn.Module, forward: Callable[[], object]) -> list[_Call]:
    calls: list[_Call] = []
    handles = [
        layer.register_forward_hook(
            lambda layer, inputs, made: calls.append(_Call(layer, inputs[0].shape, made.shape, inputs[0].requires_grad))
        )
        for layer in model.modules()
        if isinstance(layer, LAYERS)
    ]
    forward()
    for handle in handles:
        handle.remove()
    return calls


def _at_hand(layer: nn.Module, call: _Call) -> tuple[Tensor, Tensor]:
    device = next(layer.parameters()).device
    inputs = torch.rand(call.shape, device=device, requires_grad=call.differentiated)
    return inputs, torch.rand(call.made, device=device)
