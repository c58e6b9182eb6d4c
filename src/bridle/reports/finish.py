"""The last files of a run's folder: its pictures and its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bridle.data import Batch, DataSet
from bridle.files import write_whole
from bridle.models import LatentModel
from bridle.reports.grids import conditional_grid, image_grid, pair_grid, side_by_side
from bridle.reports.page import write_report
from bridle.training.load import load_model

__all__ = ["finish_run", "sample_grid", "save_image"]

_SAMPLES = 64
_CONTEXTS = 16
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
    model = load_model(run)
    show = _as_shown(data)
    some = _examples(data, _RECONSTRUCTIONS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x_hat = model.reconstruct(some.x, some.context, generator)
    save_image(pair_grid(show(some.x), show(x_hat)), run / "reconstructions.png")
    save_image(sample_grid(model, data, generator), run / "samples.png")
    return write_report([run], run / "report.html")


def sample_grid(model: LatentModel, data: DataSet, generator: torch.Generator, n: int | None = None) -> Image.Image:
    """``n`` samples of a model (64 unless told); of a conditional one, eight for each of the contexts of ``n`` test
    examples (16 unless told), beside that context and its target."""
    show = _as_shown(data)
    with torch.no_grad():
        if model.context_shape is None:
            return image_grid(show(model.sample(n or _SAMPLES, generator=generator)))
        some = _examples(data, n or _CONTEXTS)
        assert some.context is not None
        given = [show(model.sample(len(some.x), some.context, generator)) for _ in range(_SAMPLES_GIVEN)]
        return conditional_grid(some.context, show(some.x), torch.stack(given))


def _examples(data: DataSet, n: int) -> Batch:
    test = data.split("test")
    return test.batch(torch.arange(min(n, len(test))))


def _as_shown(data: DataSet) -> Callable[[Tensor], Tensor]:
    return (lambda x: x) if data.colored else side_by_side


def save_image(image: Image.Image, path: str | Path) -> Path:
    """Writes a picture as PNG, whole or not at all; returns its path."""
    path = Path(path)
    with write_whole(path) as file:
        image.save(file, format="PNG")
    return path
