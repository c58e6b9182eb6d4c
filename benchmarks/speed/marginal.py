"""The marginal KL's densities of every z under every image, beside the obvious loop over images."""

from __future__ import annotations

import torch

from benchmarks.marginal_kl import bfloat16, obvious_loop, random_images, random_model, zuko_layers
from benchmarks.speed.ceiling import alone, flops
from benchmarks.speed.timing import in_turn, ratio, table

__all__ = ["measure"]

IMAGES, SAMPLES, ROUNDS = 128, 500, 5


@torch.no_grad()
def measure() -> list[str]:
    """The table."""
    model = random_model()
    x = random_images(IMAGES).batch(torch.arange(IMAGES)).x
    z = model.encode(x[torch.arange(SAMPLES) % IMAGES])
    layers = zuko_layers(model)

    def pairs() -> torch.Tensor:
        return model.log_posterior_pairs(z, model.posterior(x))

    def low() -> None:
        params = model.posterior(x)
        with bfloat16():
            model.log_posterior_pairs(z, params)

    ways = {
        "Bridle": pairs,
        "Bridle, bf16": low,
        "its matrix products alone": alone(model, pairs),
        "a loop over images with zuko": lambda: obvious_loop(model, layers, z, model.encoder(x)),
    }
    times = in_turn(ways, ROUNDS, warmup=1)
    slowest, count = times["a loop over images with zuko"], flops(pairs)
    rows = [
        [
            name,
            times[name].milliseconds(),
            f"{IMAGES * SAMPLES / times[name].median:,.0f}",
            "" if name.startswith("a loop") else f"{count / times[name].median / 1e9:.0f}",
            ratio(slowest, times[name]),
        ]
        for name in ways
    ]
    return [
        "## Marginal KL",
        f"log q(z|x) of {SAMPLES} z under {IMAGES} images, NVPVAE as at `small`: {count / 1e9:.0f} GFLOP. Table 2 "
        "needs 60 million of these densities.",
        table(["", "ms", "densities a second", "GFLOP/s", "times as fast as the loop"], rows),
    ]
