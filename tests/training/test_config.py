"""Settings: what is refused, and that config.yaml repeats a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle.errors import CheckpointError, ConfigError
from bridle.training import ClassSpec, Constraints, Geco, TrainConfig, train
from bridle.training.build import build_model, build_objective
from bridle.training.folder import RunFolder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constraints": Constraints()}, "objective geco needs a constraint, such as --constraints.re 0.1"),
        ({"constraints": Constraints(re=0.0)}, "constraints.re: kappa must be positive"),
        ({"constraints": Constraints(re=-0.1)}, "constraints.re: kappa must be positive"),
        ({"constraints": Constraints(re=float("nan"))}, "constraints.re: kappa must be positive and finite, got nan"),
        ({"objective": "elbo"}, "objective elbo enforces no constraint: leave out constraints.re"),
        ({"objective": "beta", "constraints": Constraints(), "constrain_on": "validation"}, "needs --objective geco"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": -1}, "batch must be at least 1"),
        ({"lr": float("nan")}, "lr must be positive and finite"),
        ({"lr_final": 1.0}, "lr_final must lie in 0 to lr, got 1"),
        ({"precision": "fp16", "device": "cpu"}, "precision fp16 needs an accelerator: use bf16 or no"),
        ({"clip": -1.0}, "clip must be zero"),
        ({"seed": -1}, "seed must lie in"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"batch": 10, "accumulate": 3}, "batch 10 cannot be shared equally by 1 processes x accumulate 3"),
        ({"constraints": Constraints(re=1.5)}, r"kappa must lie in \(0, 1\], got 1.5"),
        ({"objective": "beta", "constraints": Constraints(), "beta": 0.0}, "beta must be positive"),
        ({"model": ClassSpec("bridle.models.ConvVAE", {"latents": 0})}, "must be at least 1"),
        ({"model": ClassSpec("bridle.models.Missing")}, "cannot import bridle.models.Missing"),
        ({"model": ClassSpec("bridle.data.Digits")}, "bridle.data.Digits is not a LatentModel"),
    ],
)
def test_refused_before_anything_is_written(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    config = TrainConfig(**{"constraints": Constraints(re=0.1), **settings})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message) as caught:
        train(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_compiling_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match="^compile needs a C.. compiler and Python's headers: install them"):
        train(TrainConfig(constraints=Constraints(re=0.1), compile=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_config_file_round_trip(tmp_path: Path) -> None:
    config = TrainConfig(
        model=ClassSpec("bridle.models.ConvVAE", {"latents": 3}),
        constraints=Constraints(re=0.07),
        geco=Geco(rule="algorithm1", rate=0.5, alpha=0.0),
        steps=7,
    )
    folder = RunFolder(tmp_path / "run")
    folder.write_config(config)
    assert folder.read_config() == config


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "\x00"])
def test_a_damaged_config_file_is_named(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.config_file.write_text(text)
    with pytest.raises(CheckpointError, match="config.yaml is damaged"):
        folder.read_config()
    with pytest.raises(CheckpointError, match="holds no run"):
        RunFolder(tmp_path / "absent").read_config()


def test_another_run_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    model = ClassSpec("bridle.models.ConvVAE", {"width": 4, "hidden": 8, "latents": 2})
    config = TrainConfig(model=model, constraints=Constraints(re=0.2), steps=2)
    train(config, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="holds a run: go on with it by --resume"):
        train(config, tmp_path / "run")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert train(TrainConfig(model=model, constraints=Constraints(re=0.2), steps=1), tmp_path / "run", overwrite=True)
    assert [f.name for f in RunFolder(tmp_path / "run").checkpoint_files()][-1] == "step-00000001.pt"


def test_the_printed_rule_is_the_paper_s() -> None:
    config = TrainConfig(constraints=Constraints(re=0.1), geco=Geco(rule="algorithm1", rate=2.0, alpha=0.5))
    bound = build_objective(config, (1, 8, 8), 1 / 16).geco.constraints["re"]  # type: ignore[union-attr]
    assert (bound.scale, bound.initial, bound.bounds, bound.max_log_step) == ("absolute", 1.0, None, None)
    assert (bound.rate, bound.alpha, bound.upper) == (2.0, 0.5, pytest.approx(0.01))


def test_an_image_size_that_the_model_cannot_take() -> None:
    with pytest.raises(ConfigError, match="ConvVAE takes images of 8 to 128 pixels a side, not 4x4"):
        build_model(TrainConfig(), (1, 4, 4), None)


def test_mixed_precision_trains_in_bf16_and_measures_in_float32(tmp_path: Path) -> None:
    model = ClassSpec("bridle.models.ConvVAE", {"width": 4, "hidden": 16, "latents": 4})
    plain, mixed = (
        train(TrainConfig(model=model, constraints=Constraints(re=0.2), steps=20, precision=p), tmp_path / p)  # type: ignore[arg-type]
        for p in ("no", "bf16")
    )
    assert mixed["kl_train"] != plain["kl_train"], "autocast was not on"
    assert mixed["rmse_train"] == pytest.approx(plain["rmse_train"], rel=0.02)
