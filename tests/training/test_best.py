"""The best feasible checkpoint against all checkpoints, measured one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bridle
from bridle.data import Digits
from bridle.errors import CheckpointError
from bridle.evaluation import measure_split
from bridle.training import ClassSpec, Constraints, TrainConfig, resume, train
from bridle.training.folder import RunFolder
from bridle.training.load import load_model, load_run
from bridle.training.together import train_together

SMALL = ClassSpec("bridle.models.ConvVAE", {"latents": 4, "width": 4, "hidden": 16})


def config(**settings: object) -> TrainConfig:
    given = {"constraints": Constraints(re=0.35), "steps": 120, "batch": 64, "checkpoint_every": 10, **settings}
    return TrainConfig(model=SMALL, **given)  # type: ignore[arg-type]


def by_hand(run: Path, split: str = "train") -> tuple[int, float]:
    """The step of the best checkpoint and its KL, from the checkpoints of all steps."""
    folder, data = RunFolder(run), Digits()
    found = []
    last = folder.checkpoint_files()
    for file in last[1:]:
        model = load_model(run)
        weights = torch.load(file, weights_only=True)["system"]
        model.load_state_dict({k[6:]: v for k, v in weights.items() if k.startswith("model.")})
        error = measure_split(model, data.split(split)).rmse  # type: ignore[arg-type]
        kl = measure_split(model, data.split("validation")).kl
        if error <= 1.01 * 0.35:
            found.append((kl, int(file.stem[5:])))
    assert 1 < len(found) < len(last) - 1, "the choice is no choice"
    return min(found)[1], min(found)[0]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_it_is_the_feasible_checkpoint_of_least_kl(split: str, tmp_path: Path) -> None:
    train(config(constrain_on=split), tmp_path / "run")
    step, kl = by_hand(tmp_path / "run", split)
    best = RunFolder(tmp_path / "run").load_checkpoint(best=True)
    assert best["step"] == step and best["kl"] == pytest.approx(kl)


def test_load_gives_its_weights(tmp_path: Path) -> None:
    train(config(), tmp_path / "run")
    step, _ = by_hand(tmp_path / "run")
    weights = torch.load(tmp_path / "run" / "checkpoints" / f"step-{step:08d}.pt", weights_only=True)["system"]
    best = bridle.load(tmp_path / "run", best=True).state_dict()
    assert best.keys() == {k[6:] for k in weights if k.startswith("model.")}
    assert all(torch.equal(v, weights[f"model.{k}"]) for k, v in best.items())
    assert load_run(tmp_path / "run", best=True).step == step


def test_a_run_taken_up_has_the_same_best(tmp_path: Path) -> None:
    train(config(), tmp_path / "whole")
    train(config(steps=70), tmp_path / "parts")
    RunFolder(tmp_path / "parts").write_config(config(steps=70))
    resume(tmp_path / "parts", steps=120)
    # The learning rate fell over other steps, so that only the choice is compared.
    step, kl = by_hand(tmp_path / "parts")
    best = RunFolder(tmp_path / "parts").load_checkpoint(best=True)
    assert (best["step"], best["kl"]) == (step, pytest.approx(kl))


def test_runs_trained_together_have_theirs(tmp_path: Path) -> None:
    configs = [config(), config(constraints=Constraints(re=0.4))]
    train_together(configs, [tmp_path / "a", tmp_path / "b"])
    step, kl = by_hand(tmp_path / "a")
    best = RunFolder(tmp_path / "a").load_checkpoint(best=True)
    assert best["step"] == step and best["kl"] == pytest.approx(kl)
    assert RunFolder(tmp_path / "b").best_file.is_file()


def test_there_is_none_where_no_checkpoint_is_feasible(tmp_path: Path) -> None:
    for name, settings in (("hard", {"constraints": Constraints(re=0.01)}), ("elbo", NO_CONSTRAINT)):
        train(config(steps=20, **settings), tmp_path / name)
        with pytest.raises(CheckpointError, match="none of its checkpoints met every constraint"):
            bridle.load(tmp_path / name, best=True)


def test_a_new_run_in_the_folder_drops_the_old_best(tmp_path: Path) -> None:
    train(config(), tmp_path / "run")
    assert RunFolder(tmp_path / "run").best_file.is_file()
    train(config(constraints=Constraints(re=0.01), steps=20), tmp_path / "run", overwrite=True)
    assert not RunFolder(tmp_path / "run").best_file.is_file()


NO_CONSTRAINT: dict[str, object] = {"objective": "elbo", "constraints": Constraints()}
