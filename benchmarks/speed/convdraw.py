"""A training step of ConvDRAW: beside its own convolutions and nothing else, and beside public implementations."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.ceiling import alone, bandwidth, flops, least_bytes
from benchmarks.speed.timing import Times, importable, in_turn, ratio, table
from bridle.geco import GECO, Constraint
from bridle.models import ConvDRAW
from bridle.training.presets import PRESETS

__all__ = ["measure", "objective_of", "training_step"]

IMAGES = {"tiny": (1, 8, 8), "small": (1, 28, 28), "paper": (3, 32, 32)}
ROUNDS = {"tiny": 40, "small": 15, "paper": 2}
MEGABYTES = 256
COMPILED = ("tiny", "small")
"""Presets at which the loss is compiled, too."""

Loss = Callable[[Tensor], Tensor]


def measure(peers: Path | None) -> list[str]:
    """The tables: shares of the ceiling, precisions, and peers.

    Arguments:
        peers: A folder with clones of the peers' repositories, in folders called ``wohlert``, ``denproc`` and
            ``gqnlib``.
    """
    copied = in_turn({"copy": bandwidth(torch.device("cpu"), MEGABYTES)}, rounds=20)["copy"].median
    return [
        "## ConvDRAW",
        "Forward, backward, Adam and GECO, at the presets; data at hand. GFLOP: of the convolutions, forward and "
        "backward. MB: what these read and write at least, and Adam; a large copy moves "
        f"{2e-3 * MEGABYTES / copied:.0f} GB a second here. The aim: 70% of the rate of its convolutions alone at "
        "`small`.",
        _ceiling(),
        "Beside peers, each at sizes of its own: the same images, batch, steps, maps and kernel. The aim: 1.5 times "
        "the best of them per operation.",
        _beside_peers(peers),
    ]


def _ceiling() -> str:
    rows = []
    for preset, image in IMAGES.items():
        settings = PRESETS["ConvDRAW"][preset]  # type: ignore[index]
        x = torch.rand(settings.batch, *image)
        model = ConvDRAW(image, **settings.model)
        count = flops(partial(objective_of(model)[0], x))
        contestants = {
            "step": training_step(model, *objective_of(model), x),
            "alone": alone(model, partial(model, x)),
            "bf16": training_step(model, *objective_of(model), x, torch.bfloat16),
        }
        compiling = "–"
        if preset in COMPILED:
            contestants["compiled"], seconds = _compiled(model, x)
            compiling = f"{seconds:.0f}"
        times = in_turn(contestants, ROUNDS[preset], warmup=1)
        rows.append(
            [
                preset,
                f"{count / 1e9:.3g}",
                f"{least_bytes(model, x) / 1e6:.3g}",
                times["step"].milliseconds(),
                f"{count / times['step'].median / 1e9:.0f}",
                f"{count / times['alone'].median / 1e9:.0f}",
                ratio(times["alone"], times["step"]),
                ratio(times["step"], times["bf16"]),
                ratio(times["step"], times["compiled"]) if "compiled" in times else "–",
                compiling,
            ]
        )
    header = [
        "preset",
        "GFLOP",
        "MB",
        "step, ms",
        "GFLOP/s",
        "its convolutions alone, GFLOP/s",
        "share",
        "times as fast in bf16",
        "compiled",
        "seconds to compile",
    ]
    return table(header, rows)


def _beside_peers(folder: Path | None) -> str:
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
        our_flops, their_flops = flops(partial(objective_of(ours)[0], x)), flops(partial(their_loss, x))
        times = in_turn(
            {
                "ours": training_step(ours, *objective_of(ours), x),
                "theirs": training_step(theirs, their_loss, lambda: None, x),
            },
            rounds=5,
            warmup=1,
        )
        per_flop = [
            Times(tuple(s / count for s in times[who].seconds))
            for who, count in (("theirs", their_flops), ("ours", our_flops))
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


def objective_of(model: ConvDRAW) -> tuple[Loss, Callable[[], None]]:
    """The loss of a batch by GECO, and the step of its multiplier."""
    geco = GECO({"re": Constraint(upper=0.01, initial=100.0)}).to(next(model.parameters()).device)

    def loss(x: Tensor) -> Tensor:
        out = model(x)
        return geco(out.kl.mean(), re=(out.x_hat - x).square().mean()).loss

    return loss, geco.step


def training_step(
    model: nn.Module,
    loss: Loss,
    after: Callable[[], None],
    x: Tensor,
    autocast: torch.dtype | None = None,
) -> Callable[[], None]:
    """Forward, backward, Adam, and what comes after."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
            total = loss(x)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        after()

    return step


def _compiled(model: ConvDRAW, x: Tensor) -> tuple[Callable[[], None], float]:
    """A step whose loss is compiled, and the seconds that its first run takes."""
    loss, after = objective_of(model)
    step = training_step(model, torch.compile(loss), after, x)
    began = time.perf_counter()
    step()
    return step, time.perf_counter() - began


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
