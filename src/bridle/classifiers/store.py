"""Classifiers on disk: a folder with classifier.pt, all that is needed, and classifier.json, for people."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import torch

from bridle.classifiers.network import Classifier
from bridle.classifiers.training import accuracy, train_classifier
from bridle.data import DataSet
from bridle.data.files import cache_folder
from bridle.errors import CheckpointError, ConfigError
from bridle.files import write_whole

__all__ = ["default_classifier", "load_classifier", "train_and_save"]

log = logging.getLogger("bridle")

_DEFAULT_STEPS = 2000
_RECIPE = 1  # part of a cached classifier's key: to be raised with every change of the network or its training


def train_and_save(
    data: DataSet,
    folder: Path,
    steps: int = _DEFAULT_STEPS,
    width: int = 16,
    blocks: int = 2,
    seed: int = 0,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Trains a classifier, with a progress bar, and writes it into a folder.

    Arguments:
        data: A data set with labels.
        folder: Where to; it is made.
        steps, width, blocks, seed, device: As for :func:`bridle.classifiers.train_classifier`.

    Returns:
        The contents of classifier.json: the settings, and ``accuracy`` (0 to 1) on the test split.
    """
    network = train_classifier(data, steps, width, blocks, seed, device, progress=True)
    info = {
        "data": type(data).__name__,
        "image_shape": list(data.split("train").image_shape),
        **network.settings(),
        "steps": steps,
        "seed": seed,
        "accuracy": accuracy(network, data.split("test")),
    }
    serialized = io.BytesIO()
    torch.save({"settings": network.settings(), "weights": network.cpu().state_dict()}, serialized)
    with write_whole(folder / "classifier.pt") as file:
        file.write(serialized.getbuffer())
    with write_whole(folder / "classifier.json") as file:
        file.write((json.dumps(info, indent=2) + "\n").encode())
    return info


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


def default_classifier(name: str, settings: dict[str, Any], data: DataSet, option: str) -> Classifier:
    """The classifier of a data set's own labels: from the cache, or trained now and put there.

    Arguments:
        name, settings: What tells the data set from others: its class and the settings it was made with.
        data: The data set.
        option: The constraint that asks, for messages.

    Raises:
        ConfigError: The data have no labels.
    """
    if data.classes is None:
        raise ConfigError(
            f"constraints.{option}: {name.rpartition('.')[2]} has no labels to train a classifier on: "
            f"give one by --{option}.classifier, made by bridle classifier train on other data"
        )
    split = data.split("train")
    some = split.batch(torch.linspace(0, len(split) - 1, min(256, len(split))).long())
    digest = hashlib.sha256(some.x.numpy().tobytes() + (b"" if some.label is None else some.label.numpy().tobytes()))
    digest.update(
        json.dumps([_RECIPE, _DEFAULT_STEPS, name, settings, len(split)], sort_keys=True, default=str).encode()
    )
    folder = cache_folder() / "classifiers" / f"{name.rpartition('.')[2]}-{digest.hexdigest()[:16]}"
    if not (folder / "classifier.pt").is_file():
        log.info("no --%s.classifier is given: training one on the labels of %s", option, name.rpartition(".")[2])
        info = train_and_save(data, folder, steps=_DEFAULT_STEPS)
        log.info("accuracy %.1f%% on the test split; kept in %s", 100 * info["accuracy"], folder)
    return load_classifier(folder)
