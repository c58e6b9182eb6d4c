from __future__ import annotations

import pytest

from bridle.errors import ConfigError
from bridle.reproduce import EXHIBITS, SCALES
from bridle.training.presets import preset_for


@pytest.mark.parametrize("name", SCALES)
def test_a_name_means_one_run_and_every_run_is_valid(name):
    configs = {}
    for exhibit in EXHIBITS.values():
        for spec in exhibit.runs(SCALES[name]):
            spec.config.validate()
            assert configs.setdefault(spec.name, spec.config) == spec.config
    assert len(configs) > 30


def test_tiny_needs_no_files_and_paper_is_the_papers_list():
    tiny, paper = SCALES["tiny"], SCALES["paper"]
    assert all(s.spec.class_path.endswith("Digits") or s.spec.init_args == {"base": "Digits"} for s in tiny.sources())
    unconditional = ["CelebA", "CIFAR-10", "MNIST", "Color-MNIST", "MNIST-triplets"]
    assert [s.name for s in paper.unconditional] == unconditional
    assert [s.name for s in paper.conditional] == ["MNIST-sum", "MNIST-sum-hard", "MNIST-rotate"]
    assert paper.kappas == (0.06, 0.08, 0.1, 0.125, 0.175)
    config = paper.run(paper.cifar10, "ConvDRAW", re=0.1).config
    preset = preset_for("ConvDRAW", "paper")
    assert (config.steps, config.batch, config.lr) == (preset.steps, preset.batch, preset.lr)
    assert config.model.init_args == preset.model


def test_a_scale_may_have_sizes_of_its_own():
    tiny, preset = SCALES["tiny"], preset_for("NVPVAE", "tiny")
    assert tiny.cifar10 is not None and tiny.sizes["NVPVAE"].items() - preset.model.items()
    assert tiny.run(tiny.cifar10, "NVPVAE", "elbo").config.model.init_args == {**preset.model, **tiny.sizes["NVPVAE"]}


def test_figures_share_their_runs():
    specs = [spec for e in EXHIBITS.values() for spec in e.runs(SCALES["tiny"])]
    assert len({s.name for s in specs}) < len(specs)
    assert EXHIBITS["figure1"].runs(SCALES["tiny"])[0] in EXHIBITS["figure2"].runs(SCALES["tiny"])


def test_only_some_data_and_models():
    scale = SCALES["small"].only(["MNIST"], ["NVPVAE"])
    specs = EXHIBITS["figure2"].runs(scale)
    assert len(specs) == 7 and all(s.name.startswith("MNIST,NVPVAE,") for s in specs)
    assert EXHIBITS["figure1"].runs(scale) == [] and EXHIBITS["table2"].runs(scale) == []
    with pytest.raises(ConfigError, match="scale tiny has no 'MNIST': there are Digits, Digits-rotate, Color-Digits"):
        SCALES["tiny"].only(["MNIST"])
    with pytest.raises(ConfigError, match="scale small has no 'VAE': there are ConvDRAW, NVPVAE"):
        SCALES["small"].only(None, ["VAE"])
