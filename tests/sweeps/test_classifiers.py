"""Classifiers that runs of a sweep share are trained once, before any worker starts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import bridle.sweeps.classifiers as classifiers
from bridle.data import DataSet
from bridle.errors import ConfigError
from bridle.sweeps import Job, RunSpec, run_sweep
from bridle.training import ClassSpec, Constraints, FeatureOptions, TrainConfig


def test_each_is_trained_once_and_before_the_first_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []

    class Refusing:
        def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, str]], None, None]:
            for job in jobs:
                events.append(("job", job.runs[0].name))
                yield job, {job.runs[0].name: "not tried"}

    def recorded(data: DataSet, option: str) -> None:
        events.append((type(data).__name__, option))

    monkeypatch.setattr(classifiers, "default_classifier", recorded)
    others = ClassSpec("bridle.data.MNISTTriplets", {"base": "Digits"})
    runs = [
        TrainConfig(constraints=Constraints(re=0.2)),
        TrainConfig(constraints=Constraints(fre=0.3)),
        TrainConfig(constraints=Constraints(fre=0.5)),
        TrainConfig(constraints=Constraints(lpips=0.3, re=0.2)),
        TrainConfig(constraints=Constraints(fre=0.3), data=others),
    ]
    specs = [RunSpec(f"{i}", config) for i, config in enumerate(runs)]
    run_sweep(specs, tmp_path, engine=Refusing())
    assert events == [("Digits", "fre"), ("MNISTTriplets", "fre"), *(("job", f"{i}") for i in range(len(runs)))]


def test_a_named_one_is_left_alone_and_data_without_labels_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(constraints=Constraints(fre=0.3), fre=FeatureOptions(classifier="absent"))
    classifiers.train_classifiers([RunSpec("named", config)])

    def unlabelled(data: DataSet, option: str) -> None:
        raise ConfigError(f"constraints.{option}: no labels")

    monkeypatch.setattr(classifiers, "default_classifier", unlabelled)
    with pytest.raises(ConfigError, match="^b: constraints.fre: no labels"):
        classifiers.train_classifiers([RunSpec("b", replace(config, fre=FeatureOptions()))])
