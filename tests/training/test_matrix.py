"""Every sensible combination of model, data, objective and constraint trains, and its checkpoint gives its numbers."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from bridle.classifiers import train_and_save
from bridle.data import Digits
from bridle.errors import ConfigError
from bridle.training import ClassSpec, Constraints, TrainConfig, train
from bridle.training.build import build_data
from bridle.training.config import ClassifierOptions, FeatureOptions, PerceptualOptions
from bridle.training.load import load_run
from bridle.training.summary import summarize

MODELS: dict[str, dict[str, int]] = {
    "ConvVAE": {"latents": 4, "width": 8, "hidden": 32},
    "ConvDRAW": {"steps": 2, "channels": 8, "latent_channels": 2, "kernel": 3, "scale": 2},
    "NVPVAE": {"latents": 4, "width": 8, "hidden": 32, "couplings": 2, "flow_hidden": 16},
}
UNCONDITIONAL = ("Digits", "ColorMNIST", "ColoredMNIST", "MNISTTriplets")
CONDITIONAL = ("MNISTSum", "MNISTSumHard", "MNISTRotate")
KAPPAS = {
    "re": 0.15,
    "re_pixel": 0.2,
    "re_channel": 0.15,
    "l1": 0.1,
    "pncc": 0.5,
    "ssim": 0.5,
    "fre": 0.5,
    "lpips": 0.2,
    "cla": 0.8,
    "kl": 10.0,
}
OPTIONS: dict[str, Callable[..., object]] = {
    "fre": FeatureOptions,
    "lpips": PerceptualOptions,
    "cla": ClassifierOptions,
}
STEPS = {"fre": 72, "lpips": 72, "cla": 360}
"""What is seen through a classifier moves late, and a probability last."""
OBJECTIVES: dict[str, dict[str, object]] = {
    "elbo": {"objective": "elbo"},
    "annealed": {"objective": "annealed"},
    "geco": {"constraints": Constraints(re=KAPPAS["re"])},
}


def combinations() -> list[tuple[str, str, str, dict[str, object]]]:
    every = [
        (model, data, name, settings)
        for model, data in (*itertools.product(MODELS, UNCONDITIONAL), *itertools.product(["ConvDRAW"], CONDITIONAL))
        for name, settings in OBJECTIVES.items()
    ]
    for model, (name, kappa) in itertools.product(MODELS, KAPPAS.items()):
        if name != "re":
            every.append((model, "Digits", name, {"constraints": Constraints(**{name: kappa})}))
    for model in MODELS:
        several = Constraints(re=KAPPAS["re"], pncc=KAPPAS["pncc"])
        every.append((model, "Digits", "re and pncc", {"constraints": several}))
        every.append((model, "MNISTRotate", "geco", OBJECTIVES["geco"]))
    return list({case[:3]: case for case in every}.values())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier of Digits for the constraints that need one. It has to know the digits: what one of 100 steps says
    of a picture that is none yet is of another mind on every machine, and its probabilities fall at first."""
    folder = tmp_path_factory.mktemp("classifier") / "digits"
    train_and_save(Digits(), folder, steps=300)
    return str(folder)


def constraints_of(settings: dict[str, object]) -> dict[str, float]:
    constraints = settings.get("constraints")
    return constraints.given() if isinstance(constraints, Constraints) else {}


def config_of(model: str, data: str, settings: dict[str, object], classifier: str | None = None) -> TrainConfig:
    return TrainConfig(
        data=ClassSpec(f"bridle.data.{data}", {} if data == "Digits" else {"base": "Digits"}),
        model=ClassSpec(f"bridle.models.{model}", dict(MODELS[model])),
        steps=max([24, *(STEPS[name] for name in constraints_of(settings) if name in STEPS)]),
        batch=32,
        lr=3e-3,
        log_every=6,
        checkpoint_every=1000,
        **{name: OPTIONS[name](classifier=classifier) for name in constraints_of(settings) if name in OPTIONS},
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("model", "data", "name", "settings"), [pytest.param(*case, id="-".join(case[:3])) for case in combinations()]
)
def test_trains_and_reloads(
    model: str, data: str, name: str, settings: dict[str, object], classifier: str, tmp_path: Path
) -> None:
    config = config_of(model, data, settings, classifier)
    summary = train(config, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    # The multipliers are part of a constrained loss and move: there it is the violations that fall, and under a
    # bound on the rate the error, which is then the objective.
    falling = [key for key in rows[0] if key.endswith(".violation")] or ["loss"]
    for key in ["rmse"] if name == "kl" else falling:
        assert rows[-1][key] < max(rows[0][key], 0.0), key

    loaded = load_run(tmp_path / "run")
    again = summarize(loaded.system, build_data(config), config.constrain_on, loaded.step, summary["seconds"])
    assert again == summary


@pytest.mark.parametrize(
    ("model", "data", "settings", "message"),
    [
        ("ConvVAE", "Digits", {"constraints": Constraints()}, "objective geco needs a constraint"),
        ("ConvVAE", "Digits", {"objective": "elbo", "constraints": Constraints(re=0.1)}, "enforces no constraint"),
    ],
)
def test_combinations_without_sense_are_refused(
    model: str, data: str, settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        train(config_of(model, data, settings), tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
