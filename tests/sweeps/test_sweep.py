"""A sweep gives the same table however it gets there: by one process or several, at once or after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

import bridle.sweeps.work as work_module
from bridle.errors import BridleError, ConfigError, TrainingError
from bridle.sweeps import Job, LocalEngine, RayEngine, RunSpec, run_sweep
from bridle.training import ClassSpec, Constraints, TrainConfig
from bridle.training.folder import RunFolder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_same_sweep(a: Path, b: Path, specs: list[RunSpec]) -> None:
    assert (a / "table.csv").read_bytes() == (b / "table.csv").read_bytes()
    for spec in specs:
        metrics = [(out / spec.name / "metrics.csv").read_bytes() for out in (a, b)]
        assert metrics[0] == metrics[1] and metrics[0].count(b"\n") > 3, spec.name


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_give_the_numbers_of_one_process(
    workers: int, specs: list[RunSpec], straight: Path, tmp_path: Path
) -> None:
    result = run_sweep(specs, tmp_path / "sweep", workers=workers)
    assert list(result.runs) == [spec.name for spec in specs] and not result.failures
    assert_same_sweep(straight, tmp_path / "sweep", specs)


def test_ray_gives_the_numbers_of_one_process(specs: list[RunSpec], straight: Path, tmp_path: Path) -> None:
    """On a local cluster of two workers."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: no sweep ran on a cluster")
    result = run_sweep(specs, tmp_path / "sweep", engine=RayEngine(workers=2))
    assert not result.failures and not ray.is_initialized()
    assert_same_sweep(straight, tmp_path / "sweep", specs)


# So far apart that a signal which follows a checkpoint neither meets it being written nor comes after the next one or
# the end, however late a busy machine hands it over.
STEPS, EVERY = 2000, 400

COMMAND = [
    *(sys.executable, "-m", "bridle", "sweep", "--constraints.re", "0.2,0.3"),
    *("--model.latents", "4", "--model.width", "4", "--model.hidden", "16", "--batch", "32", "--steps", str(STEPS)),
    *("--log_every", "7", "--checkpoint_every", str(EVERY), "--workers", "2"),
]


def started(out: Path) -> subprocess.Popen[bytes]:
    """The sweep in a process, once a run of it has gone on for some steps."""
    before = set(out.glob("*/checkpoints/step-*.pt"))
    process = subprocess.Popen([*COMMAND, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(set(out.glob("*/checkpoints/step-*.pt")) - before) < 4:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    time.sleep(0.1)
    return process


def test_interrupted_killed_and_started_again(here, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    process = started(killed)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130 and "the same command goes on" in error and "Traceback" not in error, error
    last = [
        folder.checkpoint_files()[-1] for name in killed.iterdir() if (folder := RunFolder(name)).checkpoint_files()
    ]
    steps = [int(file.stem.removeprefix("step-")) for file in last]
    assert any(step % EVERY and step < STEPS for step in steps), "no run was stopped between two checkpoints and saved"

    process = started(killed)
    process.kill()
    process.communicate()
    time.sleep(0.5)
    left = contents(killed)
    time.sleep(0.5)
    assert contents(killed) == left, "a worker outlived the sweep"
    assert not (killed / "table.csv").exists()

    subprocess.run([*COMMAND, "--out", str(killed)], check=True, capture_output=True)
    specs = [RunSpec(name, RunFolder(killed / name).read_config()) for name in ("re=0.2", "re=0.3")]
    run_sweep(specs, tmp_path / "straight", engine=here)
    assert_same_sweep(tmp_path / "straight", killed, specs)
    assert (killed / "report.html").exists() and (killed / specs[0].name / "report.html").exists()


def test_what_is_finished_is_left_alone(here, specs: list[RunSpec], straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    shutil.copytree(straight, out)
    before = contents(out)
    result = run_sweep(specs, out, engine=here)
    assert contents(out) == before and not here.done
    assert list(result.runs) == [spec.name for spec in specs]


def test_what_is_not_finished_is_taken_up(here, specs: list[RunSpec], straight: Path, tmp_path: Path) -> None:
    """One run cut off in the middle, one before its first checkpoint, one that was never begun."""
    out = tmp_path / "sweep"
    shutil.copytree(straight, out)
    cut, begun, absent = (out / spec.name for spec in specs)
    for run in (cut, begun):
        (run / "summary.json").unlink()
    for file in RunFolder(cut).checkpoint_files()[2:]:
        file.unlink()
    shutil.rmtree(begun / "checkpoints")
    shutil.rmtree(absent)
    (out / "table.csv").unlink()
    run_sweep(specs, out, engine=here)
    assert_same_sweep(straight, out, specs)
    assert here.done == [[spec.name] for spec in specs]


def test_a_run_whose_page_is_missing_is_only_finished(
    here, specs: list[RunSpec], straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    shutil.copytree(straight, out)
    drawn = []

    def finish(run: Path, data: object) -> None:
        drawn.append((run.name, type(data).__name__))
        (run / "report.html").write_text("")

    (out / specs[0].name / "report.html").write_text("")
    checkpoints = {p: p.stat().st_mtime_ns for p in out.rglob("*.pt")}
    run_sweep(specs, out, engine=here, finish=finish)
    assert drawn == [(spec.name, "Digits") for spec in specs[1:]]
    assert checkpoints == {p: p.stat().st_mtime_ns for p in out.rglob("*.pt")}


def test_a_failing_run_is_reported_and_the_others_go_on(
    here, specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = work_module.train

    def sometimes(config: TrainConfig, out: Path, **settings: object) -> object:
        if config.objective == "elbo":
            raise TrainingError("the loss is not finite at step 3")
        if config.seed == 1:
            raise RuntimeError("two\nlines")
        return train(config, out, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(work_module, "train", sometimes)
    result = run_sweep(specs, tmp_path, engine=here)
    assert list(result.runs) == ["re=0.2"]
    log = tmp_path / "re=0.3,seed=1" / "log.txt"
    assert result.failures == {
        "objective=elbo": "the loss is not finite at step 3",
        "re=0.3,seed=1": f"RuntimeError: two lines (more in {log})",
    }
    assert "Traceback" in log.read_text()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and "failed: the loss is not finite at step 3" in told[0] and "kl " in told[1]
    statuses = [line.rpartition(",")[2] for line in (tmp_path / "table.csv").read_text().splitlines()]
    assert statuses == ["status", "not finished", "finished", "not finished"]

    monkeypatch.undo()
    assert not run_sweep(specs, tmp_path, engine=here).failures


DEADLY = """
import os, signal

def finish(run, data):
    if "elbo" in run.name:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_dies_fails_its_own_run(
    specs: list[RunSpec], straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    import deadly  # type: ignore[import-not-found]

    out = tmp_path / "sweep"
    shutil.copytree(straight, out)
    result = run_sweep(specs, out, workers=1, finish=deadly.finish)
    assert result.failures == {"objective=elbo": "its process was ended by SIGKILL, as for want of memory"}


def test_a_second_sweep_in_one_folder_is_refused_while_the_first_runs(here, specs: list[RunSpec], tmp_path) -> None:
    refused = []

    class Meanwhile:
        def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, str]], None, None]:
            with pytest.raises(
                ConfigError, match="another sweep is running in .*: wait for its end, or choose"
            ) as error:
                run_sweep(specs, tmp_path, engine=here)
            refused.append(str(error.value))
            yield jobs[0], {specs[0].name: "not tried"}

    run_sweep(specs[:1], tmp_path, engine=Meanwhile())
    assert len(refused) == 1 and "\n" not in refused[0] and not here.done
    assert not run_sweep(specs[:1], tmp_path, engine=here).failures


def test_runs_that_differ_in_kappa_are_trained_together(
    here, straight: Path, specs: list[RunSpec], tmp_path: Path
) -> None:
    other = RunSpec("steps=13", tiny_steps(specs[1].config, 13))
    result = run_sweep([*specs, other], tmp_path, engine=here, together=True)
    assert sorted(here.done) == [[spec.name for spec in specs], ["steps=13"]]
    alone = run_sweep(specs, straight, engine=here).runs
    for spec in specs:
        assert result.runs[spec.name]["kl_train"] == pytest.approx(alone[spec.name]["kl_train"], rel=1e-3)
        assert result.runs[spec.name]["rmse_train"] == pytest.approx(alone[spec.name]["rmse_train"], rel=1e-3)


def tiny_steps(config: TrainConfig, steps: int) -> TrainConfig:
    return TrainConfig(**{**vars(config), "steps": steps})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "b: steps must be at least 1, got 0"),
        ({"constraints": Constraints(re=1.5)}, r"b: constraints.re: kappa must lie in \(0, 1\], got 1.5"),
        ({"constraints": Constraints(fre=1.5)}, "b: constraints.fre: kappa must lie in"),
        ({"objective": "beta", "constraints": Constraints(), "beta": -1.0}, "b: beta must be positive"),
        ({"data": ClassSpec("bridle.data.MNIST", {"root": "absent"})}, "b: MNIST: not found under absent"),
        ({"data": ClassSpec("bridle.data.MNISTRotate", {"base": "Digits"}),
          "model": ClassSpec("bridle.models.ConvVAE", {"latents": 0})}, "b: "),
    ],
)  # fmt: skip
def test_a_misfit_is_refused_before_anything_starts(here, change: dict, message: str, specs, tmp_path: Path) -> None:
    bad = TrainConfig(**{**vars(specs[1].config), **change})
    with pytest.raises(BridleError, match=message) as caught:
        run_sweep([RunSpec("a", specs[0].config), RunSpec("b", bad)], tmp_path / "sweep", engine=here)
    assert "\n" not in str(caught.value) and not (tmp_path / "sweep").exists() and not here.done


def test_a_folder_with_another_run_is_refused(here, specs: list[RunSpec], straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    shutil.copytree(straight / specs[1].name, out / specs[0].name)
    before = contents(out)
    with pytest.raises(ConfigError, match="objective=elbo holds a run with other settings: choose another --out"):
        run_sweep(specs, out, engine=here)
    (out / specs[0].name / "config.yaml").unlink()
    before.pop(f"{specs[0].name}/config.yaml")
    with pytest.raises(ConfigError, match="holds a run"):
        run_sweep(specs, out, engine=here)
    assert contents(out) == before


def test_names_are_folders_of_their_own(here, specs: list[RunSpec], tmp_path: Path) -> None:
    config = specs[0].config
    with pytest.raises(ConfigError, match="2 runs of the sweep have the name 'a'"):
        run_sweep([RunSpec("a", config), RunSpec("b", config), RunSpec("a", config)], tmp_path, engine=here)
    for name in ("", ".", "..", "a/b"):
        with pytest.raises(ConfigError, match="is no name for a folder"):
            run_sweep([RunSpec(name, config)], tmp_path, engine=here)
    with pytest.raises(ConfigError, match="at least one run"):
        run_sweep([], tmp_path, engine=here)
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        run_sweep(specs, Path(__file__), engine=here)
    with pytest.raises(ConfigError, match="workers are those of the local engine"):
        run_sweep(specs, tmp_path, engine=here, workers=2)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"threads": 0}])
def test_numbers_of_workers_and_threads_are_positive(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least 1, got 0"):
        LocalEngine(**settings)


def test_the_environment_of_workers_is_not_left_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from bridle.sweeps.local import _environment

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with _environment({"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "3"}):
        assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "CUDA_VISIBLE_DEVICES" not in os.environ
