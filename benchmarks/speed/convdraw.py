"""A training step of ConvDRAW: beside its own convolutions and nothing else, and beside public implementations."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.timing import Times, importable, in_turn, ratio, table
from bridle.geco import GECO, Constraint
from bridle.models import ConvDRAW
from bridle.training.presets import PRESETS

__all__ = ["measure"]

IMAGES = {"tiny": (1, 8, 8), "small": (1, 28, 28), "paper": (3, 32, 32)}
ROUNDS = {"tiny": 40, "small": 15, "paper": 2}

Loss = Callable[[Tensor], Tensor]
Shape = tuple[tuple[int, ...], tuple[int, ...], int]


def measure(peers: Path | None) -> list[str]:
    """The tables: shares of the ceiling, precisions, and peers.

    Arguments:
        peers: A folder with clones of the peers' repositories, in folders called ``wohlert``, ``denproc`` and
            ``gqnlib``.
    """
    parts = ["## ConvDRAW", "Forward, backward, Adam and GECO, at the presets; data at hand."]
    parts.append(_ceiling())
    parts.append(_beside_peers(peers))
    return parts


def _ceiling() -> str:
    rows = []
    for preset, image in IMAGES.items():
        settings = PRESETS["ConvDRAW"][preset]  # type: ignore[index]
        x = torch.rand(settings.batch, *image)
        model = ConvDRAW(image, **settings.model)
        step, flops = _step(model, *_ours(model), x), _flops(_ours(model)[0], x)
        bare = _bare(model, x)
        contestants = {"step": step, "bare": bare, "bf16": _step(model, *_ours(model), x, torch.bfloat16)}
        times = in_turn(contestants, ROUNDS[preset], warmup=1)
        rate = flops / times["step"].median / 1e9
        rows.append(
            [
                preset,
                f"{flops / 1e9:.3g}",
                times["step"].milliseconds(),
                f"{rate:.0f}",
                f"{flops / times['bare'].median / 1e9:.0f}",
                ratio(times["bare"], times["step"]),
                ratio(times["step"], times["bf16"]),
            ]
        )
    header = [
        "preset",
        "GFLOP",
        "step, ms",
        "GFLOP/s",
        "its convolutions alone, GFLOP/s",
        "share",
        "times as fast in bf16",
    ]
    return table(header, rows)


def _beside_peers(folder: Path | None) -> str:
    """Every peer at sizes of its own, beside ours with the same images, batch, steps, maps and kernel."""
    if folder is None:
        return "Peers were not measured: `--peers FOLDER` names a folder with clones of them."
    rows = []
    for name, enter in _PEERS.items():
        if not (folder / name).is_dir():
            rows.append([name, "not measured: no clone", "", "", "", "", ""])
            continue
        with importable(folder / name):
            x, settings, theirs, their_loss = enter()
        ours = ConvDRAW(tuple(x.shape[1:]), **settings)  # type: ignore[arg-type]
        our_flops, their_flops = _flops(_ours(ours)[0], x), _flops(their_loss, x)
        times = in_turn(
            {"ours": _step(ours, *_ours(ours), x), "theirs": _step(theirs, their_loss, lambda: None, x)},
            rounds=5,
            warmup=1,
        )
        per_flop = [
            Times(tuple(s / flops for s in times[who].seconds))
            for who, flops in (("theirs", their_flops), ("ours", our_flops))
        ]
        size = "x".join(map(str, x.shape))
        rows.append(
            [
                name,
                f"{size}, T {settings['steps']}, {settings['channels']} maps",
                f"{our_flops / 1e9:.3g}, {their_flops / 1e9:.3g}",
                times["ours"].milliseconds(),
                times["theirs"].milliseconds(),
                ratio(times["theirs"], times["ours"]),
                ratio(*per_flop),
            ]
        )
    header = ["peer", "size", "GFLOP, ours and theirs", "ours, ms", "theirs, ms", "times as fast", "per FLOP"]
    return table(header, rows)


def _ours(model: ConvDRAW) -> tuple[Loss, Callable[[], None]]:
    geco = GECO({"re": Constraint(upper=0.01, initial=100.0)})

    def loss(x: Tensor) -> Tensor:
        out = model(x)
        return geco(out.kl.mean(), re=(out.x_hat - x).square().mean()).loss

    return loss, geco.step


def _step(
    model: nn.Module,
    loss: Loss,
    after: Callable[[], None],
    x: Tensor,
    autocast: torch.dtype | None = None,
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
            total = loss(x)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        after()

    return step


def _flops(loss: Loss, x: Tensor) -> int:
    """Floating-point operations of the convolutions and matrix products of a forward and a backward pass."""
    with FlopCounterMode(display=False) as counter:
        loss(x).backward()
    flops: int = counter.get_total_flops()
    return flops


def _bare(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """The convolutions of a step and nothing else: on inputs that are at hand, forward and backward, as often as the
    step has them."""
    seen: Counter[Shape] = Counter()

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        seen[tuple(inputs[0].shape), tuple(layer.weight.shape), layer.padding[0]] += 1  # type: ignore[index]

    handles = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d)]  # type: ignore[arg-type]
    model(x)
    for handle in handles:
        handle.remove()
    work = []
    for (shape, weight_shape, padding), count in seen.items():
        layer = nn.Conv2d(weight_shape[1], weight_shape[0], weight_shape[2], padding=padding).to(x.device)
        inputs = torch.rand(shape, device=x.device, requires_grad=True)
        work.append((layer, inputs, torch.rand_like(layer(inputs)), count))

    def run() -> None:
        for layer, inputs, gradient, count in work:
            for _ in range(count):
                layer(inputs).backward(gradient)

    return run


def _wohlert() -> tuple[Tensor, dict[str, Any], nn.Module, Loss]:
    peer = importlib.import_module("gqn.generator")
    x, settings = (
        torch.rand(16, 3, 32, 32),
        {"steps": 4, "channels": 64, "latent_channels": 12, "kernel": 5, "scale": 4},
    )
    model = peer.GeneratorNetwork(x_dim=3, v_dim=1, r_dim=1, z_dim=12, h_dim=64, L=4)
    v, r = torch.zeros(len(x), 1), torch.zeros(len(x), 1, 1, 1)
    return x, settings, model, lambda x: _simple(*model(x, v, r), x)


def _gqnlib() -> tuple[Tensor, dict[str, Any], nn.Module, Loss]:
    peer = importlib.import_module("gqnlib.generation")
    x, settings = torch.rand(8, 3, 64, 64), {"steps": 4, "channels": 64, "latent_channels": 12, "kernel": 5, "scale": 4}
    model = peer.ConvolutionalDRAW(
        x_channel=3, v_dim=1, r_dim=1, z_channel=12, h_channel=64, u_channel=64, n_layer=4, scale=4
    )
    v, r = torch.zeros(len(x), 1), torch.zeros(len(x), 1, 1, 1)
    return x, settings, model, lambda x: _simple(*model(x, v, r), x)


def _denproc() -> tuple[Tensor, dict[str, Any], nn.Module, Loss]:
    peer = importlib.import_module("conv_draw")
    x, settings = (
        torch.rand(16, 3, 32, 32),
        {"steps": 4, "channels": 64, "latent_channels": 12, "kernel": 5, "scale": 2},
    )
    model = peer.ConvolutionalDRAW(x_dim=3, x_shape=(32, 32), h_dim=64, z_dim=12, T=4)
    return x, settings, model, lambda x: _simple(*model(x), x)


_PEERS = {"wohlert": _wohlert, "gqnlib": _gqnlib, "denproc": _denproc}


def _simple(x_hat: Tensor, kl: Tensor, x: Tensor) -> Tensor:
    return kl.sum() / len(x) + 100 * (x_hat - x).square().mean()
