"""What a worker does with a job, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle.data import Digits
from bridle.sweeps import Job, RunSpec
from bridle.sweeps.work import work
from bridle.training import ClassSpec, TrainConfig


def test_a_log_that_cannot_be_written_is_told_as_the_failure_of_all_runs(specs: list[RunSpec], tmp_path: Path) -> None:
    log = tmp_path / specs[0].name / "log.txt"
    log.mkdir(parents=True)
    assert work(Job(tuple(specs), tmp_path), 1) == {spec.name: f"{log}: Is a directory" for spec in specs}
    (tmp_path / "file").write_text("")
    assert work(Job(tuple(specs[:1]), tmp_path / "file"), 1) == {
        specs[0].name: f"{tmp_path / 'file' / specs[0].name}: Not a directory"
    }


def test_data_are_built_once_and_given_to_whoever_needs_them(
    specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Digits] = []
    drawn = []
    make = Digits.__init__

    def counted(self: Digits) -> None:
        built.append(self)
        make(self)

    def finish(run: Path, data: object) -> None:
        drawn.append(data)

    monkeypatch.setattr(Digits, "__init__", counted)
    assert work(Job((specs[0],), tmp_path, finish), 1) == {}
    assert len(built) == 1 and drawn == built


def test_data_that_cannot_be_built_fail_all_runs_in_one_line(specs: list[RunSpec], tmp_path: Path) -> None:
    config = TrainConfig(**{**vars(specs[0].config), "data": ClassSpec("bridle.data.Absent")})
    failures = work(Job((RunSpec("a", config), RunSpec("b", config)), tmp_path), 1)
    assert list(failures) == ["a", "b"] and all(
        f.startswith("cannot import bridle.data.Absent") for f in failures.values()
    )
