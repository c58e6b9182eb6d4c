"""Models of one architecture run as one, each with weights, images and noise of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from bridle.constraints import Reconstruction
from bridle.data import Batch
from bridle.errors import ConfigError
from bridle.models.base import LatentModel

__all__ = ["Pass", "StackedModel"]

_RANDOM = {torch.randn, torch.randn_like, torch.rand, torch.rand_like}


class Pass(NamedTuple):
    """What one model sees in a forward pass: a batch, and its noise in the order in which it is drawn."""

    batch: Batch
    noise: list[Tensor]


class StackedModel:
    """Models of one architecture, run as one by :func:`torch.func.vmap`.

    A model draws its noise as it goes, from torch's generator; stacked models cannot, since each has to see what it
    would see by itself. So the calls that draw are recorded once. :meth:`noise` repeats them, for one model after
    another, each after its own seed; and in the stacked pass every such call is answered with what was drawn. The
    models know nothing of it.

    The weights stay those of the models, which are stacked anew in each pass: gradients arrive at each of them, and
    separately, since no model's output depends on another's weights.

    Arguments:
        models: At least one, of one architecture, on one device.
        batch: Examples in a batch.

    Raises:
        ConfigError: Such models cannot be stacked: they have buffers, or do what vmap cannot.

    Example:
        >>> from bridle.models import ConvVAE
        >>> models = [ConvVAE((1, 8, 8)), ConvVAE((1, 8, 8))]
        >>> stack = StackedModel(models, batch=5)
        >>> passes = [Pass(Batch(torch.rand(5, 1, 8, 8)), stack.noise()) for _ in models]
        >>> [r.x_hat.shape for r in stack(passes)]
        [torch.Size([5, 1, 8, 8]), torch.Size([5, 1, 8, 8])]
    """

    def __init__(self, models: Sequence[LatentModel], batch: int) -> None:
        self.models = list(models)
        template = self.models[0]
        if any(True for _ in template.buffers()):
            raise ConfigError(
                f"{type(template).__name__} has buffers, which stacked models cannot: train its runs one by one"
            )
        self._names = [name for name, _ in template.named_parameters()]
        device = next(template.parameters()).device
        x = torch.rand(batch, *template.image_shape, device=device)
        context = None if template.context_shape is None else torch.rand(batch, *template.context_shape, device=device)
        self._draws: list[Callable[[], Tensor]] = []
        with torch.no_grad():
            with _Randomness(self._record):
                template(x, context)
            try:
                self([Pass(Batch(x, None, context), self.noise()) for _ in self.models])
            except (RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ConfigError(
                    f"{type(template).__name__} cannot be stacked: train its runs one by one ({reason})"
                ) from None

    def noise(self) -> list[Tensor]:
        """The random numbers of a pass of one model: the next ones of torch's generator."""
        return [draw() for draw in self._draws]

    def __call__(self, passes: Sequence[Pass]) -> list[Reconstruction]:
        """What each model makes of its own batch with its own noise, as it would by itself up to rounding.

        Arguments:
            passes: One for each model. If it is one and the same object for all, nothing of it is copied.
        """
        shared = all(one is passes[0] for one in passes)
        tensors = _tensors(passes[0]) if shared else [torch.stack(t) for t in zip(*map(_tensors, passes), strict=True)]
        weights = {name: _stack([model.get_parameter(name) for model in self.models]) for name in self._names}
        x_hat, kl = vmap(self._reconstruct, in_dims=(0, None if shared else 0))(weights, tensors)
        return [
            Reconstruction(one.batch.x, its_x_hat, its_kl, one.batch.label)
            for one, its_x_hat, its_kl in zip(passes, x_hat.unbind(), kl.unbind(), strict=True)
        ]

    def evaluate(self, passes: Sequence[Pass]) -> list[Reconstruction]:
        """The same in eval mode and without gradients."""
        template = self.models[0]
        template.eval()
        with torch.no_grad():
            outputs = self(passes)
        template.train()
        return outputs

    def _reconstruct(self, weights: dict[str, Tensor], tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
        template = self.models[0]
        images = 1 if template.context_shape is None else 2
        noise = iter(tensors[images:])
        with _Randomness(lambda draw: next(noise)):
            out = functional_call(template, weights, tuple(tensors[:images]))
        return out.x_hat, out.kl

    def _record(self, draw: Callable[[], Tensor]) -> Tensor:
        self._draws.append(draw)
        return draw()


class _Randomness(TorchFunctionMode):
    """Within it, every call that would draw random numbers is given to ``answer``, whose result stands for its own."""

    def __init__(self, answer: Callable[[Callable[[], Tensor]], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = partial(function, *args, **(kwargs or {}))
        return self.answer(call) if function in _RANDOM else call()


def _tensors(one: Pass) -> list[Tensor]:
    batch, noise = one
    return [batch.x, *noise] if batch.context is None else [batch.x, batch.context, *noise]


def _stack(weights: list[Tensor]) -> Tensor:
    """Weights of one shape, with a first dimension for the models."""
    if weights[0].dim() == 4 and weights[0].device.type == "cpu":
        # A convolution with stacked weights is one of many groups. On a CPU it is half as fast as the separate ones,
        # unless channels come last in memory: its weights', from which its output takes it over.
        return torch.stack([weight.permute(0, 2, 3, 1) for weight in weights]).permute(0, 1, 4, 2, 3)
    return torch.stack(weights)
