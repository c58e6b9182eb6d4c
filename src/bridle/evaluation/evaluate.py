"""All measurements of one model together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from bridle.constraints import ImageConstraint
from bridle.data import DataSet
from bridle.errors import ConfigError
from bridle.evaluation.holes import PriorHoles, prior_holes
from bridle.evaluation.importance import ImportanceWeighted, importance_weighted
from bridle.evaluation.latents import Latents, measure_latents
from bridle.evaluation.marginal import MarginalKL, Precision, marginal_kl, refuse_marginal
from bridle.evaluation.measure import Measurements, measure
from bridle.models.base import LatentModel

__all__ = ["Evaluation", "Mixture", "evaluate"]

Mixture = Literal["full", "quick", "none"]

_QUICK = 256


@dataclass(frozen=True)
class Evaluation:
    """What is known of a model.

    ``measurements``: its place on the information plane; ``latents``: on the test split; ``holes``: on training
    images; ``importance``: on test images; ``marginal``: over the training split. What a model cannot give, or what
    was not asked for, is None, and ``skipped`` says why in one line, by the name of what is missing.
    """

    measurements: Measurements
    latents: Latents
    holes: PriorHoles
    importance: ImportanceWeighted | None = None
    marginal: MarginalKL | None = None
    skipped: dict[str, str] = field(default_factory=dict)


def evaluate(
    model: LatentModel,
    data: DataSet,
    constraints: Iterable[ImageConstraint] = (),
    importance: int = 16,
    mixture: Mixture = "full",
    samples: int = 100,
    precision: Precision = "fp32",
) -> Evaluation:
    """Measures all there is to measure.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        data: Its training and test splits are used.
        constraints: What else to measure.
        importance: K of the importance-weighted likelihood; 0 leaves it out.
        mixture: Of the marginal KL: the full one, 256 components of it, or none, which leaves it out.
        samples: S of the marginal KL.
        precision: Of the marginal KL's densities.

    Raises:
        ConfigError: A negative K, or fewer than 2 samples.
    """
    if importance < 0:
        raise ConfigError(f"importance must be 0 or more, got {importance}")
    if samples < 2:
        raise ConfigError(f"marginal_samples must be at least 2, got {samples}")
    skipped = {}
    device = next(model.parameters()).device
    train, test = data.split("train").to(device), data.split("test").to(device)
    measurements = measure(model, data, constraints)
    latents, holes = measure_latents(model, test), prior_holes(model, train)
    if latents.kl is None:
        skipped["KL of each latent"] = f"the KL of {type(model).__name__} is no sum over latents"
    weighted = None
    try:
        if importance:
            weighted = importance_weighted(model, test, measurements.sigma_opt, importance)
        else:
            skipped["importance-weighted likelihood"] = "not asked for"
    except ConfigError as error:
        skipped["importance-weighted likelihood"] = str(error)
    marginal = None
    try:
        refuse_marginal(model)
        if mixture == "none":
            skipped["marginal KL"] = "not asked for"
        else:
            marginal = marginal_kl(model, train, samples, None if mixture == "full" else _QUICK, precision)
    except ConfigError as error:
        skipped["marginal KL"] = str(error)
    return Evaluation(measurements, latents, holes, weighted, marginal, skipped)
