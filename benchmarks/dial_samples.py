"""Samples of models with a dial beside those of separate runs, by more than one measure; see README.md.

Runs are those of dial.py in the same folder, and are trained where it has not.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch

from benchmarks.dial import IMAGES, PRESETS, Task, trained
from bridle.data import DataSet, Split
from bridle.evaluation import energy_distance, measure_split, prior_holes
from bridle.models import LatentModel
from bridle.training.build import build_data
from bridle.training.load import load_dialled, load_run
from bridle.training.presets import preset_for

# Pictures of each kind are made of each of some 1,400 images so often.
TIMES = 5


class Samples(NamedTuple):
    """``rmse`` and ``kl`` of the training set; ``holes``: the ratio of :class:`bridle.evaluation.PriorHoles`, the model
    its own judge; ``by_separate`` and ``by_dials``: the same with separate runs of other seeds at the same kappa as
    judges, and with dials of other seeds; ``energy``: energy distance of samples from training images, pixel units;
    ``frechet``: distance of the Gaussians that have the moments of the two, in pixels, squared; ``nearest``: root mean
    squared distance per pixel of a sample from the nearest training image, and ``covered``: of a training image from
    the nearest sample."""

    rmse: float
    kl: float
    holes: float
    by_separate: float
    by_dials: float
    energy: float
    frechet: float
    nearest: float
    covered: float


def samples_of(model: LatentModel, judges: dict[str, list[LatentModel]], split: Split) -> Samples:
    ended = measure_split(model, split, most=IMAGES, times=max(1, round(IMAGES / len(split))))

    def holes(judge: LatentModel | None = None) -> float:
        ratio = prior_holes(model, split, len(split), TIMES, judge).ratio
        assert ratio is not None
        return ratio

    by = [statistics.mean(map(holes, judges[kind])) for kind in ("separate", "dial")]
    images = split.batch(torch.arange(len(split))).x
    with torch.no_grad():
        drawn = model.sample(TIMES * len(split), generator=torch.Generator().manual_seed(0)).clamp(0, 1)
    energy = statistics.mean(energy_distance(part, images)[0] for part in drawn.chunk(TIMES))
    x, y = drawn.flatten(1).double(), images.flatten(1).double()
    squares = torch.cdist(x, y).square() / y.shape[1]
    nearest, covered = (squares.min(dim=dim).values.mean().sqrt().item() for dim in (1, 0))
    return Samples(ended.rmse, ended.kl, holes(), *by, energy, frechet(x, y), nearest, covered)


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Frechet distance, squared, of the Gaussians with the moments of two sets of vectors."""
    means, covariances = ([f(x.numpy()) for x in (a, b)] for f in (lambda x: x.mean(0), lambda x: np.cov(x.T)))
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def separate(task: Task, data: DataSet, seed: int, kappa: float, times: int = 1) -> LatentModel:
    """The separate run of a kappa, or one with so many times its steps."""
    task = task if times == 1 else replace(task, out=task.out / "longer")
    folder = task.folder("separate", seed, kappa)
    trained(task.config(seed, kappa, times * task.steps), folder, data)
    return load_run(folder.path, "cpu").system.at()[0]


def dialled(task: Task, data: DataSet, seed: int, kappa: float) -> LatentModel:
    ends = f"{task.least:g}to{task.greatest:g}"
    folder = task.folder("dial", seed, ends)
    trained(task.config(seed, ends.replace("to", ":"), 2 * task.steps), folder, data)
    return load_dialled(folder.path).at(kappa)


def rows(task: Task, seeds: Sequence[int], kappas: Sequence[float], longer: bool) -> Iterator[str]:
    data = build_data(task.config(0, task.least, 1))
    split = data.split("train")
    yield (
        "| kappa | model | RMSE/kappa, KL | holes: by itself, by separate runs, by dials | energy distance "
        "| Frechet distance | a sample's nearest image, an image's nearest sample |"
    )
    yield "|---|---|---|---|---|---|---|"
    for kappa in kappas:
        models = {
            "separate": {seed: separate(task, data, seed, kappa) for seed in seeds},
            "dial": {seed: dialled(task, data, seed, kappa) for seed in seeds},
        }
        if longer:
            models["separate, twice the steps"] = {seed: separate(task, data, seed, kappa, 2) for seed in seeds}
        for kind, of_seeds in models.items():
            found = []
            for seed, model in of_seeds.items():
                # Of other seeds: a model's own twin would be no stranger to its pictures.
                judges = {
                    judge: [m for other, m in models[judge].items() if other != seed] for judge in ("separate", "dial")
                }
                found.append(samples_of(model, judges, split))
            s = Samples(*np.mean(found, axis=0))
            yield (
                f"| {kappa:g} | {kind} | {s.rmse / kappa:.3f}, {s.kl:.2f} "
                f"| {s.holes:.3f}, {s.by_separate:.3f}, {s.by_dials:.3f} | {s.energy:.4f} | {s.frechet:.3f} "
                f"| {s.nearest:.4f}, {s.covered:.4f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ConvVAE", choices=["ConvVAE", "ConvDRAW", "NVPVAE"])
    parser.add_argument("--every", type=int, default=1, help="of dial.py's ten kappas each so many-th")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="at least two: others are the judges")
    parser.add_argument("--longer", action="store_true", help="separate runs of as many steps as the dial has, too")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    given = parser.parse_args()
    if len(given.seeds) < 2:
        parser.error("--seeds: a model's judges are those of other seeds, so there must be two at least")
    steps = preset_for(given.model, PRESETS["Digits"]).steps
    task = Task("Digits", given.model, 0.06, 0.22, 10, steps, 0, given.out)
    for row in rows(task, given.seeds, task.asked()[:: given.every], given.longer):
        print(row, flush=True)


if __name__ == "__main__":
    main()
