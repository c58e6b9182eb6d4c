"""Run folders that look like real ones: digits, curves of a plausible course, the numbers that go with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bridle.reports.grids import image_grid, pair_grid

MakeRun = Callable[..., Path]

CONFIG = """\
data:
  class_path: bridle.data.Digits
  init_args: {{}}
model:
  class_path: bridle.models.ConvVAE
  init_args:
    latents: 16
objective: {objective}
constraints: {{{constraints}}}
steps: {steps}
batch: 128
lr: 0.001
seed: 0
"""


def write_run(
    path: Path,
    objective: str = "geco",
    kappas: dict[str, float] | None = None,
    rmse: float = 0.1003,
    kl: float = 13.52,
    steps: int = 3000,
    every: int = 10,
    satisfied: bool = True,
) -> Path:
    """Write the folder of a finished run that ends at ``rmse`` and ``kl`` on the training images."""
    kappas = {"re": 0.1} if kappas is None and objective == "geco" else kappas or {}
    path.mkdir(parents=True)
    random = np.random.default_rng(len(path.name))
    step = np.arange(0, steps + 1, every)
    noise = random.normal(size=(3, len(step)))
    settle = steps / 8
    # The course of a run that diverged is like any other's: only its end is not finite.
    end, top = (v if np.isfinite(v) else 1.0 for v in (rmse, kl))
    error = end + (0.33 - end) * np.exp(-step / settle) * (1 + 0.02 * noise[0]) + 0.0015 * noise[0]
    rate = top * (1 - np.exp(-step / (settle / 2))) * (1 + 0.5 * np.exp(-(((step - settle) / settle) ** 2)))
    columns = {"step": step, "kl": rate + 0.1 * np.abs(noise[1]), "loss": rate + 32 * error, "rmse": error}
    columns["sigma"] = np.maximum(error, end) * (1 if objective == "geco" else 1.02)
    for name, kappa in kappas.items():
        columns[f"{name}.value"] = error * kappa / end * (1.003 if satisfied else 1.2)
        columns[f"{name}.kappa"] = np.full(len(step), kappa)
        columns[f"{name}.multiplier"] = 32 * np.exp(1.1 * np.sin(3 * np.exp(-step / (2 * settle))))
        columns[f"{name}.violation"] = (columns[f"{name}.value"] / kappa) ** 2 - 1
    if not kappas:
        columns["beta"] = (
            np.clip(2 - 1.3 * step / (0.1 * steps), 0.7, 2) if objective == "annealed" else np.ones(len(step))
        )
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))

    nll = float(np.log(rmse) + 0.5 * np.log(2 * np.pi * np.e) + np.log(16))
    summary = {
        "kl": kl * 0.985, "rmse": rmse * 1.19, "kl_train": kl, "rmse_train": rmse, "sigma_opt": rmse * 1.001,
        "nll": nll, "nll_bits": nll / np.log(2), "bits_per_dim": (64 * nll + kl) / (64 * np.log(2)),
        "steps": steps, "seconds": 41.7, "parameters": 412_929, "objective": objective, "image_shape": [1, 8, 8],
        "bin": 1 / 16,
        "constraints": {
            name: {"kappa": kappa, "value": kappa * (1.003 if satisfied else 1.2), "satisfied": satisfied,
                   "multiplier": 29.94, "scale": "relative",
                   **({"state": "settled", "settled_at": steps // 2} if satisfied
                      else {"state": "approaching", "settled_at": None})}
            for name, kappa in kappas.items()
        },
    }  # fmt: skip
    (path / "summary.json").write_text(json.dumps(summary))
    constraints = ", ".join(f"{k}: {v}" for k, v in kappas.items())
    (path / "config.yaml").write_text(CONFIG.format(objective=objective, constraints=constraints, steps=steps))

    digits = torch.from_numpy(load_digits().images).float().div(16).unsqueeze(1)
    x, samples = digits[:32], digits[100:164]

    def blur(images: torch.Tensor) -> torch.Tensor:
        smooth = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
        return (0.6 * images + 0.4 * smooth + 0.03 * torch.randn(images.shape)).clamp(0, 1)

    pair_grid(x, blur(x), columns=16).save(path / "reconstructions.png")
    image_grid(blur(samples), columns=16).save(path / "samples.png")
    return path


@pytest.fixture(scope="session", name="write_run")
def _write_run() -> MakeRun:
    """:func:`write_run`, for fixtures that live longer than a test."""
    return write_run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run("digits", objective="elbo", rmse=0.08)`` gives the path of a new run folder."""

    def make(name: str = "digits", **settings: object) -> Path:
        return write_run(tmp_path / name, **settings)  # type: ignore[arg-type]

    return make
