"""From a configuration to the objects it names."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from bridle.constraints import CONSTRAINTS, ImageConstraint
from bridle.data import DataSet
from bridle.errors import BridleError, ConfigError
from bridle.geco import Constraint
from bridle.models.base import ImageShape, LatentModel
from bridle.objectives import ELBO, AnnealedELBO, BetaELBO, ConstrainedObjective, Objective
from bridle.training.config import ClassSpec, TrainConfig

__all__ = ["build_constraints", "build_data", "build_model", "build_objective"]


def build_data(config: TrainConfig) -> DataSet:
    """The data set of a run; its files are read by the first split."""
    return _instantiate(config.data, DataSet)


def build_model(config: TrainConfig, image_shape: ImageShape, context_shape: ImageShape | None) -> LatentModel:
    """The model of a run with fresh weights, for images (and context images) of these shapes."""
    return _instantiate(config.model, LatentModel, image_shape, context_shape)


def build_constraints(config: TrainConfig) -> list[ImageConstraint]:
    """The constraints of a run."""
    return [CONSTRAINTS[name](kappa) for name, kappa in config.constraints.given().items()]


def build_objective(config: TrainConfig, image_shape: ImageShape, bin: float) -> Objective:
    """The objective of a run."""
    match config.objective:
        case "geco":
            constraints = build_constraints(config)
            bounds = {c.name: _bound(config, c, image_shape) for c in constraints}
            return ConstrainedObjective(constraints, bounds, rule=config.geco.rule)
        case "elbo":
            return ELBO(image_shape, bin)
        case "beta":
            return BetaELBO(image_shape, bin, beta=config.beta)
        case "annealed":
            return AnnealedELBO(image_shape, bin, steps=config.steps, reading=config.annealing)


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
