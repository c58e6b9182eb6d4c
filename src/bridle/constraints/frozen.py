"""A network that constraints look through and that nothing changes."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bridle.errors import ConfigError

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """Holds a network so that it stays as it is: without gradients of its own, in eval mode even after ``train()``,
    and outside ``parameters()`` and ``state_dict()``, which keeps only a checksum of its weights, so that another
    network is refused when a checkpoint is loaded. It follows to a device.

    Gradients flow through it to its input.

    Arguments:
        network: Any module that takes images ``(B, C, H, W)`` in [0, 1]. It is changed: frozen, and put in eval mode.

    Example:
        >>> frozen = Frozen(nn.Conv2d(1, 2, 3))
        >>> list(frozen.parameters()), list(frozen.state_dict()), frozen.train().network.training
        ([], ['checksum'], False)
    """

    checksum: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that it is no submodule: neither modes nor optimizers nor checkpoints reach it.
        self._held = (network.eval().requires_grad_(False),)
        self.register_buffer("checksum", torch.tensor(_checksum(network)))

    @property
    def network(self) -> nn.Module:
        """The network."""
        return self._held[0]

    def forward(self, images: Tensor) -> Tensor:
        """What the network gives."""
        return self.network(images)

    def features(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """The outputs of the layers of these names, in their order. What comes after the last of them is not run.

        Raises:
            ConfigError: A layer does not exist, is not reached, or gives no features of shape (B, channels, ...).
        """
        found: dict[str, Tensor] = {}
        with self._stopping_after(layers, found):
            self.network(images)
        for name in layers:
            if name not in found:
                raise ConfigError(f"layer {name!r} of {type(self.network).__name__} is not reached, or gives no tensor")
            if found[name].dim() < 2:
                raise ConfigError(f"layer {name!r} of {type(self.network).__name__} has no channels")
        return [found[name] for name in layers]

    @torch.no_grad()
    def try_out(self, image_shape: tuple[int, int, int], layers: Sequence[str] = ()) -> Tensor:
        """What it makes of one black image: the features of the first of these layers, or what it gives itself.

        Raises:
            ConfigError: It cannot take such images.
        """
        device = next((tensor.device for tensor in self.network.state_dict().values()), None)
        black = torch.zeros(1, *image_shape, device=device)
        try:
            return self.features(black, layers)[0] if layers else self(black)
        except RuntimeError as error:
            size, reason = "x".join(map(str, image_shape)), " ".join(str(error).split())[:150]
            raise ConfigError(f"{type(self.network).__name__} cannot take images of {size}: {reason}") from None

    @contextmanager
    def _stopping_after(self, layers: Sequence[str], found: dict[str, Tensor]) -> Iterator[None]:
        modules = dict(self.network.named_modules())
        for name in layers:
            if not name or name not in modules:
                known = [n for n in modules if n]
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:8]
                raise ConfigError(f"{type(self.network).__name__} has no layer {name!r}: there are {', '.join(near)}")

        def keep(name: str) -> Callable[[nn.Module, object, object], None]:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                if isinstance(output, Tensor) and name not in found:
                    found[name] = output
                    if len(found) == len(set(layers)):
                        raise _AllFound
                    found[name] = output.clone()  # the next layer may work in place

            return hook

        handles = [modules[name].register_forward_hook(keep(name)) for name in dict.fromkeys(layers)]
        try:
            yield
        except _AllFound:
            pass
        finally:
            for handle in handles:
                handle.remove()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: object) -> None:
        saved = state_dict.get(f"{prefix}checksum")
        if saved is not None and int(saved) != int(self.checksum):
            raise ValueError("the classifier that the constraint looks through is another than the run was trained by")
        super()._load_from_state_dict(state_dict, prefix, *args)


class _AllFound(Exception):
    """Ends a forward pass whose rest nobody needs."""


def _checksum(network: nn.Module) -> int:
    total = 0
    for name, tensor in network.state_dict().items():
        total = zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), total)
        total = zlib.crc32(name.encode(), total)
    return total
