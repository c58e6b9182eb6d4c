"""``bridle classifier train``"""

from __future__ import annotations

from pathlib import Path

from bridle.classifiers import train_and_save
from bridle.classifiers.network import BLOCKS, WIDTH
from bridle.classifiers.training import STEPS
from bridle.cli.parsing import make_parser, parse
from bridle.cli.settings import data_from
from bridle.data import DataSet
from bridle.errors import ConfigError

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Trains a classifier on a data set's labels, for the constraints fre, lpips and cla."""
    parser = make_parser("classifier train", "Train a classifier whose features or verdicts constraints use.")
    parser.add_subclass_arguments(
        DataSet,
        "data",
        default={"class_path": "bridle.data.Digits"},
        help="A data set with labels: a name, or an import path.",
    )
    parser.add_argument("--out", type=str | None, default=None, help="The folder for the classifier.")
    parser.add_argument("--steps", type=int, default=STEPS, help="Steps of the optimizer, each of 128 images.")
    parser.add_argument("--width", type=int, default=WIDTH, help="Channels of the first layer.")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="Residual blocks in each of the three layers.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the weights and the order of the images.")
    parser.add_argument(
        "--overwrite", nargs="?", type=bool, const=True, default=False, help="Replace the classifier in the folder."
    )
    wanted = arguments[:1]
    if wanted in (["-h"], ["--help"]):
        parser.parse_args(wanted)
    if wanted != ["train"]:
        raise ConfigError("say what to do: bridle classifier train --data CIFAR10 --out c/")
    namespace = parse(parser, arguments[1:], {"data": DataSet})
    if namespace.out is None:
        raise ConfigError("--out is missing: the folder for the classifier, such as --out c/")
    out = Path(namespace.out)
    if (out / "classifier.pt").exists() and not namespace.overwrite:
        raise ConfigError(f"{out} holds a classifier: choose another --out, or replace it by --overwrite")
    info = train_and_save(data_from(namespace), out, namespace.steps, namespace.width, namespace.blocks, namespace.seed)
    print(f"accuracy on the test split: {info['accuracy']:.2%}")
    print(f"written: {out / 'classifier.pt'}, {out / 'classifier.json'}")
