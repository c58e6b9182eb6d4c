"""From a configuration to the objects it names."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import torch

from bridle.classifiers import Classifier, default_classifier, load_classifier
from bridle.constraints import CLA, CONSTRAINTS, FRE, LPIPS, PNCC, ImageConstraint
from bridle.data import DataSet, Split
from bridle.errors import BridleError, ConfigError
from bridle.geco import Constraint
from bridle.models.base import ImageShape, LatentModel
from bridle.objectives import ELBO, AnnealedELBO, BetaELBO, ConstrainedObjective, Objective
from bridle.training.config import ClassSpec, TrainConfig

__all__ = ["build_constraints", "build_data", "build_model", "build_objective", "prepare"]

_PREPARED_ON = 10_000
_PREPARED_AT_ONCE = 256


def build_data(config: TrainConfig) -> DataSet:
    """The data set of a run; its files are read by the first split."""
    return _instantiate(config.data, DataSet)


def build_model(config: TrainConfig, image_shape: ImageShape, context_shape: ImageShape | None) -> LatentModel:
    """The model of a run with fresh weights, for images (and context images) of these shapes."""
    return _instantiate(config.model, LatentModel, image_shape, context_shape)


def build_constraints(
    config: TrainConfig, image_shape: ImageShape, data: DataSet | None = None
) -> list[ImageConstraint]:
    """The constraints of a run.

    Arguments:
        config: The run.
        image_shape: Channels, height and width of the images.
        data: The data set of the configuration, where it is at hand. A classifier that is neither named nor cached is
            trained on it.
    """

    def network(option: str, path: str | None) -> Classifier:
        if path is not None:
            return load_classifier(path)
        return default_classifier(config.data.class_path, config.data.init_args, data or build_data(config), option)

    def build(name: str, kappa: float) -> ImageConstraint:
        match name:
            case "pncc":
                return PNCC(kappa, config.pncc.patch, config.pncc.stride, config.pncc.random)
            case "fre":
                return FRE(kappa, network(name, config.fre.classifier), config.fre.layer, image_shape)
            case "lpips":
                return LPIPS(kappa, network(name, config.lpips.classifier), config.lpips.layers, image_shape)
            case "cla":
                cla = CLA(kappa, network(name, config.cla.classifier), image_shape)
                classes = (data or build_data(config)).classes
                if classes != cla.classes:
                    raise ConfigError(
                        f"constraints.cla: the classifier knows {cla.classes} classes, the data have "
                        f"{'no labels' if classes is None else classes}: train one by bridle classifier train"
                    )
                return cla
            case _:
                return CONSTRAINTS[name](kappa)

    given = config.constraints.given()
    for name, kappa in given.items():
        CONSTRAINTS[name].check(kappa)  # before a classifier is trained for another one
    return [build(name, kappa) for name, kappa in given.items()]


def build_objective(config: TrainConfig, image_shape: ImageShape, bin: float, data: DataSet | None = None) -> Objective:
    """The objective of a run; for ``data`` see :func:`build_constraints`."""
    match config.objective:
        case "geco":
            constraints = build_constraints(config, image_shape, data)
            bounds = {c.name: _bound(config, c, image_shape) for c in constraints}
            return ConstrainedObjective(constraints, bounds, rule=config.geco.rule)
        case "elbo":
            return ELBO(image_shape, bin)
        case "beta":
            return BetaELBO(image_shape, bin, beta=config.beta)
        case "annealed":
            return AnnealedELBO(image_shape, bin, steps=config.steps, reading=config.annealing)


def prepare(objective: Objective, split: Split, device: torch.device) -> None:
    """Shows the training images, or 10,000 to 20,000 of them at equal distances, to the constraints that need to see
    them.

    Arguments:
        objective: Of a run that has not begun; a checkpoint holds what was learned here.
        split: The training split.
        device: Where the objective and the split are.
    """
    if isinstance(objective, ConstrainedObjective):
        index = torch.arange(0, len(split), max(1, len(split) // _PREPARED_ON), device=device)
        for term in objective.terms():
            term.prepare(split.batch(part).x for part in index.split(_PREPARED_AT_ONCE))


def _bound(config: TrainConfig, constraint: ImageConstraint, image_shape: ImageShape) -> Constraint:
    bound = replace(constraint.bound(image_shape), rate=config.geco.rate, alpha=config.geco.alpha)
    if config.geco.rule == "algorithm1":
        bound = replace(bound, scale="absolute", initial=1.0, bounds=None, max_log_step=None)
    return bound


def _instantiate(spec: ClassSpec, base: type, *args: Any) -> Any:
    module, _, name = spec.class_path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"cannot import {spec.class_path}: {error}") from None
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"{spec.class_path} is not a {base.__name__}")
    try:
        return cls(*args, **spec.init_args)
    except BridleError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None
