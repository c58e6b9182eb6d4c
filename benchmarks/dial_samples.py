"""Samples of a model with a dial beside those of separate runs, by more than one measure; see README.md.

Runs are those of dial.py in the same folder, and are trained where it has not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch

from benchmarks.dial import IMAGES, PRESETS, Task, trained
from bridle.data import DataSet, Split
from bridle.evaluation import measure_split, prior_holes
from bridle.models import LatentModel
from bridle.training.build import build_data
from bridle.training.load import load_dialled, load_run
from bridle.training.presets import preset_for

SAMPLES = 5000


class Samples(NamedTuple):
    """``rmse`` and ``kl`` of the training set; ``prior``, ``data`` and ``holes`` as
    :class:`bridle.evaluation.PriorHoles` has them; ``frechet``: distance of the Gaussians that have the moments of
    samples and of training images, in pixels; ``nearest``: root mean squared distance per pixel of a sample from the
    nearest training image, and ``covered``: of a training image from the nearest sample."""

    rmse: float
    kl: float
    prior: float
    data: float
    holes: float
    frechet: float
    nearest: float
    covered: float


def samples_of(model: LatentModel, split: Split) -> Samples:
    ended = measure_split(model, split, most=IMAGES, times=max(1, round(IMAGES / len(split))))
    holes = prior_holes(model, split, len(split))
    assert holes.ratio is not None
    with torch.no_grad():
        drawn = model.sample(SAMPLES, generator=torch.Generator().manual_seed(0)).clamp(0, 1).flatten(1).double()
    images = split.batch(torch.arange(len(split))).x.flatten(1).double()
    squares = torch.cdist(drawn, images).square() / images.shape[1]
    nearest, covered = (squares.min(dim=dim).values.mean().sqrt().item() for dim in (1, 0))
    return Samples(ended.rmse, ended.kl, holes.prior, holes.data, holes.ratio, frechet(drawn, images), nearest, covered)


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Frechet distance, squared, of the Gaussians with the moments of two sets of vectors."""
    means, covariances = ([f(x.numpy()) for x in (a, b)] for f in (lambda x: x.mean(0), lambda x: np.cov(x.T)))
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def contestants(task: Task, data: DataSet, seed: int, kappa: float) -> Iterator[tuple[str, LatentModel]]:
    for times in (1, 2):
        longer = replace(task, out=task.out if times == 1 else task.out / "longer")
        folder = longer.folder("separate", seed, kappa)
        trained(task.config(seed, kappa, times * task.steps), folder, data)
        yield f"separate, {times * task.steps:,} steps", load_run(folder.path, "cpu").system.at()[0]
    ends = f"{task.least:g}to{task.greatest:g}"
    folder = task.folder("dial", seed, ends)
    trained(task.config(seed, ends.replace("to", ":"), 2 * task.steps), folder, data)
    yield f"dial, {2 * task.steps:,} steps", load_dialled(folder.path).at(kappa)


def rows(task: Task, seeds: Sequence[int], kappas: int) -> Iterator[str]:
    data = build_data(task.config(0, task.least, 1))
    split = data.split("train")
    yield (
        "| kappa | model | RMSE/kappa, KL | error of pictures from the prior, from posteriors | holes "
        "| Frechet distance | a sample's nearest image, an image's nearest sample |"
    )
    yield "|---|---|---|---|---|---|---|"
    for kappa in task.asked()[:kappas]:
        found: dict[str, list[Samples]] = {}
        for seed in seeds:
            for name, model in contestants(task, data, seed, kappa):
                found.setdefault(name, []).append(samples_of(model, split))
        for name, of_seeds in found.items():
            s = Samples(*np.mean(of_seeds, axis=0))
            yield (
                f"| {kappa:g} | {name} | {s.rmse / kappa:.3f}, {s.kl:.2f} | {s.prior:.4f}, {s.data:.4f} "
                f"| {s.holes:.2f} | {s.frechet:.3f} | {s.nearest:.4f}, {s.covered:.4f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ConvVAE", choices=["ConvVAE", "ConvDRAW", "NVPVAE"])
    parser.add_argument("--kappas", type=int, default=2, help="how many of dial.py's ten, from the tightest on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    given = parser.parse_args()
    steps = preset_for(given.model, PRESETS["Digits"]).steps
    task = Task("Digits", given.model, 0.06, 0.22, 10, steps, 0, given.out)
    for row in rows(task, given.seeds, given.kappas):
        print(row, flush=True)


if __name__ == "__main__":
    main()
