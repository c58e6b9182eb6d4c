"""Runs trained together are the runs that they would be one by one."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bridle.errors import ConfigError, Interrupted, TrainingError
from bridle.training import ClassSpec, Constraints, Geco, PatchOptions, TrainConfig, resume, train
from bridle.training.folder import RunFolder
from bridle.training.together import group, train_together

MODELS: dict[str, dict[str, object]] = {
    "ConvVAE": {"latents": 4, "width": 4, "hidden": 16},
    "NVPVAE": {"latents": 4, "width": 4, "hidden": 16, "couplings": 2, "flow_hidden": 8},
    "ConvDRAW": {"steps": 2, "channels": 4, "latent_channels": 2, "scale": 2},
}
RE = Constraints(re=0.2)


def config(model: str = "ConvVAE", **settings: object) -> TrainConfig:
    spec = ClassSpec(f"bridle.models.{model}", dict(MODELS[model]))
    if settings.get("objective", "geco") == "geco":
        settings.setdefault("constraints", RE)
    values = {"model": spec, "steps": 30, "batch": 32, "log_every": 7, "checkpoint_every": 9, **settings}
    return TrainConfig(**values)  # type: ignore[arg-type]


def mixed(model: str) -> list[TrainConfig]:
    return [
        config(model),
        config(model, constraints=Constraints(re=0.1), seed=1),
        config(model, constraints=Constraints(re_pixel=0.2, ssim=0.5), geco=Geco(rate=0.1)),
        config(model, objective="elbo"),
        config(model, objective="beta", beta=2.0, seed=2),
        config(model, objective="annealed", annealing="pixel_std"),
    ]


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def checkpoint(run: Path) -> dict[str, object]:
    return RunFolder(run).load_checkpoint()


def summary(run: Path) -> dict[str, object]:
    return json.loads((run / "summary.json").read_text())


def numbers(tree: object, key: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of a checkpoint or a summary, by their path."""
    if isinstance(tree, dict | list | tuple):
        for name, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from numbers(part, f"{key}/{name}")
    elif not key.endswith("seconds"):
        yield key, tree


def assert_equal_up_to_rounding(a: Path, b: Path) -> None:
    """Two finished runs: files, checkpoints, metrics and summaries."""
    files = [sorted(str(f.relative_to(run)) for f in run.rglob("*") if "tensorboard" not in f.parts) for run in (a, b)]
    assert files[0] == files[1]
    assert (a / "config.yaml").read_bytes() == (b / "config.yaml").read_bytes()
    # Training carries rounding on: the tolerances are ten times what it comes to here, and far below any difference of
    # noise, batches, clipping or multipliers.
    for mine, other in zip(rows(a), rows(b), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-5)
    for load in (
        lambda run: RunFolder(run).load_checkpoint(),
        lambda run: json.loads((run / "summary.json").read_text()),
    ):
        mine, other = (dict(numbers(load(run))) for run in (a, b))
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, other[key], rtol=1e-3, atol=1e-4)
            elif isinstance(value, float):
                assert value == pytest.approx(other[key], rel=1e-4, abs=1e-5), key
            else:
                assert value == other[key], key


def assert_same_bits(a: Path, b: Path) -> None:
    assert (a / "metrics.csv").read_bytes() == (b / "metrics.csv").read_bytes()
    mine, other = (dict(numbers(checkpoint(run))) for run in (a, b))
    assert mine.keys() == other.keys()
    for key, value in mine.items():
        assert torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key], key


@pytest.mark.parametrize("model", MODELS)
def test_equal_to_one_by_one(model: str, tmp_path: Path) -> None:
    configs = mixed(model)
    together = [tmp_path / f"together-{i}" for i in range(len(configs))]
    summaries = train_together(configs, together)
    for i, (settings, run) in enumerate(zip(configs, together, strict=True)):
        alone = tmp_path / f"alone-{i}"
        train(settings, alone)
        assert_equal_up_to_rounding(run, alone)
        assert summaries[i] == summary(run)
        # Before the first rounding could be carried on, nothing but rounding differs.
        assert rows(run)[0]["loss"] == pytest.approx(rows(alone)[0]["loss"], rel=2e-5)


def test_equal_with_a_conditional_model_and_held_out_constraints(tmp_path: Path) -> None:
    """Two passes a step, each with noise of its own, in the order of the run by itself."""
    data = ClassSpec("bridle.data.MNISTRotate", {"base": "Digits"})
    configs = [
        config("ConvDRAW", data=data, constrain_on="validation", constraints=Constraints(re=kappa), seed=seed)
        for kappa, seed in ((0.1, 0), (0.2, 0), (0.2, 3))
    ]
    train_together(configs, [tmp_path / f"together-{i}" for i in range(3)])
    for i, settings in enumerate(configs):
        train(settings, tmp_path / f"alone-{i}")
        assert_equal_up_to_rounding(tmp_path / f"together-{i}", tmp_path / f"alone-{i}")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TrainConfig], list[Path]]:
    """Two runs that were trained together."""
    configs = [config(), config(constraints=Constraints(re=0.1), seed=1)]
    runs = [tmp_path_factory.mktemp("pair") / f"run-{i}" for i in range(2)]
    train_together(configs, runs)
    return configs, runs


def copy_cut(run: Path, to: Path, step: int) -> Path:
    """A run as a kill would have left it that came soon after the checkpoint of this step."""
    shutil.copytree(run, to)
    (to / "summary.json").unlink()
    for file in RunFolder(to).checkpoint_files():
        if int(file.stem.removeprefix("step-")) > step:
            file.unlink()
    return to


def test_one_of_them_goes_on_alone(pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path) -> None:
    for i, run in enumerate(pair[1]):
        cut = copy_cut(run, tmp_path / f"{i}", 18)
        resume(cut)
        assert_equal_up_to_rounding(cut, run)


def test_killed_and_taken_up_again_together(pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path) -> None:
    configs, runs = pair
    cut = [copy_cut(run, tmp_path / run.name, 18) for run in runs]
    train_together(configs, cut)
    for run, again in zip(runs, cut, strict=True):
        assert_same_bits(run, again)


def test_the_one_ahead_waits_for_the_other(pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path) -> None:
    """Killed while the checkpoints were written, or with a run that has not begun: nothing is done twice."""
    configs, runs = pair
    ahead = copy_cut(runs[0], tmp_path / "ahead", 18)
    saved = RunFolder(ahead).checkpoint_files()[-1]
    before = saved.stat().st_mtime_ns
    train_together(configs, [ahead, tmp_path / "new"])
    assert saved.stat().st_mtime_ns == before
    assert_equal_up_to_rounding(ahead, runs[0])
    assert_equal_up_to_rounding(tmp_path / "new", runs[1])


def test_a_finished_run_is_left_as_it_is(pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path) -> None:
    configs, runs = pair
    before = [(run / "summary.json").stat().st_mtime_ns for run in runs]
    added = config(objective="elbo")
    summaries = train_together([*configs, added], [*runs, tmp_path / "added"])
    assert [(run / "summary.json").stat().st_mtime_ns for run in runs] == before
    assert [each["objective"] for each in summaries] == ["geco", "geco", "elbo"]


def test_a_setting_that_is_a_tuple_is_a_list_in_the_folder_of_the_same_run(
    pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path
) -> None:
    """A finished run, so that nothing is built from these settings."""
    run = tmp_path / "run"
    shutil.copytree(pair[1][0], run)
    config = replace(pair[0][0], data=ClassSpec("bridle.data.Digits", {"sizes": (8, 8)}))
    RunFolder(run).write_config(config)
    assert not RunFolder(run).holds_another(config) and RunFolder(run).holds_another(replace(config, seed=9))
    assert train_together([config], [run]) == [summary(run)]


def test_interrupted_by_the_user(
    pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the step in hand and saves all of them; taken up again they end with the same bits."""
    configs, runs = pair
    append = RunFolder.append_metrics

    def interrupt(folder: RunFolder, row: dict[str, float]) -> None:
        append(folder, row)
        if row["step"] == 14 and folder.path.name == "0":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFolder, "append_metrics", interrupt)
    outs = [tmp_path / "0", tmp_path / "1"]
    with pytest.raises(Interrupted, match="interrupted at step 15 and saved"):
        train_together(configs, outs)
    assert [checkpoint(out)["step"] for out in outs] == [15, 15]
    monkeypatch.undo()
    train_together(configs, outs)
    for run, again in zip(runs, outs, strict=True):
        assert_same_bits(run, again)


def test_a_loss_that_is_not_finite_stops_one_run_alone(
    pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path
) -> None:
    configs, runs = pair
    outs = [tmp_path / name for name in ("0", "endless", "1")]
    with pytest.raises(TrainingError, match="endless: the loss is not finite at step 7: train anew") as caught:
        train_together([configs[0], config(constraints=Constraints(re=1e-20)), configs[1]], outs)
    assert str(caught.value).count("not finite") == 1
    assert not (outs[1] / "summary.json").exists() and len(RunFolder(outs[1]).checkpoint_files()) == 1
    for run, other in zip(runs, (outs[0], outs[2]), strict=True):
        assert_equal_up_to_rounding(other, run)


def test_groups() -> None:
    recomputing = ClassSpec("bridle.models.ConvDRAW", {**MODELS["ConvDRAW"], "recompute": True})
    runs = [
        config(),
        config(steps=40),
        config(seed=5, constraints=Constraints(re=0.1, ssim=0.5)),
        config("NVPVAE"),
        config(objective="elbo"),
        config(accumulate=2),
        config(objective="annealed", steps=40),
        config(precision="bf16"),
        config(precision="bf16", seed=1),
        config(compile=True),
        config(constraints=Constraints(pncc=0.5), pncc=PatchOptions(random=3)),
        config(constraints=Constraints(pncc=0.5), pncc=PatchOptions(patch=4)),
        config(constrain_on="validation"),
        replace(config("ConvDRAW"), model=recomputing),
        replace(config("ConvDRAW", seed=1), model=recomputing),
    ]
    assert group(runs) == [[0, 2, 4, 11], [1, 6], [3], [5], [7], [8], [9], [10], [12], [13], [14]]
    assert group([]) == []


def test_what_cannot_be_done_is_refused_before_anything_is_written(
    pair: tuple[list[TrainConfig], list[Path]], tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    cases = [
        ([config(), config(steps=3)], [out, other], "cannot be trained together"),
        ([config(accumulate=2)], [out], "cannot be trained together"),
        ([config(), config(seed=1)], [out, out], "a folder of its own"),
        ([config(), config(seed=1)], [out], "there are 2 and 1"),
        ([config(), config(seed=-1)], [out, other], "seed must lie in"),
        ([config(), config(seed=9)], [out, pair[1][0]], "holds a run of other settings"),
        ([config(model="ConvVAE"), replace(config(), seed=1)], [out, Path(__file__)], "is a file"),
    ]
    for configs, outs, message in cases:
        with pytest.raises(ConfigError, match=message) as caught:
            train_together(configs, outs)
        assert "\n" not in str(caught.value)
    assert not out.exists() and not other.exists()
