"""Worker processes that die, and how many of them there are."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridle.sweeps.local as local
from bridle.sweeps import Job, LocalEngine, RunSpec

STILLBORN = """
import os

def serve(connection, threads):
    os._exit(3)
"""


def test_workers_that_die_before_they_read_their_job_fail_that_job_alone(
    specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As do those of a script without ``if __name__ == "__main__"``. None is started that would have nothing to do."""
    (tmp_path / "stillborn.py").write_text(STILLBORN)
    monkeypatch.syspath_prepend(tmp_path)
    import stillborn  # type: ignore[import-not-found]

    started, start = [], local._start

    def counted(*arguments: object) -> object:
        started.append(arguments)
        return start(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "_serve", stillborn.serve)
    monkeypatch.setattr(local, "_start", counted)
    jobs = [Job((spec,), tmp_path) for spec in specs]
    ended = [failures for _, failures in LocalEngine(workers=2).run(jobs)]
    assert sorted(str(e) for e in ended) == sorted(str({s.name: "its process ended with status 3"}) for s in specs)
    assert len(started) == len(specs)


def test_a_worker_that_is_dead_when_its_job_is_sent(specs: list[RunSpec], tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "stillborn.py").write_text(STILLBORN)
    monkeypatch.syspath_prepend(tmp_path)
    import stillborn  # type: ignore[import-not-found]

    start = local._start

    def dead(threads: int, gpu: str | None) -> local._Worker:
        worker = start(threads, gpu)
        worker.process.join()
        return worker

    monkeypatch.setattr(local, "_serve", stillborn.serve)
    monkeypatch.setattr(local, "_start", dead)
    ((_, failures),) = LocalEngine(workers=1).run([Job((specs[0],), tmp_path)])
    assert failures == {specs[0].name: "its process ended with status 3"}


PATIENT = """
def serve(connection, threads):
    try:
        connection.recv()
    except EOFError:
        return
"""


def test_an_interruption_while_workers_start_ends_those_that_have(
    specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    monkeypatch.syspath_prepend(tmp_path)
    import patient  # type: ignore[import-not-found]

    started, start = [], local._start

    def interrupted(threads: int, gpu: str | None) -> local._Worker:
        if started:
            raise KeyboardInterrupt
        started.append(start(threads, gpu))
        return started[0]

    monkeypatch.setattr(local, "_serve", patient.serve)
    monkeypatch.setattr(local, "_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(LocalEngine(workers=2).run([Job((spec,), tmp_path) for spec in specs]))
    assert started[0].process.exitcode == 0
