"""The options of a run's settings, which training and sweeps share."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace

from bridle.cli.parsing import nearest_first, values_of
from bridle.data import DataSet
from bridle.errors import ConfigError
from bridle.models import LatentModel
from bridle.training import TrainConfig
from bridle.training.presets import PresetName, preset_for

__all__ = ["CLASSES", "add_settings", "config_from", "with_preset"]

CLASSES: dict[str, type] = {"data": DataSet, "model": LatentModel}
"""The options that take a class, with the base of what it may be."""


def add_settings(parser: ArgumentParser) -> None:
    """Adds the options of all settings of a run to a parser."""
    parser.add_argument(
        "--preset",
        type=PresetName | None,
        default=None,
        help="Sizes of the model and steps, batch and lr of its training: tiny for 8x8 images, small for 28x28 or "
        "32x32, paper. Options given beside it win.",
    )
    parser.add_subclass_arguments(
        DataSet, "data", default={"class_path": "bridle.data.Digits"}, help="The data set: a name, or an import path."
    )
    parser.add_subclass_arguments(
        LatentModel,
        "model",
        skip={"image_shape", "context_shape"},
        default={"class_path": "bridle.models.ConvVAE"},
        help="The model: a name, or an import path.",
    )
    parser.add_class_arguments(TrainConfig, None, skip={"data", "model"})


def with_preset(arguments: list[str]) -> list[str]:
    """The arguments with those of the preset put in before what the user gave, so that the latter win."""
    name = next(iter(values_of("--preset", arguments)), None)
    if name is None:
        return arguments
    if name not in get_args(PresetName):
        raise ConfigError(f"preset: {name!r} is unknown: there are {nearest_first(name, get_args(PresetName))}")
    model = next(iter([*values_of("--model", arguments), *_models_in_files(arguments)]), "ConvVAE")
    preset = preset_for(model, cast(PresetName, name))
    training = [f"--steps={preset.steps}", f"--batch={preset.batch}", f"--lr={preset.lr}"]
    sizes = [f"--model.{key}={value}" for key, value in preset.model.items()]
    return [*training, f"--model={model}", *sizes, *_without("--model", _without("--preset", arguments))]


def config_from(namespace: Namespace) -> TrainConfig:
    """The settings of a run among the values of a parser with :func:`add_settings`."""
    values = namespace.as_dict()
    own = {"data", "model", *TrainConfig().as_dict()}
    values = {name: value for name, value in values.items() if name in own}
    for name in CLASSES:
        values[name].setdefault("init_args", {})
    return TrainConfig.from_dict(values)


def _models_in_files(arguments: list[str]) -> list[str]:
    """The model that a file of settings names, if any; a file that cannot be read is for the parser to refuse."""
    for file in values_of("--config", arguments):
        try:
            model = yaml.safe_load(Path(file).read_text())["model"]
            return [model if isinstance(model, str) else model["class_path"]]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
            continue
    return []


def _without(option: str, arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != option and not argument.startswith(f"{option}="):
            kept.append(argument)
        skip = argument == option
    return kept
