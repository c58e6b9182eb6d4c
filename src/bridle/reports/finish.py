"""The last files of a run's folder: its pictures and its page."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from bridle.data import Batch, DataSet
from bridle.files import write_whole
from bridle.models import LatentModel
from bridle.reports.grids import conditional_grid, image_grid, pair_grid
from bridle.reports.page import write_report
from bridle.training.load import load_run

__all__ = ["finish_run", "sample_grid", "save_image"]

_SAMPLES = 64
_SAMPLES_GIVEN = 8  # of each context
_RECONSTRUCTIONS = 16


def finish_run(run: Path, data: DataSet) -> Path:
    """Draws samples.png and reconstructions.png (of test images) and writes report.html; returns that page's path.

    Arguments:
        run: The run's folder.
        data: What it was trained on.

    Raises:
        CheckpointError: The folder holds no finished run.
    """
    model = load_run(run).model
    test = data.split("test")
    generator = torch.Generator().manual_seed(0)
    some = test.batch(torch.arange(min(_RECONSTRUCTIONS, len(test))))
    with torch.no_grad():
        x_hat = model.reconstruct(some.x, some.context, generator)
    save_image(pair_grid(some.x, x_hat.clamp(0, 1)), run / "reconstructions.png")
    save_image(sample_grid(model, some, generator), run / "samples.png")
    return write_report([run], run / "report.html")


def sample_grid(
    model: LatentModel, examples: Batch | None, generator: torch.Generator, n: int = _SAMPLES
) -> Image.Image:
    """``n`` samples of the model; where it is conditional, eight samples for each example's context instead, beside
    that context and its target."""
    with torch.no_grad():
        if model.context_shape is None:
            return image_grid(model.sample(n, generator=generator).clamp(0, 1))
        assert examples is not None and examples.context is not None
        given = [model.sample(len(examples.x), examples.context, generator) for _ in range(_SAMPLES_GIVEN)]
        return conditional_grid(examples.context, examples.x, torch.stack(given).clamp(0, 1))


def save_image(image: Image.Image, path: str | Path) -> Path:
    """Writes a picture as PNG, whole or not at all; returns its path."""
    path = Path(path)
    with write_whole(path) as file:
        image.save(file, format="PNG")
    return path
