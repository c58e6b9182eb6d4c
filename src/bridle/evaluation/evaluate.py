"""All measurements of one model together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from bridle.constraints import ImageConstraint
from bridle.data import DataSet
from bridle.errors import ConfigError
from bridle.evaluation.holes import PriorHoles, prior_holes
from bridle.evaluation.importance import ImportanceWeighted, importance_refusal, importance_weighted
from bridle.evaluation.latents import Latents, measure_latents
from bridle.evaluation.marginal import MarginalKL, Precision, check_settings, marginal_kl, marginal_refusal
from bridle.evaluation.measure import Measurements, measure
from bridle.evaluation.samples import SampleDistance, sample_distance
from bridle.models.base import HasPosteriorDensity, LatentModel

__all__ = ["Evaluation", "Mixture", "evaluate"]

Mixture = Literal["full", "quick", "none"]

_QUICK = 256
# So many pairs of z and image take a model that has to encode each of them five minutes, as measured on a core.
_MOST_ENCODED = 1_000_000


@dataclass(frozen=True)
class Evaluation:
    """What is known of a model.

    ``measurements``: its place on the information plane; ``latents``: on the test split; ``holes`` and ``samples``: on
    training images; ``importance``: on test images; ``marginal``: over the training split. What a model cannot give, or
    what was not asked for, is None, and ``skipped`` says why in one line, by the name of what is missing.
    """

    measurements: Measurements
    latents: Latents
    holes: PriorHoles
    samples: SampleDistance
    importance: ImportanceWeighted | None = None
    marginal: MarginalKL | None = None
    skipped: dict[str, str] = field(default_factory=dict)


def evaluate(
    model: LatentModel,
    data: DataSet,
    constraints: Iterable[ImageConstraint] = (),
    importance: int = 16,
    mixture: Mixture | None = None,
    samples: int = 100,
    precision: Precision = "fp32",
) -> Evaluation:
    """Measures all there is to measure.

    Arguments:
        model: On the device to measure on; its training mode is left as it was.
        data: Its training and test splits are used.
        constraints: What else to measure.
        importance: K of the importance-weighted likelihood; 0 leaves it out.
        mixture: Of the marginal KL: the full one, 256 components of it, or none, which leaves it out. If not given, the
            full one, unless more than a million pairs of z and image would have to be encoded for it (ConvDRAW): the
            quick one then.
        samples: S of the marginal KL.
        precision: Of the marginal KL's densities.

    Raises:
        ConfigError: A negative K, an unknown mixture, fewer than 2 test images, or what :func:`marginal_kl` refuses of
            its settings.
    """
    if importance < 0:
        raise ConfigError(f"importance must be 0 or more, got {importance}")
    if mixture is not None and mixture not in get_args(Mixture):
        raise ConfigError(f"mixture: {mixture!r} is unknown: there are {', '.join(get_args(Mixture))}")
    if mixture != "none":
        check_settings(samples, None, precision)
    device = next(model.parameters()).device
    train, test = data.split("train").to(device), data.split("test").to(device)
    if mixture is None:
        encodes = isinstance(model, HasPosteriorDensity) and model.encodes_pairs
        mixture = "quick" if encodes and samples * len(train) > _MOST_ENCODED else "full"
    skipped = {}
    latents = measure_latents(model, test)  # first, since it refuses too few images
    measurements = measure(model, data, constraints)
    holes, distance = prior_holes(model, train), sample_distance(model, train)
    if latents.kl is None:
        skipped["KL of each latent"] = f"the KL of {type(model).__name__} is no sum over latents"
    weighted = marginal = None
    if importance == 0:
        skipped["importance-weighted likelihood"] = "not asked for"
    elif reason := importance_refusal(model, test):
        skipped["importance-weighted likelihood"] = reason
    else:
        weighted = importance_weighted(model, test, measurements.sigma_opt, importance)
    if reason := marginal_refusal(model, train):
        skipped["marginal KL"] = reason
    elif mixture == "none":
        skipped["marginal KL"] = "not asked for"
    else:
        marginal = marginal_kl(model, train, samples, _QUICK if mixture == "quick" else None, precision)
    return Evaluation(measurements, latents, holes, distance, weighted, marginal, skipped)
