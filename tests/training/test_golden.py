"""Short training logs of every model family, kept beside this file: a change of what is computed shows.

They are written anew by ``pytest tests/training/test_golden.py --regenerate-golden`` and nothing else.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bridle.training import ClassSpec, Constraints, TrainConfig, train

GOLDEN = Path(__file__).parent / "golden"
SIZES: dict[str, dict[str, int]] = {
    "ConvVAE": {"latents": 4, "width": 4, "hidden": 16},
    "ConvDRAW": {"steps": 2, "channels": 8, "latent_channels": 2, "kernel": 3, "scale": 2},
    "NVPVAE": {"latents": 4, "width": 4, "hidden": 16, "couplings": 2, "flow_hidden": 8},
}


@pytest.mark.parametrize("model", SIZES)
def test_short_training_log(model: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    spec = ClassSpec(f"bridle.models.{model}", SIZES[model])  # type: ignore[arg-type]
    config = TrainConfig(model=spec, constraints=Constraints(re=0.2), steps=40, batch=32, log_every=4)
    train(config, tmp_path / "run")
    log = (tmp_path / "run" / "metrics.csv").read_text()
    golden = GOLDEN / f"{model}.csv"
    if request.config.getoption("--regenerate-golden"):
        golden.write_text(log)
        pytest.skip(f"wrote {golden.name}")
    expected, found = (list(csv.DictReader(text.splitlines())) for text in (golden.read_text(), log))
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for old, new in zip(expected, found, strict=True):
        # Processors round differently, and training carries that on; a wrong term is far outside of this.
        numbers = {key: pytest.approx(float(value), rel=2e-3, abs=1e-4) for key, value in old.items()}
        assert {key: float(value) for key, value in new.items()} == numbers
