"""``bridle reconstruct``"""

from __future__ import annotations

from pathlib import Path

import torch

from bridle import load
from bridle.cli.parsing import add_best, add_kappa, kappa_from, make_parser, parse, refuse_conditional
from bridle.data.image import read_images
from bridle.reports.finish import save_image
from bridle.reports.grids import pair_grid

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Encodes and decodes images, prints each one's error, and draws them over their reconstructions."""
    parser = make_parser("reconstruct", "Encode and decode images: originals above, reconstructions below.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    add_best(parser)
    add_kappa(parser)
    parser.add_argument("images", type=str, nargs="+", metavar="IMAGE", help="Image files, cropped and resized to fit.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the posterior's noise.")
    parser.add_argument("--out", type=str | None, default=None, help="The picture; RUN/reconstructed.png if not given.")
    namespace = parse(parser, arguments)
    model = load(namespace.run, best=namespace.best, kappa=kappa_from(namespace.kappa))
    refuse_conditional(model, namespace.run)
    files = [Path(name) for name in namespace.images]
    x = read_images(files, model.image_shape)
    with torch.no_grad():
        x_hat = model.reconstruct(x, generator=torch.Generator().manual_seed(namespace.seed))
    for file, error in zip(files, (x - x_hat).square().mean(dim=(1, 2, 3)).sqrt().tolist(), strict=True):
        print(f"{file}: rmse {error:.4f}")
    out = save_image(pair_grid(x, x_hat.clamp(0, 1)), namespace.out or Path(namespace.run) / "reconstructed.png")
    print(f"written: {out}")
