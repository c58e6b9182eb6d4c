"""Measurements of trained models."""

from bridle.evaluation.measure import Measurements, SplitMeasurements, measure, measure_split

__all__ = ["Measurements", "SplitMeasurements", "measure", "measure_split"]
