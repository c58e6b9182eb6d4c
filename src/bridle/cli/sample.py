"""``bridle sample``"""

from __future__ import annotations

from pathlib import Path

import torch

from bridle import load
from bridle.cli.parsing import make_parser, parse
from bridle.errors import ConfigError
from bridle.reports.finish import save_image
from bridle.reports.grids import image_grid

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Draws images from the prior and decodes them."""
    parser = make_parser("sample", "Draw images from a trained model.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    parser.add_argument("--n", type=int, default=64, help="How many.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the noise.")
    parser.add_argument("--out", type=str | None, default=None, help="The picture; RUN/samples.png if not given.")
    namespace = parse(parser, arguments)
    if namespace.n < 1:
        raise ConfigError(f"--n must be at least 1, got {namespace.n}")
    model = load(namespace.run)
    if model.context_shape is not None:
        raise ConfigError(f"{namespace.run} is conditional: its samples need contexts; see its report")
    with torch.no_grad():
        images = model.sample(namespace.n, generator=torch.Generator().manual_seed(namespace.seed))
    out = save_image(image_grid(images.clamp(0, 1)), namespace.out or Path(namespace.run) / "samples.png")
    print(f"written: {out}")
