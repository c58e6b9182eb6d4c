"""A run that is killed and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bridle.errors import CheckpointError, ConfigError, TrainingError
from bridle.training import ClassSpec, Constraints, TrainConfig, resume, train
from bridle.training.compiling import can_compile
from bridle.training.folder import RunFolder

SMALL = ClassSpec("bridle.models.ConvVAE", {"width": 4, "hidden": 16, "latents": 4})


def small_config(**settings: object) -> TrainConfig:
    values: dict[str, object] = {"model": SMALL, "steps": 40, "batch": 32, "log_every": 7, "checkpoint_every": 9}
    if settings.get("objective", "geco") == "geco":
        values["constraints"] = Constraints(re=0.2)
    return TrainConfig(**{**values, **settings})  # type: ignore[arg-type]


def assert_same_run(a: Path, b: Path) -> None:
    last_a, last_b = RunFolder(a).load_checkpoint(), RunFolder(b).load_checkpoint()
    assert last_a["step"] == last_b["step"]
    for part in ("system", "optimizer"):
        flat_a, flat_b = (dict(_tensors(last[part])) for last in (last_a, last_b))
        assert flat_a.keys() == flat_b.keys() and flat_a
        for key, tensor in flat_a.items():
            assert torch.equal(tensor, flat_b[key]), key
    summaries = [json.loads((run / "summary.json").read_text()) for run in (a, b)]
    for summary in summaries:
        del summary["seconds"]
    assert summaries[0] == summaries[1]
    assert (a / "metrics.csv").read_bytes() == (b / "metrics.csv").read_bytes()


def _tensors(tree: object, key: str = ""):  # type: ignore[no-untyped-def]
    if isinstance(tree, torch.Tensor):
        yield key, tree
    elif isinstance(tree, dict):
        for k, v in tree.items():
            yield from _tensors(v, f"{key}/{k}")
    elif isinstance(tree, list | tuple):
        for i, v in enumerate(tree):
            yield from _tensors(v, f"{key}/{i}")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate": 4},
        {"constrain_on": "validation"},
        pytest.param(
            {"compile": True, "constraints": Constraints(re="0.2:0.3")},
            marks=pytest.mark.skipif(not can_compile(), reason="no C++ compiler"),
        ),
        {"objective": "elbo"},
        {"objective": "annealed"},
        {"objective": "annealed", "annealing": "pixel_std"},
    ],
    ids=str,
)
def test_from_any_checkpoint(tmp_path: Path, settings: dict[str, object]) -> None:
    """Resumed from a checkpoint that falls between two rows of metrics.csv, as after a crash at some later step."""
    config = small_config(**settings)
    train(config, tmp_path / "straight")
    train(config, tmp_path / "cut")
    cut = RunFolder(tmp_path / "cut")
    for file in cut.checkpoint_files():
        if int(file.stem.removeprefix("step-")) > 18:
            file.unlink()
    (cut.path / "summary.json").unlink()
    with cut.metrics_file.open("a") as file:
        file.write("41,0.1")  # a row that the crash cut off
    resume(cut.path)
    assert_same_run(tmp_path / "straight", cut.path)


COMMAND = [sys.executable, "-m", "bridle", "train", "--constraints.re", "0.2", "--model.width", "4"]
COMMAND += ["--model.hidden", "16", "--steps", "1000", "--log_every", "7", "--checkpoint_every", "23"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    subprocess.run([*COMMAND, "--out", str(run)], check=True, capture_output=True)
    return run


@pytest.mark.parametrize("wait", [0.0, 0.5])
def test_killed_at_any_instant(straight: Path, tmp_path: Path, wait: float) -> None:
    killed = tmp_path / "killed"
    process = subprocess.Popen([*COMMAND, "--out", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(killed / "checkpoints" / "step-00000000.pt", process)
    time.sleep(wait)
    process.kill()
    process.wait()
    assert not (killed / "summary.json").exists(), "the run had ended before it was killed: make it longer"
    subprocess.run([sys.executable, "-m", "bridle", "train", "--resume", str(killed)], check=True, capture_output=True)
    assert_same_run(straight, killed)
    assert (killed / "report.html").exists() and (killed / "samples.png").exists()


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    """Ctrl-C ends the step in hand, saves it, and says how to go on."""
    run = tmp_path / "run"
    process = subprocess.Popen([*COMMAND, "--steps", "100000", "--out", str(run)], stderr=subprocess.PIPE, text=True)
    _wait_for(run / "metrics.csv", process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on by bridle train --resume {run}" in error.splitlines()[-1]
    saved = RunFolder(run).load_checkpoint()["step"]
    assert f"interrupted at step {saved} and saved" in error
    assert resume(run, steps=saved + 3)["steps"] == saved + 3


def test_goes_on_past_the_end(tmp_path: Path) -> None:
    train(small_config(steps=20), tmp_path / "short")
    assert resume(tmp_path / "short", steps=40)["steps"] == 40
    rows = (tmp_path / "short" / "metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [7, 14, 20, 21, 28, 35, 40]
    assert RunFolder(tmp_path / "short").read_config().steps == 40
    with pytest.raises(ConfigError, match="at step 40, past --steps 30"):
        resume(tmp_path / "short", steps=30)


def test_a_run_that_is_given_more_steps_is_unfinished_until_it_has_made_them(tmp_path: Path) -> None:
    """A sweep that finds it half-way must not take the numbers of the old end for those of the new one."""
    train(small_config(steps=20), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    old = folder.read_summary()
    (folder.path / "report.html").write_text("of the old end")
    assert resume(folder.path) == {**old, "seconds": folder.read_summary()["seconds"]}
    assert folder.finished and (folder.path / "report.html").exists()
    folder.go_on(small_config(steps=40), step=20)
    assert not folder.finished and not (folder.path / "report.html").exists()
    with pytest.raises(CheckpointError, match="has no summary.json: bridle train --resume .* finishes the run"):
        folder.read_summary()


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    train(small_config(), tmp_path / "run")
    files = RunFolder(tmp_path / "run").checkpoint_files()
    files[-1].write_bytes(files[-1].read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=f"step-00000040.pt is truncated .*: delete it to use {files[-2].name}"):
        resume(tmp_path / "run")
    files[-1].unlink()
    assert resume(tmp_path / "run")["steps"] == 40


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(small_config(), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    other = folder.read_config()
    other.model.init_args["latents"] = 5
    folder.write_config(other)
    with pytest.raises(CheckpointError, match="of another model or objective") as caught:
        resume(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    real = os.fsync
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:  # config.yaml and the checkpoints of steps 0, 9 and 18 went well
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(CheckpointError, match="step 27 .*No space left on device.*step-00000018.pt survives"):
        train(config, tmp_path / "full")
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "full" / "checkpoints").iterdir())[-1] == "step-00000018.pt"
    resume(tmp_path / "full")
    train(config, tmp_path / "straight")
    assert_same_run(tmp_path / "straight", tmp_path / "full")


def _wait_for(path: Path, process: subprocess.Popen) -> None:  # type: ignore[type-arg]
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, "the run did not start"
        time.sleep(0.01)


def test_a_loss_that_is_not_finite_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is not finite at step [0-9]+: train anew with a lower --lr"):
        train(small_config(lr=1e9, checkpoint_every=1), tmp_path / "run")
    weights = RunFolder(tmp_path / "run").load_checkpoint()["system"].values()
    assert all(bool(w.isfinite().all()) for w in weights if isinstance(w, torch.Tensor))
