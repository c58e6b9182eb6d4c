"""Two processes train what one does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from bridle.training import Constraints, ClassSpec, TrainConfig, loop, state

build = state.build_objective
built = []
state.build_objective = lambda *args: built.append(build(*args)) or built[-1]
out = Path(sys.argv[1])
model = ClassSpec("bridle.models.ConvVAE", {"width": 8, "hidden": 64, "latents": 8})
loop.train(TrainConfig(model=model, constraints=Constraints(re=0.2), steps=2500, batch=64, lr=2e-3), out)
import torch.distributed as dist
assert dist.is_initialized() == ("RANK" in __import__("os").environ)
rank = dist.get_rank() if dist.is_initialized() else 0
(out / f"multiplier-{rank}").write_text(built[0].geco.multipliers()["re"].item().hex())
"""


@pytest.mark.timeout(240)
def test_two_processes_match_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, str(script), str(tmp_path / "one")], check=True, capture_output=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(script), str(tmp_path / "two")], check=True, capture_output=True)

    multipliers = [(tmp_path / "two" / f"multiplier-{rank}").read_text() for rank in (0, 1)]
    assert multipliers[0] == multipliers[1]
    one, two = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two"))
    assert two["kl_train"] == pytest.approx(one["kl_train"], rel=0.02)
    assert two["rmse_train"] == pytest.approx(one["rmse_train"], rel=0.02)
    rows = [len((tmp_path / name / "metrics.csv").read_text().splitlines()) for name in ("one", "two")]
    assert rows[0] == rows[1], "the second process must write nothing"
