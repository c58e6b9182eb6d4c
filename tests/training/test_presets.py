"""Presets: what they set, and that an option given beside one wins."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import bridle.models
from bridle.cli.main import main
from bridle.errors import ConfigError
from bridle.training.presets import PRESETS, preset_for


def printed_config(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", "--constraints.re", "0.1", *arguments, "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("family", PRESETS)
@pytest.mark.parametrize(("preset", "side"), [("tiny", 8), ("small", 28), ("small", 32)])
def test_models_of_every_preset_can_be_built(family: str, preset: str, side: int) -> None:
    model = getattr(bridle.models, family)((1, side, side), **preset_for(family, preset).model)  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters()) > 1000


@pytest.mark.parametrize("family", PRESETS)
@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_a_preset_sets_model_and_training(family: str, preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = printed_config(["--model", family, "--preset", preset], capsys)
    expected = preset_for(family, preset)  # type: ignore[arg-type]
    assert {k: config["model"]["init_args"][k] for k in expected.model} == expected.model  # type: ignore[index]
    assert (config["steps"], config["batch"], config["lr"]) == (expected.steps, expected.batch, expected.lr)


def test_options_given_beside_it_win(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--steps", "7", "--preset=tiny", "--model", "ConvDRAW", "--model.channels", "9", "--lr", "0.5"]
    config = printed_config(given, capsys)
    sizes = config["model"]["init_args"]  # type: ignore[index]
    assert (config["steps"], config["batch"], config["lr"]) == (7, 64, 0.5)
    assert (sizes["channels"], sizes["steps"], sizes["scale"]) == (9, 4, 2)


def test_a_preset_without_a_model_is_of_the_default_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed_config(["--preset", "small"], capsys)["steps"] == PRESETS["ConvVAE"]["small"].steps


def test_what_has_no_preset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"my\.Model has none; there are presets for ConvVAE"):
        preset_for("my.Model", "tiny")
    assert main(["train", "--preset", "tyni", "--constraints.re", "0.1", "--out", str(tmp_path / "run")]) == 2
    assert "preset: 'tyni' is unknown: there are tiny, " in capsys.readouterr().err


def test_a_preset_is_of_the_model_that_a_file_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("model: ConvDRAW\nsteps: 7\n")
    config = printed_config(["--config", str(tmp_path / "run.yaml"), "--preset", "tiny"], capsys)
    tiny = preset_for("ConvDRAW", "tiny")
    assert config["model"]["class_path"] == "bridle.models.ConvDRAW"
    assert {name: config["model"]["init_args"][name] for name in tiny.model} == tiny.model
    assert (config["steps"], config["batch"]) == (7, tiny.batch)
