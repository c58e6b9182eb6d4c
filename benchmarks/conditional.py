"""How often a conditional model's samples are what their context asks for, in the eyes of a classifier of real digits.

For runs on MNISTRotate (the context's first digit, turned by 30 degrees times the second) and MNISTSum (the sum of the
context's digits modulo 10). A turned digit is turned back by its context's angle before the classifier sees it. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

from bridle.classifiers import load_classifier
from bridle.classifiers.network import Classifier
from bridle.data import Batch
from bridle.data.rotation import rotate
from bridle.data.triplets import DEGREES, TripletSplit
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.load import load_model

AT_ONCE = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--classifier", required=True, help="trained by: bridle classifier train --data MNIST")
    parser.add_argument("--contexts", type=int, default=10_000, help="test contexts, one sample each")
    args = parser.parse_args()
    classifier = load_classifier(args.classifier)
    print("| Run | samples right | reconstructions right | targets themselves | contexts |\n|---|---|---|---|---|")
    for run in args.runs:
        samples, reconstructions, targets, n = _verdict(run, classifier, args.contexts)
        error = math.sqrt(samples * (1 - samples) / n)
        print(f"| {run} | {samples:.1%} ± {error:.1%} | {reconstructions:.1%} | {targets:.1%} | {n:,} |", flush=True)


@torch.no_grad()
def _verdict(run: str, classifier: Classifier, contexts: int) -> tuple[float, float, float, int]:
    """Shares of samples, of reconstructions and of the targets themselves whose digit is the right one."""
    data = build_data(RunFolder(run).read_config())
    split = data.split("test")
    if not isinstance(split, TripletSplit) or split.image_shape[0] != 1 or split.context_shape is None:
        raise SystemExit(f"{run} was not trained on MNISTRotate or MNISTSum")
    model = load_model(run)
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(min(contexts, len(split)))
    right = torch.zeros(3)
    for part in index.split(AT_ONCE):
        batch: Batch = split.batch(part)
        angle = -DEGREES * split.digits[part, 1] if split.turned else None
        sampled = model.sample(len(part), batch.context, generator)
        reconstructed = model.reconstruct(batch.x, batch.context, generator)
        for i, images in enumerate((sampled, reconstructed, batch.x)):
            right[i] += (_digit(classifier, images, angle) == batch.label).sum()
    samples, reconstructions, targets = (right / len(index)).tolist()
    return samples, reconstructions, targets, len(index)


def _digit(classifier: Classifier, images: Tensor, angle: Tensor | None) -> Tensor:
    images = images.clamp(0, 1)
    return classifier(images if angle is None else rotate(images, angle)).argmax(dim=1)


if __name__ == "__main__":
    main()
