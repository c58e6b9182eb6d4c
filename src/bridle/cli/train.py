"""``bridle train``"""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from jsonargparse import ArgumentParser, Namespace

from bridle.cli.parsing import make_parser, nearest_first, parse, values_of
from bridle.data import DataSet
from bridle.errors import ConfigError
from bridle.models import LatentModel
from bridle.training import TrainConfig, resume, train
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.presets import PresetName, preset_for

__all__ = ["run"]

_CLASSES: dict[str, type] = {"data": DataSet, "model": LatentModel}


def run(arguments: list[str]) -> None:
    """Trains or resumes, then draws the pictures and the report of the run."""
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        namespace = parse(_resume_parser(), arguments)
        out = Path(namespace.resume)
        data = build_data(RunFolder(out).read_config())
        summary = resume(out, namespace.steps, data)
    else:
        namespace = parse(_train_parser(), _with_preset(arguments), _CLASSES)
        if namespace.out is None:
            raise ConfigError("--out is missing: the folder for the run, such as --out runs/digits")
        out, config = Path(namespace.out), _config(namespace)
        config.validate()
        data = build_data(config)
        summary = train(config, out, namespace.overwrite, data)
    if summary:
        from bridle.reports.finish import finish_run
        from bridle.reports.table import print_table

        page = finish_run(out, data)
        print_table({out.name: summary})
        print(f"report: {page}")


def _train_parser() -> ArgumentParser:
    parser = make_parser("train", "Train a model on images, to the error that you state.")
    parser.add_argument("--config", action="config", help="A YAML file with any of these settings.")
    parser.add_argument("--out", type=str | None, default=None, help="The folder for the run.")
    parser.add_argument(
        "--preset",
        type=PresetName | None,
        default=None,
        help="Sizes of the model and steps, batch and lr of its training: tiny for 8x8 images, small for 28x28 or "
        "32x32, paper. Options given beside it win.",
    )
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace the run that the folder holds.")
    parser.add_argument("--resume", metavar="RUN", help="Go on with a run instead; only --steps may be given with it.")
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
    return parser


def _with_preset(arguments: list[str]) -> list[str]:
    """The arguments with those of the preset put in before what the user gave, so that the latter win."""
    name = next(iter(values_of("--preset", arguments)), None)
    if name is None:
        return arguments
    if name not in get_args(PresetName):
        raise ConfigError(f"preset: {name!r} is unknown: there are {nearest_first(name, get_args(PresetName))}")
    model = next(iter(values_of("--model", arguments)), "ConvVAE")
    preset = preset_for(model, cast(PresetName, name))
    training = [f"--steps={preset.steps}", f"--batch={preset.batch}", f"--lr={preset.lr}"]
    sizes = [f"--model.{key}={value}" for key, value in preset.model.items()]
    return [*training, f"--model={model}", *sizes, *_without("--model", _without("--preset", arguments))]


def _without(option: str, arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != option and not argument.startswith(f"{option}="):
            kept.append(argument)
        skip = argument == option
    return kept


def _resume_parser() -> ArgumentParser:
    parser = make_parser("train --resume", "Go on with a run from its latest checkpoint, with the run's own settings.")
    parser.add_argument("--resume", type=str, required=True, metavar="RUN", help="The run's folder.")
    parser.add_argument("--steps", type=int | None, default=None, help="A new end of the run.")
    return parser


def _config(namespace: Namespace) -> TrainConfig:
    values = namespace.as_dict()
    for name in ("config", "out", "overwrite", "preset", "resume"):
        values.pop(name, None)
    for name in _CLASSES:
        values[name].setdefault("init_args", {})
    return TrainConfig.from_dict(values)
