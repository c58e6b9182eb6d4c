"""Measurements of trained models."""

from bridle.evaluation.evaluate import Evaluation, evaluate
from bridle.evaluation.holes import PriorHoles, prior_holes
from bridle.evaluation.importance import ImportanceWeighted, importance_weighted
from bridle.evaluation.interpolation import interpolate
from bridle.evaluation.latents import Latents, measure_latents
from bridle.evaluation.marginal import MarginalKL, marginal_kl
from bridle.evaluation.measure import Measurements, SplitMeasurements, measure, measure_split
from bridle.evaluation.samples import SampleDistance, energy_distance, sample_distance

__all__ = [
    "Evaluation",
    "ImportanceWeighted",
    "Latents",
    "MarginalKL",
    "Measurements",
    "PriorHoles",
    "SampleDistance",
    "SplitMeasurements",
    "energy_distance",
    "evaluate",
    "importance_weighted",
    "interpolate",
    "marginal_kl",
    "measure",
    "measure_latents",
    "measure_split",
    "prior_holes",
    "sample_distance",
]
