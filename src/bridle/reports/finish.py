"""The last files of a run's folder: its pictures and its page."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from bridle.data import DataSet
from bridle.files import write_whole
from bridle.reports.grids import image_grid, pair_grid
from bridle.reports.page import write_report
from bridle.training.load import load_run

__all__ = ["finish_run", "save_image"]

_SAMPLES = 64
_RECONSTRUCTIONS = 16


def finish_run(run: Path, data: DataSet) -> Path:
    """Draws samples.png and reconstructions.png (of test images) and writes report.html; returns that page's path.

    Arguments:
        run: The run's folder.
        data: What it was trained on.

    Raises:
        CheckpointError: The folder holds no finished run.
    """
    loaded = load_run(run)
    test = data.split("test")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        some = test.batch(torch.arange(min(_RECONSTRUCTIONS, len(test))))
        x_hat = loaded.model.reconstruct(some.x, some.context, generator)
        save_image(pair_grid(some.x, x_hat.clamp(0, 1)), run / "reconstructions.png")
        many = test.batch(torch.arange(_SAMPLES) % len(test))
        samples = loaded.model.sample(_SAMPLES, many.context, generator)
        save_image(image_grid(samples.clamp(0, 1)), run / "samples.png")
    return write_report([run], run / "report.html")


def save_image(image: Image.Image, path: str | Path) -> Path:
    """Writes a picture as PNG, whole or not at all; returns its path."""
    path = Path(path)
    with write_whole(path) as file:
        image.save(file, format="PNG")
    return path
