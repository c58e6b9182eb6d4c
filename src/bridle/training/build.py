"""From a configuration to the objects it names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from bridle.classifiers import Classifier, default_classifier, load_classifier, untrained_classifier
from bridle.constraints import CLA, CONSTRAINTS, FRE, LPIPS, PNCC, ImageConstraint
from bridle.data import DataSet, Split, SplitName
from bridle.data.base import missing_labels
from bridle.dial import Dial
from bridle.errors import BridleError, ConfigError
from bridle.geco import Constraint
from bridle.models.base import ImageShape, LatentModel
from bridle.models.dialled import Dialled
from bridle.objectives import (
    ELBO,
    AnnealedELBO,
    BetaELBO,
    ConstrainedObjective,
    DialledObjective,
    LagrangianObjective,
    Objective,
)
from bridle.training.config import ClassSpec, TrainConfig
from bridle.training.kept import kept_classifier

__all__ = ["build_data", "build_dial", "build_model", "build_objective", "check_constraints", "prepare"]

_PREPARED_ON = 10_000
_PREPARED_AT_ONCE = 256
_POINTS, _POINTS_OF_SEVERAL = 12, 4


def build_data(config: TrainConfig) -> DataSet:
    """The data set of a run; its files are read by the first split."""
    return _instantiate(config.data, DataSet)


def build_dial(config: TrainConfig) -> Dial | None:
    """The dial of a run, None where no constraint has a range.

    Raises:
        ConfigError: A kappa that its constraint does not allow.
    """
    ranges = config.constraints.ranges()
    if not ranges:
        return None
    for name, kappas in ranges.items():
        for kappa in kappas:
            CONSTRAINTS[name].check(kappa)
    # A point needs several images of a batch: a surface has fewer along each range than a curve.
    points = _POINTS if len(ranges) == 1 else _POINTS_OF_SEVERAL
    return _dial(tuple(ranges.items()), points, tuple(name for name in ranges if CONSTRAINTS[name].lower))


@lru_cache
def _dial(ranges: tuple[tuple[str, tuple[float, float]], ...], points: int, similarities: tuple[str, ...]) -> Dial:
    """One and the same for a model and its objective, so that neither computes what the other has."""
    return Dial(dict(ranges), points, similarities)


def build_model(
    config: TrainConfig, image_shape: ImageShape, context_shape: ImageShape | None
) -> LatentModel | Dialled[LatentModel]:
    """The model of a run with fresh weights, for images (and context images) of these shapes; on its dial, where it has
    one."""
    model: LatentModel = _instantiate(config.model, LatentModel, image_shape, context_shape)
    dial = build_dial(config)
    if dial is None:
        return model
    try:
        return Dialled(model, dial)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def build_objective(
    config: TrainConfig,
    image_shape: ImageShape,
    bin: float,
    data: DataSet | None = None,
    begun: Path | None = None,
) -> Objective:
    """The objective of a run.

    Arguments:
        config: The run.
        image_shape: Channels, height and width of the images.
        bin: The data's quantisation in pixel units.
        data: The data set of the configuration, where it is at hand; built where it is needed otherwise. A classifier
            that is neither named nor cached is trained on it.
        begun: The folder of a run that has begun: its classifiers are those that it keeps, and none is trained.

    Raises:
        BridleError: Settings that cannot be used, before a classifier is trained; a classifier that is not there.
    """
    match config.objective:
        case "geco":
            if begun is not None:
                return _constrained(config, image_shape, lambda name, given: kept_classifier(begun, name, given))
            data = data or build_data(config)
            check_constraints(config, image_shape, data)
            return _constrained(config, image_shape, _or_given(partial(default_classifier, data)))
        case "elbo":
            return ELBO(image_shape, bin)
        case "beta":
            return BetaELBO(image_shape, bin, beta=config.beta)
        case "annealed":
            return AnnealedELBO(image_shape, bin, steps=config.steps, reading=config.annealing)


def check_constraints(config: TrainConfig, image_shape: ImageShape, data: DataSet) -> None:
    """Builds the constraints of a run on untrained classifiers where none are named, so that what is wrong with their
    settings is told before a classifier is trained.

    Raises:
        BridleError: What is wrong.
    """
    objective = _constrained(config, image_shape, _or_given(partial(untrained_classifier, data)))
    for term in objective.terms():
        if isinstance(term, CLA):
            _check_labels(term, data, config)


_Networks: TypeAlias = Callable[[str, str | None], Classifier]
"""The classifier of a constraint by its name, and the folder that the settings give, if any."""


def _or_given(default: Callable[[str], Classifier]) -> _Networks:
    return lambda name, given: default(name) if given is None else load_classifier(given)


def _constrained(config: TrainConfig, image_shape: ImageShape, network: _Networks) -> LagrangianObjective:
    def build(name: str, kappa: float) -> ImageConstraint:
        match name:
            case "pncc":
                return PNCC(kappa, config.pncc.patch, config.pncc.stride, config.pncc.random)
            case "fre":
                return FRE(kappa, network(name, config.fre.classifier), config.fre.layer, image_shape)
            case "lpips":
                return LPIPS(kappa, network(name, config.lpips.classifier), config.lpips.layers, image_shape)
            case "cla":
                return CLA(kappa, network(name, config.cla.classifier), image_shape)
            case _:
                return CONSTRAINTS[name](kappa)

    dial = build_dial(config)
    middle = {} if dial is None else dial.middle
    kappas = {k: middle[k] if isinstance(kappa, tuple) else kappa for k, kappa in config.constraints.given().items()}
    constraints = [build(name, kappa) for name, kappa in kappas.items()]
    bounds = {c.name: _bound(config, c, image_shape) for c in constraints}
    if dial is not None:
        return DialledObjective(constraints, bounds, dial, rule=config.geco.rule)
    return ConstrainedObjective(constraints, bounds, rule=config.geco.rule)


def _check_labels(cla: CLA, data: DataSet, config: TrainConfig) -> None:
    """The classifier must know the data's classes, and all images that it is shown must have one."""
    measured: set[SplitName] = {"train", "test", config.constrain_on}
    missing = missing_labels(data, *sorted(measured))
    if missing is not None or data.classes != cla.classes:
        has = missing or f"{data.classes}"
        raise ConfigError(
            f"constraints.cla: the classifier knows {cla.classes} classes, the data have {has}: "
            "train one by bridle classifier train"
        )


def prepare(objective: Objective, split: Split, device: torch.device) -> None:
    """Shows the training images, or 10,000 to 20,000 of them at equal distances, to the constraints that need to see
    them.

    Arguments:
        objective: Of a run that has not begun; a checkpoint holds what was learned here.
        split: The training split.
        device: Where the objective and the split are.
    """
    if isinstance(objective, LagrangianObjective):
        index = torch.arange(0, len(split), max(1, len(split) // _PREPARED_ON), device=device)
        for term in objective.terms():
            term.prepare(split.batch(part).x for part in index.split(_PREPARED_AT_ONCE))


def _bound(config: TrainConfig, constraint: ImageConstraint, image_shape: ImageShape) -> Constraint:
    bound = constraint.bound(image_shape)
    try:
        bound = replace(bound, rate=config.geco.rate, alpha=config.geco.alpha)
    except ValueError as error:
        raise ConfigError(f"geco.{error}") from None
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
