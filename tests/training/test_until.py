"""When a run ends that trains until it has settled: the rule on made-up rows, and whole runs."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import bridle.training.loop as loop
from bridle.errors import ConfigError, Interrupted
from bridle.training import ClassSpec, Constraints, TrainConfig, resume, train
from bridle.training.folder import RunFolder
from bridle.training.until import Until

SMALL = ClassSpec("bridle.models.ConvVAE", {"latents": 2, "width": 4, "hidden": 16})


def end_of(
    kl: Callable[[int], float],
    state: Callable[[int], int] = lambda step: 1,
    finished: Callable[[int], bool] = lambda step: True,
    **row: float,
) -> tuple[int, int] | None:
    """The step at which the end was known, and the end."""
    until = Until()
    for step in range(25, 20_001, 25):
        until.add({"step": step, "kl": kl(step), "re.state": state(step), **row}, finished(step))
        if until.end is not None:
            return step, until.end
    return None


def test_a_constraint_must_not_have_been_approaching_for_a_third_of_the_training() -> None:
    for code in (0, 1, 3):
        at, end = end_of(lambda step: 10.0, lambda step, code=code: code if step >= 1000 else 2) or (0, 0)
        assert at == 1500 and end == math.ceil(1500 / 0.8)
    at, _ = end_of(lambda step: 10.0, lambda step: 2 if step < 1000 or step == 1400 else 1) or (0, 0)
    assert at == 2150  # 1425 / (2 / 3), rounded up to a row


def test_the_kl_must_have_stopped_falling() -> None:
    assert end_of(lambda step: 10.0 * step**-0.2) is None
    # The halves' middles are at 3/4 and 11/12 of the way, so that a power p is a ratio of 1.22 to the p.
    assert end_of(lambda step: 10.0 * step**-0.12) is None
    assert end_of(lambda step: 10.0 * step**-0.08) is not None
    at, _ = end_of(lambda step: 10.0 + 20 * math.exp(-step / 1000), lambda step: 2 if step < 1000 else 1) or (0, 0)
    assert 5200 < at < 5800  # 20 (exp(-3/4 t) - exp(-11/12 t)) = 0.2 at t = 5.4 thousand
    assert end_of(lambda step: 10.0 * step**0.2) is None and end_of(lambda step: 10.0 * step**0.08) is not None


def test_the_last_mean_must_be_at_kappa() -> None:
    at, _ = end_of(lambda step: 10.0, finished=lambda step: step >= 3000 and step % 1000 == 0) or (0, 0)
    assert at == 3000


def test_a_kl_near_zero_may_go_on_halving() -> None:
    assert end_of(lambda step: 0.005 * 2 ** (-step / 100)) is not None
    at, _ = end_of(lambda step: 5 * 2 ** (-step / 100)) or (0, 0)
    assert 1000 < at < 1500, "by then less than 0.01 nats are left to fall by"


def test_under_a_bound_on_the_kl_the_error_must_have_stopped_falling() -> None:
    def falling(step: int) -> float:
        return 10.0 * step**-0.2

    until = Until()
    for step in range(25, 5001, 25):
        until.add({"step": step, "kl": 20.0, "kl.kappa": 20.0, "kl.state": 1, "rmse": falling(step)}, True)
    assert until.end is None
    assert end_of(falling, rmse=0.1, **{"kl.kappa": 20.0}) is not None


def test_its_state_is_all_there_is() -> None:
    whole, first, second = Until(), Until(), Until()
    for step in range(25, 1001, 25):
        row = {"step": step, "kl": 10 + 2000 / step, "re.state": 1}
        whole.add(row, True)
        (first if step <= 300 else second).add(row, True)
        if step == 300:
            second.load(first.state())
    assert second.state() == whole.state()


def config(**settings: object) -> TrainConfig:
    given = {"constraints": Constraints(re=0.25), "steps": 4000, "batch": 64, "lr": 1e-2, "until": "settled"}
    return TrainConfig(model=SMALL, **(given | settings))  # type: ignore[arg-type]


SLACK = config(constraints=Constraints(re=0.5))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is soon done: its constraint is slack."""
    path = tmp_path_factory.mktemp("until") / "run"
    train(SLACK, path)
    return path


def test_a_run_ends_settled_long_before_its_limit(tmp_path: Path) -> None:
    train(config(), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    summary = folder.read_summary()
    re = summary["constraints"]["re"]
    assert summary["steps"] < 3000
    assert re["state"] == "settled" and re["settled_at"] < summary["steps"] / 2
    assert re["value"] == pytest.approx(0.25, rel=0.02)
    assert folder.read_config() == config(), "the settings are those that were stated"
    assert folder.load_checkpoint()["step"] == summary["steps"]
    assert folder.metrics_file.read_text().splitlines()[-1].split(",")[0] == str(summary["steps"])


def test_it_is_the_run_of_so_many_steps(run: Path, tmp_path: Path) -> None:
    """The learning rate falls over the last fifth of it, as in any run."""
    steps = RunFolder(run).read_summary()["steps"]
    assert steps < 1000
    train(config(constraints=Constraints(re=0.5), until="steps", steps=steps), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_interrupted_it_ends_where_it_would_have(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, path = RunFolder(run).read_summary()["steps"], tmp_path / "run"
    for stop_at in (steps // 2, steps - 30):  # before and after its end was known
        with monkeypatch.context() as patch:
            stopping_after(stop_at, patch)
            with pytest.raises(Interrupted):
                resume(path) if path.exists() else train(SLACK, path)
    resume(path)
    assert (path / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_finished_and_resumed_it_stays_as_it_is_or_goes_on_to_the_steps_given(run: Path) -> None:
    steps = RunFolder(run).read_summary()["steps"]
    assert resume(run)["steps"] == steps
    summary = resume(run, steps=steps + 50)
    assert summary["steps"] == steps + 50 and RunFolder(run).read_config().until == "steps"


def test_the_steps_are_a_limit(tmp_path: Path) -> None:
    summary = train(config(constraints=Constraints(re=0.05), steps=60), tmp_path / "run")
    assert summary["steps"] == 60 and summary["constraints"]["re"]["state"] == "approaching"


def test_without_constraints_nothing_settles() -> None:
    with pytest.raises(ConfigError, match="until settled needs constraints"):
        config(objective="elbo", constraints=Constraints()).validate()


def stopping_after(step: int, patch: pytest.MonkeyPatch) -> None:
    """Interrupts a training after so many steps."""
    seed_step = loop.seed_step

    def seed_and_stop(seed: int, at: int, rank: int = 0) -> None:
        seed_step(seed, at, rank)
        if at + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(loop, "seed_step", seed_and_stop)
