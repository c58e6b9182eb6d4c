"""The options of a run's settings, which training and sweeps share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace

from bridle.cli.parsing import nearest_first, values_of
from bridle.data import DataSet
from bridle.errors import CheckpointError, ConfigError
from bridle.models import LatentModel
from bridle.training import ClassSpec, TrainConfig
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.presets import PresetName, preset_for

__all__ = [
    "CLASSES",
    "add_settings",
    "config_from",
    "data_from",
    "refuse_rate_range",
    "with_init",
    "with_preset",
]

CLASSES: dict[str, type] = {"data": DataSet, "model": LatentModel}
"""The options that take a class, with the base of what it may be."""

_SHORTER = 5


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


def refuse_rate_range(arguments: list[str]) -> None:
    """Raises ConfigError for a range of rates, which YAML would read as a number of base 60."""
    for given in values_of("--constraints.kl", arguments):
        if ":" in given:
            raise ConfigError(f"constraints.kl: expected a number, got {given!r}: a range is for errors, not for rates")


def with_init(arguments: list[str]) -> list[str]:
    """The arguments with the data, the model and the training of the run that ``--init`` names put in front, where what
    the user gave wins.

    Raises:
        ConfigError: The folder holds no run, or there is a preset too.
    """
    runs = [run for _, run in _stated("init", arguments) if run not in (None, "null")]  # null: the settings of a run
    if not runs:
        return arguments
    if values_of("--preset", arguments):
        raise ConfigError(f"--init takes the model of {runs[-1]}: leave out --preset")
    try:
        config = RunFolder(runs[-1]).read_config()
    except CheckpointError as error:
        raise ConfigError(f"--init: {error}") from None
    classes = [f"--{name}={json.dumps(asdict(getattr(config, name)))}" for name in CLASSES]
    training = [f"--steps={max(1, config.steps // _SHORTER)}", f"--batch={config.batch}", f"--lr={config.lr}"]
    return [*classes, *training, *arguments]


def with_preset(arguments: list[str]) -> list[str]:
    """The arguments with those of the preset put in where what the user gave wins.

    The preset is the last one on the command line, or else the last one in a file. It is that of the model which the
    arguments come to: a later argument or file wins.
    """
    in_files = [name for _, name in _stated("preset", arguments) if name is not None]
    name = next(reversed(values_of("--preset", arguments) or in_files), None)
    if name is None:
        return arguments
    if name not in get_args(PresetName):
        raise ConfigError(f"preset: {name!r} is unknown: there are {nearest_first(str(name), get_args(PresetName))}")
    models = [
        (end, str(m["class_path"] if isinstance(m, Mapping) and "class_path" in m else m))
        for end, m in _stated("model", arguments)
    ]
    model = models[-1][1] if models else "ConvVAE"
    preset = preset_for(model, name)
    training = [f"--steps={preset.steps}", f"--batch={preset.batch}", f"--lr={preset.lr}"]
    sizes = [f"--model.{key}={value}" for key, value in preset.model.items()]
    # The sizes stand after the last argument that names another model, which would drop them, and before all else.
    start = max((end for end, other in models if _family(other) != _family(model)), default=0)
    return [*training, *arguments[:start], f"--model={model}", *sizes, *arguments[start:]]


def config_from(namespace: Namespace) -> TrainConfig:
    """The settings of a run among the values of a parser with :func:`add_settings`."""
    values = namespace.as_dict()
    own = {"data", "model", *TrainConfig().as_dict()}
    values = {name: value for name, value in values.items() if name in own}
    return TrainConfig.from_dict(values | {name: asdict(_class_spec(values[name])) for name in CLASSES})


def data_from(namespace: Namespace) -> DataSet:
    """The data set among the values of a parser that takes one."""
    return build_data(TrainConfig(data=_class_spec(namespace.as_dict()["data"])))


def _class_spec(chosen: Mapping[str, Any]) -> ClassSpec:
    """A class as the parser gives it, without settings where it has none."""
    return ClassSpec(chosen["class_path"], dict(chosen.get("init_args") or {}))


def _stated(setting: str, arguments: list[str]) -> Iterator[tuple[int, Any]]:
    """What a command line and the files of settings on it say of a setting, in order, and how many arguments are read
    by then. A file that cannot be read is for the parser to refuse."""
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        end = i + 1 if equals else i + 2
        value = value if equals else "".join(arguments[i + 1 : end])
        if option == f"--{setting}":
            yield end, value
        elif option == "--config":
            try:
                yield end, yaml.safe_load(Path(value).read_text())[setting]
            except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
                continue


def _family(model: str) -> str:
    return model.rpartition(".")[2]
