"""``bridle sample``"""

from __future__ import annotations

from pathlib import Path

import torch

from bridle.cli.parsing import add_best, add_kappa, kappa_from, make_parser, parse
from bridle.errors import ConfigError
from bridle.reports.finish import sample_grid, save_image
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.load import load_model

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Draws images from the prior and decodes them; of a conditional model, given contexts of the test split."""
    parser = make_parser("sample", "Draw images from a trained model.")
    parser.add_argument("run", type=str, metavar="RUN", help="The run's folder.")
    add_best(parser)
    add_kappa(parser)
    parser.add_argument("--n", type=int | None, default=None, help="How many; 64, or 16 contexts, if not given.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the noise.")
    parser.add_argument("--out", type=str | None, default=None, help="The picture; RUN/samples.png if not given.")
    namespace = parse(parser, arguments)
    if namespace.n is not None and namespace.n < 1:
        raise ConfigError(f"--n must be at least 1, got {namespace.n}")
    model = load_model(namespace.run, best=namespace.best, kappa=kappa_from(namespace.kappa))
    data = build_data(RunFolder(namespace.run).read_config())
    grid = sample_grid(model, data, torch.Generator().manual_seed(namespace.seed), namespace.n)
    print(f"written: {save_image(grid, namespace.out or Path(namespace.run) / 'samples.png')}")
