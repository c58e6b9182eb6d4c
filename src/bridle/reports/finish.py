"""The last files of a run's folder: its pictures and its page."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from bridle.data import DataSet
from bridle.files import write_whole
from bridle.models import LatentModel
from bridle.reports.curve import write_curve
from bridle.reports.grids import conditional_grid, image_grid, pair_grid
from bridle.reports.page import write_report
from bridle.reports.shown import as_shown, examples
from bridle.training.build import build_dial
from bridle.training.folder import RunFolder
from bridle.training.load import load_model

__all__ = ["finish_run", "sample_grid", "save_image"]

_SAMPLES = 64
_CONTEXTS = 16
_SAMPLES_GIVEN = 8  # of each context
_RECONSTRUCTIONS = 16


def finish_run(run: Path, data: DataSet) -> Path:
    """Draws samples.png and reconstructions.png (of test images) and writes report.html; returns that page's path. Of
    a run with a dial the pictures are those of its middle, and curve.html is written too.

    Arguments:
        run: The run's folder.
        data: What it was trained on.

    Raises:
        CheckpointError: The folder holds no finished run.
    """
    dial = build_dial(RunFolder(run).read_config())
    model = load_model(run, kappa=None if dial is None else dial.middle)
    show = as_shown(data)
    some = examples(data, _RECONSTRUCTIONS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x_hat = model.reconstruct(some.x, some.context, generator)
    save_image(pair_grid(show(some.x), show(x_hat)), run / "reconstructions.png")
    save_image(sample_grid(model, data, generator), run / "samples.png")
    if dial is not None:
        write_curve(run, data, run / "curve.html")
    return write_report([run], run / "report.html")


def sample_grid(model: LatentModel, data: DataSet, generator: torch.Generator, n: int | None = None) -> Image.Image:
    """``n`` samples of a model (64 unless told); of a conditional one, eight for each of the contexts of ``n`` test
    examples (16 unless told), beside that context and its target."""
    show = as_shown(data)
    with torch.no_grad():
        if model.context_shape is None:
            return image_grid(show(model.sample(n or _SAMPLES, generator=generator)))
        some = examples(data, n or _CONTEXTS)
        assert some.context is not None
        given = [show(model.sample(len(some.x), some.context, generator)) for _ in range(_SAMPLES_GIVEN)]
        return conditional_grid(some.context, show(some.x), torch.stack(given))


def save_image(image: Image.Image, path: str | Path) -> Path:
    """Writes a picture as PNG, whole or not at all; returns its path."""
    path = Path(path)
    with write_whole(path) as file:
        image.save(file, format="PNG")
    return path
