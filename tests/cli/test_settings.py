"""Presets, on the command line and in files of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridle.cli.parsing import parse
from bridle.cli.settings import CLASSES, config_from, with_preset
from bridle.cli.train import _train_parser
from bridle.errors import ConfigError
from bridle.training import TrainConfig
from bridle.training.presets import preset_for


def read(*arguments: str) -> TrainConfig:
    return config_from(parse(_train_parser(), with_preset(list(arguments)), CLASSES))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Options that name a file each."""
    contents = {
        "tiny": "preset: tiny\nmodel: NVPVAE\n",
        "small": "preset: small\n",
        "five": "model: {class_path: NVPVAE, init_args: {latents: 5}}\nsteps: 7\n",
        "other": "model: {class_path: ConvVAE, init_args: {latents: 6}}\n",
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    return {name: f"--config={tmp_path / name}" for name in contents}


def assert_preset(config: TrainConfig, family: str, size: str, **changes: object) -> None:
    preset = preset_for(family, size)  # type: ignore[arg-type]
    assert config.model.class_path == f"bridle.models.{family}"
    settings = {name: value for name, value in config.model.init_args.items() if name in preset.model}
    assert settings == {**preset.model, **changes}


def test_the_last_one_wins_and_the_command_line_over_files(files: dict[str, str]) -> None:
    assert_preset(read(files["tiny"]), "NVPVAE", "tiny")
    assert read(files["tiny"]).steps == preset_for("NVPVAE", "tiny").steps
    assert_preset(read(files["tiny"], files["small"]), "NVPVAE", "small")
    assert_preset(read("--preset", "paper", files["tiny"]), "NVPVAE", "paper")
    assert_preset(read(files["tiny"], "--preset=tiny", "--preset", "paper"), "NVPVAE", "paper")
    assert read(files["five"]).steps == 7


def test_it_is_the_preset_of_the_model_that_the_arguments_come_to(files: dict[str, str]) -> None:
    five, other = files["five"], files["other"]
    assert_preset(read("--preset=tiny", five), "NVPVAE", "tiny", latents=5)
    assert read("--preset=tiny", five).steps == 7
    assert_preset(read("--preset=tiny", other, five), "NVPVAE", "tiny", latents=5)
    assert_preset(read("--preset=tiny", five, other), "ConvVAE", "tiny", latents=6)
    assert_preset(read("--preset=tiny", "--model", "NVPVAE", other), "ConvVAE", "tiny", latents=6)
    assert_preset(read("--preset=small", other, "--model", "NVPVAE"), "NVPVAE", "small")
    assert_preset(read("--preset=tiny", "--model.latents=3", "--model=NVPVAE"), "NVPVAE", "tiny", latents=3)
    assert_preset(read("--preset=tiny", "--model=ConvVAE", "--model=NVPVAE"), "NVPVAE", "tiny")


def test_an_unknown_one_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge").write_text("preset: huge\n")
    with pytest.raises(ConfigError, match="preset: 'huge' is unknown: there are tiny"):
        read(f"--config={tmp_path / 'huge'}")
