"""The arena at full size: what is run, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.arena import full_size
from benchmarks.arena.full_size import COLUMNS, FULL_SIZE, KEY, FullSize, Job, do, jobs, numbers, table, without_ours
from benchmarks.arena.problems import PROBLEMS
from benchmarks.arena.rows import RowFile

SMALL = {"latents": 4, "width": 4, "hidden": 16}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RowFile:
    few = FullSize("digits", "ConvVAE", {"re": 0.25}, images=32, changed=SMALL)
    monkeypatch.setattr(full_size, "FULL_SIZE", {"few": few})
    full_size.terms_on.cache_clear()
    return RowFile(tmp_path / "rows.csv", COLUMNS, KEY)


def test_the_problems_are_those_of_mnist_and_cifar_with_all_else_as_it_was() -> None:
    assert len(FULL_SIZE) == 19
    small = {p.name: p for p in PROBLEMS.values() if p.data in ("mnist14", "mnist28", "cifar16")}
    for (name, one), other in zip(FULL_SIZE.items(), small.values(), strict=True):
        assert (one.model, one.constraints, one.lr, one.kind) == (other.model, other.constraints, other.lr, other.kind)
        assert one.data in ("mnist", "cifar10") and name == one.name
    assert FULL_SIZE["mnist-convvae-re0.03-latents4"].settings == {"latents": 4, "width": 16, "hidden": 256}
    assert FULL_SIZE["mnist-convvae-re0.12-batch32"].batch == 32
    assert (FULL_SIZE["mnist-convvae-re0.12"].batch, FULL_SIZE["mnist-convdraw-re0.1"].batch) == (128, 64)


def test_a_small_learning_rate_gets_twice_the_steps() -> None:
    assert FULL_SIZE["mnist-convvae-re0.12-lr3e-4"].steps == 2 * FULL_SIZE["mnist-convvae-re0.12"].steps
    assert Job("mnist-convvae-re0.12", "bridle", 0, times=0.0213).steps == 210


def test_what_others_wait_for_comes_first_and_rates_are_compared_where_kappa_can_be_met() -> None:
    todo = list(jobs(1.0))
    assert len({job.key for job in todo}) == len(todo)
    assert [job.contestant for job in todo[:19]] == ["bridle"] * 19 and {job.seed for job in todo[:19]} == {0}
    fixed = {job.problem for job in todo if job.contestant == "fixed"}
    assert fixed == {name for name, problem in FULL_SIZE.items() if problem.kind == "feasible"}


def test_nothing_waits_for_a_run_that_nobody_makes() -> None:
    todo = list(jobs(1.0))
    assert without_ours(todo, {}) is None
    fixed = [job for job in todo if job.contestant == "fixed"]
    assert without_ours(fixed, {}) == fixed[0].problem
    assert without_ours(fixed, {job.key for job in todo if job.contestant == "bridle"}) is None


def test_the_rate_to_compare_with_is_that_of_the_multipliers_that_ours_ended_with(
    file: RowFile, tmp_path: Path
) -> None:
    for contestant in ("bridle", "fixed", "algorithm1"):
        job = Job("few", contestant, 0, times=0.02)
        assert do(job, file, tmp_path, "cpu").startswith("settled ")
        assert (tmp_path / f"few,{contestant},seed0.npz").exists()
    ours, fixed, paper = file.read().values()
    assert [row["status"] for row in (ours, fixed, paper)] == ["ok"] * 3
    assert ours["state"] and not fixed["state"] and int(ours["steps"]) == 200
    assert numbers(fixed["multipliers"]) == pytest.approx(numbers(ours["multipliers"]), rel=1e-5)
    page = "\n".join(table([ours, fixed, paper]))
    assert "| problem | steps | bridle | algorithm1 | fixed |" in page
    assert f"KL {float(fixed['kl']):.3g}" in page


def test_a_failure_is_a_row_and_so_is_what_waits_for_it(
    file: RowFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(full_size, "run", broken)
    assert do(Job("few", "bridle", 0), file, tmp_path, "cpu") == "failed: RuntimeError: out of memory"
    monkeypatch.undo()
    monkeypatch.setattr(full_size, "FULL_SIZE", {"few": FullSize("digits", "ConvVAE", {"re": 0.25}, changed=SMALL)})
    assert "no multipliers" in do(Job("few", "fixed", 0), file, tmp_path, "cpu")
    assert all("failed" in line for line in table(list(file.read().values())) if line.startswith("| few"))
