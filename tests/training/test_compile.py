"""A compiled run is the plain one to rounding."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from bridle.training import ClassSpec, Constraints, TrainConfig, train
from bridle.training.compiling import can_compile

SMALL = {
    "ConvVAE": {"latents": 4, "width": 4, "hidden": 8},
    "ConvDRAW": {"steps": 2, "channels": 4, "latent_channels": 2, "kernel": 3, "scale": 4},
}


def run_of(folder: Path, model: str, **settings: Any) -> list[dict[str, str]]:
    spec = ClassSpec(f"bridle.models.{model}", SMALL[model])
    config = TrainConfig(model=spec, steps=30, batch=16, log_every=10, checkpoint_every=15, **settings)
    train(config, folder)
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
