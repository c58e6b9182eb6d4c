"""A compiled run is the plain one to rounding."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from bridle.constraints import RE
from bridle.data import Batch
from bridle.models import ConvVAE
from bridle.objectives import ConstrainedObjective
from bridle.training import ClassSpec, Constraints, TrainConfig, resume, train
from bridle.training.compiling import can_compile, compile_system
from bridle.training.folder import RunFolder
from bridle.training.system import System

SMALL = {
    "ConvVAE": {"latents": 4, "width": 4, "hidden": 8},
    "ConvDRAW": {"steps": 2, "channels": 4, "latent_channels": 2, "kernel": 3, "scale": 4},
}


def run_of(folder: Path, model: str, **settings: Any) -> list[dict[str, str]]:
    """The rows of a run; fails if it was compiled against its settings, or was not or not as one graph."""
    torch._dynamo.reset()
    counters.clear()
    spec = ClassSpec(f"bridle.models.{model}", SMALL[model])
    config = TrainConfig(model=spec, steps=30, batch=16, log_every=10, checkpoint_every=15, **settings)
    train(config, folder)
    assert bool(counters["stats"]["unique_graphs"]) == config.compile and not counters["graph_break"]
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler, or no headers of Python")
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("ConvDRAW", {"constraints": Constraints(re=0.2)}),
        ("ConvVAE", {"constraints": Constraints(re=0.2, pncc=0.5), "constrain_on": "validation", "accumulate": 2}),
        ("ConvVAE", {"constraints": Constraints(re="0.2:0.3")}),
    ],
)
def test_equal_to_the_plain_run(tmp_path: Path, model: str, settings: dict[str, Any]) -> None:
    plain, compiled = (run_of(tmp_path / str(how), model, compile=how, **settings) for how in (False, True))
    assert len(plain) == len(compiled) == 3
    for a, b in zip(plain, compiled, strict=True):
        assert {k: float(v) for k, v in b.items()} == pytest.approx({k: float(v) for k, v in a.items()}, rel=1e-4)


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler, or no headers of Python")
def test_every_run_of_a_process_is_compiled(tmp_path: Path) -> None:
    """Torch gives up on a function that it has compiled a few times for other models."""
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    for latents in (3, 5):
        spec = ClassSpec("bridle.models.ConvVAE", {**SMALL["ConvVAE"], "latents": latents})
        config = TrainConfig(model=spec, steps=2, batch=16, constraints=Constraints(re=0.2), compile=True)
        counters.clear()
        with torch._dynamo.config.patch({limit: 1}):
            train(config, tmp_path / str(latents))
        assert counters["stats"]["unique_graphs"] == 1


def test_nothing_moves_before_the_first_step() -> None:
    torch.manual_seed(0)
    model = ConvVAE((1, 8, 8), **SMALL["ConvVAE"])
    model.encoder[0] = nn.Sequential(model.encoder[0], nn.BatchNorm2d(4))
    system = System(model, ConstrainedObjective([RE(0.2)], {"re": RE(0.2).bound((1, 8, 8))}))
    before = {name: tensor.clone() for name, tensor in system.state_dict().items() if isinstance(tensor, torch.Tensor)}
    compile_system(system, Batch(torch.rand(16, 1, 8, 8)))
    after = system.state_dict()
    assert system.training and any("running_mean" in name for name in before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_run_goes_on_where_nothing_can_be_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = ClassSpec("bridle.models.ConvVAE", SMALL["ConvVAE"])
    config = TrainConfig(model=spec, steps=4, batch=16, constraints=Constraints(re=0.2))
    train(config, tmp_path / "run")
    config.compile = True
    RunFolder(tmp_path / "run").write_config(config)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert resume(tmp_path / "run", steps=8)["steps"] == 8
    assert "the run goes on uncompiled" in caplog.text
