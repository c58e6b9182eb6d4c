"""Sizes that fit together, by model family: ``tiny`` for 8x8 images, ``small`` for 28x28 or 32x32, ``paper``.

A preset sets what the command line would otherwise take from the defaults; any option given beside it wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bridle.errors import ConfigError

__all__ = ["PRESETS", "Preset", "PresetName", "preset_for"]

PresetName = Literal["tiny", "small", "paper"]


@dataclass(frozen=True)
class Preset:
    """Settings of a model, and of its training: steps, examples a step, Adam's learning rate."""

    model: dict[str, Any]
    steps: int
    batch: int
    lr: float


PRESETS: dict[str, dict[PresetName, Preset]] = {
    "ConvVAE": {
        "tiny": Preset({"latents": 32, "width": 16, "hidden": 256}, steps=3000, batch=128, lr=1e-3),
        "small": Preset({"latents": 32, "width": 16, "hidden": 256}, steps=20_000, batch=128, lr=1e-3),
        "paper": Preset({"latents": 128, "width": 64, "hidden": 512}, steps=500_000, batch=128, lr=1e-4),
    },
    "ConvDRAW": {
        "tiny": Preset(
            {"steps": 4, "channels": 32, "latent_channels": 4, "kernel": 3, "scale": 2}, steps=1500, batch=64, lr=1e-3
        ),
        "small": Preset(
            {"steps": 6, "channels": 32, "latent_channels": 8, "kernel": 3, "scale": 4}, steps=4000, batch=64, lr=1e-3
        ),
        "paper": Preset(
            {"steps": 12, "channels": 128, "latent_channels": 12, "kernel": 5, "scale": 4},
            steps=200_000,
            batch=64,
            lr=3e-4,
        ),
    },
    "NVPVAE": {
        "tiny": Preset(
            {"latents": 16, "width": 16, "hidden": 128, "couplings": 4, "flow_hidden": 64},
            steps=6000,
            batch=64,
            lr=1e-3,
        ),
        "small": Preset(
            {"latents": 64, "width": 32, "hidden": 256, "couplings": 8, "flow_hidden": 256},
            steps=15_000,
            batch=64,
            lr=1e-3,
        ),
        "paper": Preset(
            {"latents": 128, "width": 64, "hidden": 512, "couplings": 8, "flow_hidden": 256},
            steps=500_000,
            batch=128,
            lr=1e-4,
        ),
    },
}


def preset_for(model: str, name: PresetName) -> Preset:
    """The preset of a model family.

    Arguments:
        model: The class's name or import path.
        name: Which size.

    Raises:
        ConfigError: A model without presets.

    Example:
        >>> preset_for("bridle.models.ConvDRAW", "tiny").steps
        1500
    """
    family = model.rpartition(".")[2]
    if family not in PRESETS:
        raise ConfigError(f"preset {name}: {model} has none; there are presets for {', '.join(PRESETS)}")
    return PRESETS[family][name]
