"""``bridle encode``"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bridle import load
from bridle.cli.parsing import add_best, add_kappa, kappa_from, make_parser, parse, refuse_conditional
from bridle.data.folder import image_files
from bridle.data.image import read_images
from bridle.errors import ConfigError
from bridle.files import write_whole

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Writes a sample of the posterior of each image: ``z`` of shape (N, ...), and ``names``."""
    parser = make_parser("encode", "Write the latents of images into one .npz file: z, of shape (N, ...), and names.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    add_best(parser)
    add_kappa(parser)
    parser.add_argument("path", type=str, metavar="PATH", help="An image, or a folder of images.")
    parser.add_argument("--out", type=str, required=True, help="The file, such as z.npz.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the posterior's noise.")
    namespace = parse(parser, arguments)
    if not namespace.out.endswith(".npz"):
        raise ConfigError(f"--out must end in .npz, got {namespace.out}")
    model = load(namespace.run, best=namespace.best, kappa=kappa_from(namespace.kappa))
    refuse_conditional(model, namespace.run)
    path = Path(namespace.path)
    files = image_files(path) if path.is_dir() else [path]
    generator = torch.Generator().manual_seed(namespace.seed)
    with torch.no_grad():
        parts = [files[i : i + 256] for i in range(0, len(files), 256)]
        z = torch.cat([model.encode(read_images(part, model.image_shape), generator=generator) for part in parts])
    with write_whole(Path(namespace.out)) as file:
        np.savez(file, z=z.numpy(), names=np.array([str(f) for f in files]))
    print(f"written: {namespace.out}, z of shape {tuple(z.shape)}")
