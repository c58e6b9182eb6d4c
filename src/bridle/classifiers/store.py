"""Classifiers on disk: a folder with classifier.pt, all that is needed, and classifier.json, for people."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch

from bridle.classifiers.network import BLOCKS, WIDTH, Classifier
from bridle.classifiers.training import STEPS, accuracy, train_classifier
from bridle.data import DataSet
from bridle.data.base import missing_labels
from bridle.data.files import cache_folder
from bridle.errors import CheckpointError, ConfigError
from bridle.files import write_whole

__all__ = ["default_classifier", "load_classifier", "save_classifier", "train_and_save", "untrained_classifier"]

log = logging.getLogger("bridle")

_RECIPE = 1  # part of a cached classifier's key: to be raised with every change of the network or its training


def train_and_save(
    data: DataSet,
    folder: Path,
    steps: int = STEPS,
    width: int = WIDTH,
    blocks: int = BLOCKS,
    seed: int = 0,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Trains a classifier, with a progress bar, and writes it into a folder.

    Arguments:
        data: A data set with labels, in the training and the test split.
        folder: Where to; it is made.
        steps, width, blocks, seed, device: As for :func:`bridle.classifiers.train_classifier`.

    Returns:
        The contents of classifier.json: the settings, and ``accuracy`` (0 to 1) on the test split.

    Raises:
        ConfigError: Before the training: labels that are missing, a setting out of its range, or a folder that cannot
            be written to.
    """
    if (missing := missing_labels(data, "train", "test")) is not None:
        raise ConfigError(f"{type(data).__name__} has {missing} to train a classifier on")
    _refuse_unwritable(folder)
    network = train_classifier(data, steps, width, blocks, seed, device, progress=True)
    info = {
        "data": type(data).__name__,
        "image_shape": list(data.split("train").image_shape),
        **network.settings(),
        "steps": steps,
        "seed": seed,
        "accuracy": accuracy(network, data.split("test")),
    }
    save_classifier(network, folder)
    with write_whole(folder / "classifier.json") as file:
        file.write((json.dumps(info, indent=2) + "\n").encode())
    return info


def save_classifier(network: Classifier, folder: Path) -> None:
    """Writes what :func:`load_classifier` reads into a folder, which is made."""
    weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    serialized = io.BytesIO()
    torch.save({"settings": network.settings(), "weights": weights}, serialized)
    with write_whole(folder / "classifier.pt") as file:
        file.write(serialized.getbuffer())


def load_classifier(folder: str | Path) -> Classifier:
    """The classifier of a folder, in eval mode, on the CPU.

    Raises:
        CheckpointError: The folder holds none, or its file is damaged.
    """
    path = Path(folder) / "classifier.pt"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no classifier: make one by bridle classifier train --out {folder}")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        network = Classifier(**saved["settings"])
        network.load_state_dict(saved["weights"])
    except Exception as error:  # torch.load raises many kinds for damaged files
        raise CheckpointError(
            f"{path} is damaged or no classifier ({type(error).__name__}): make it anew by bridle classifier train"
        ) from None
    return network.eval()


def default_classifier(data: DataSet, option: str) -> Classifier:
    """The classifier of a data set's own labels: from the cache, or trained now and put there.

    Arguments:
        data: The data set. What it was made with does not matter to the cache, only its training images and labels.
        option: The constraint that asks, for messages.

    Raises:
        ConfigError: The data have no labels.
    """
    _refuse_unlabelled(data, option)
    name = type(data).__name__
    folder = cache_folder() / "classifiers" / f"{name}-{_digest(data)[:16]}"
    if not (folder / "classifier.pt").is_file():
        log.info("no --%s.classifier is given: training one on the labels of %s", option, name)
        info = train_and_save(data, folder, steps=STEPS)
        log.info("accuracy %.1f%% on the test split; kept in %s", 100 * info["accuracy"], folder)
    return load_classifier(folder)


def untrained_classifier(data: DataSet, option: str) -> Classifier:
    """A stand-in for :func:`default_classifier`: of the same layers, with random weights.

    Raises:
        ConfigError: The data have no labels.
    """
    return Classifier(data.split("train").image_shape[0], _refuse_unlabelled(data, option))


def _refuse_unlabelled(data: DataSet, option: str) -> int:
    """The number of classes of data whose labels train a classifier and say its accuracy."""
    missing = missing_labels(data, "train", "test")
    if missing is not None or data.classes is None:
        raise ConfigError(
            f"constraints.{option}: {type(data).__name__} has {missing} to train a classifier on: "
            f"give one by --{option}.classifier, made by bridle classifier train on other data"
        )
    return data.classes


def _digest(data: DataSet) -> str:
    """Of all that the default classifier is trained by."""
    split = data.split("train")
    digest = hashlib.sha256(json.dumps([_RECIPE, STEPS, split.image_shape, data.classes]).encode())
    for index in torch.arange(len(split)).split(1024):
        batch = split.batch(index)
        digest.update(batch.x.numpy().tobytes())
        if batch.label is not None:
            digest.update(batch.label.numpy().tobytes())
    return digest.hexdigest()


def _refuse_unwritable(folder: Path) -> None:
    """Told before the training, not after it; nothing is made yet, since a setting may still be refused."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"{folder} cannot be a classifier's folder: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be a classifier's folder: {there} may not be written to")
