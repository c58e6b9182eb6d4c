"""The data sets of a scale, each read once."""

from __future__ import annotations

from bridle.data import DataSet
from bridle.reproduce.scales import Source
from bridle.training import TrainConfig
from bridle.training.build import build_data

__all__ = ["source_data"]

_READ: dict[str, DataSet] = {}


def source_data(source: Source) -> DataSet:
    """The data set of a source; its files are read by the first split."""
    key = source.spec.class_path + repr(source.spec.init_args)
    if key not in _READ:
        _READ[key] = build_data(TrainConfig(data=source.spec))
    return _READ[key]
