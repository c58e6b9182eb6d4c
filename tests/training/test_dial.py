"""Runs for a range of kappas, and runs that begin with what another one learned."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_resume import SMALL, assert_same_run, small_config

import bridle
from bridle.data import Digits
from bridle.dial import Dial, DialledGECO
from bridle.errors import BridleError, ConfigError
from bridle.evaluation import measure_split
from bridle.models import ConvVAE, Dialled
from bridle.training import ClassSpec, Constraints, PatchOptions, TrainConfig, resume, train
from bridle.training.config import Geco
from bridle.training.folder import RunFolder
from bridle.training.load import load_run

MODEL = ClassSpec("bridle.models.ConvVAE", {"width": 8, "hidden": 32, "latents": 4})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dial") / "run"
    train(small_config(model=MODEL, constraints=Constraints(re="0.2:0.27"), steps=600, batch=64, lr=5e-3), out)
    return out


def test_its_summary_is_that_of_the_middle_and_has_the_curve(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    re = summary["constraints"]["re"]
    assert re["kappa"] == 0.2324 and re["value"] == pytest.approx(summary["rmse_train"], rel=1e-5)
    assert summary["dial"]["ranges"] == {"re": [0.2, 0.27]}
    points = summary["dial"]["curve"]["re"]
    kappas = [point["kappas"]["re"] for point in points]
    assert len(points) == 10 and kappas == sorted(kappas) and (kappas[0], kappas[-1]) == (0.2, 0.27)
    split, model = Digits().split("train"), bridle.load_dialled(run)
    for point in points[::3]:
        again = measure_split(model.at(point["kappas"]["re"]), split, most=10_000)
        assert (again.kl, again.rmse) == (point["kl"], point["rmse"])
        assert point["values"]["re"] == pytest.approx(point["rmse"], rel=1e-5)
        assert 0 < point["rmse_standard_error"] < 0.05 * point["rmse"]
    # The dial is one: a tighter kappa is a smaller error at a higher rate.
    assert points[0]["kl"] > 2 * points[-1]["kl"] and points[0]["rmse"] < 0.9 * points[-1]["rmse"]


def test_its_model_at_a_kappa_is_an_ordinary_one(run: Path) -> None:
    model = bridle.load(run, kappa=0.2)
    assert type(model) is ConvVAE and not model.training
    x = Digits().split("test").batch(torch.arange(5)).x
    dialled = bridle.load_dialled(run)
    position = dialled.ruler.place({"re": 0.2}).expand(5, 1)
    with torch.no_grad():
        one, other = (
            m(*where, x, None, torch.Generator().manual_seed(0)) for m, where in ((model, ()), (dialled, (position,)))
        )
    torch.testing.assert_close(one.x_hat, other.x_hat)
    torch.testing.assert_close(one.kl, other.kl)
    assert torch.equal(bridle.load(run, kappa={"re": 0.2}).sample(3, generator=torch.Generator().manual_seed(1)),
                       model.sample(3, generator=torch.Generator().manual_seed(1)))  # fmt: skip


def test_a_kappa_is_had_where_it_was_measured_to_be_met(run: Path) -> None:
    dialled, split = bridle.load_dialled(run), Digits().split("train")
    kappas = [point["re"] for point in dialled.dial.along("re", 12)]

    def furthest_off() -> float:
        return max(abs(measure_split(dialled.at(kappa), split).rmse / kappa - 1) for kappa in kappas[1:-1])

    assert furthest_off() < 0.01
    dialled.ruler.forget()
    assert furthest_off() > 0.03


def test_a_multiplier_is_that_of_the_place(run: Path) -> None:
    system = load_run(run).system
    geco, place = system.objective.geco, system.model.ruler.place({"re": 0.23})  # type: ignore[attr-defined]
    (stand,) = system.at({"re": 0.23})[1]
    assert stand.term.kappa == 0.23
    assert stand.multiplier == pytest.approx(geco.multipliers_at(place)["re"].item())
    assert not torch.equal(place, system.model.dial.position({"re": 0.23}))  # type: ignore[union-attr]


def test_what_is_trained_further_is_measured_anew(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    resume(tmp_path / "run", steps=620)
    checkpoints = [torch.load(file, weights_only=True) for file in RunFolder(tmp_path / "run").checkpoint_files()]
    off = {checkpoint["step"]: checkpoint["system"]["model.ruler.off"] for checkpoint in checkpoints}
    assert torch.equal(off[600], bridle.load_dialled(run).ruler.off)
    assert {step for step, readings in off.items() if readings.any()} == {600, 620} and len(off) > 4
    assert not torch.equal(off[600], off[620])


def test_its_images_go_from_loose_kappas_to_tight_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(model=MODEL, constraints=Constraints(re="0.17:0.26"), steps=10, batch=32)
    shown = []
    step = DialledGECO.forward

    def forward(self: DialledGECO, *arguments: Any, position: torch.Tensor, **values: Any) -> Any:
        shown.append(position.clone())
        return step(self, *arguments, position=position, **values)

    monkeypatch.setattr(DialledGECO, "forward", forward)
    train(config, tmp_path)
    dial = Dial({"re": (0.17, 0.26)})
    for n, position in enumerate(shown):
        dial.advance(n / 10)
        torch.testing.assert_close(position, dial.even(32))
    means = [position.mean().item() for position in shown]
    assert len(means) == 10 and means == sorted(means, reverse=True) and means[0] > 0.8 > 0.6 > means[-1]


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"constrain_on": "validation"}], ids=str)
def test_from_any_checkpoint(tmp_path: Path, settings: dict[str, object]) -> None:
    config = small_config(constraints=Constraints(re="0.1:0.3", pncc=0.5), **settings)
    train(config, tmp_path / "whole")
    train(config, tmp_path / "cut")
    for file in RunFolder(tmp_path / "cut").checkpoint_files()[3:]:
        file.unlink()
    (tmp_path / "cut" / "summary.json").unlink()
    resume(tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_surface(tmp_path: Path) -> None:
    """Two ranges, one of them of a similarity, beside a vector constraint with one kappa."""
    constraints = Constraints(re="0.2:0.4", pncc="0.2:0.6", re_channel=0.4)
    summary = train(small_config(constraints=constraints, pncc=PatchOptions(patch=4, random=3)), tmp_path / "run")
    assert summary["constraints"]["re"]["kappa"] == pytest.approx(0.2828)
    assert summary["constraints"]["pncc"]["kappa"] == pytest.approx(1 - (0.8 * 0.4) ** 0.5, abs=1e-4)
    curve = summary["dial"]["curve"]
    assert [point["kappas"]["pncc"] for point in curve["pncc"]][::9] == [0.2, 0.6]
    assert {point["kappas"]["re"] for point in curve["pncc"]} == {0.2828}
    assert all(set(point["multipliers"]) == {"re", "pncc", "re_channel"} for point in curve["re"])
    geco = load_run(tmp_path / "run").system.objective.geco  # type: ignore[attr-defined]
    assert geco.multipliers()["re_channel"].shape == (1, 16) and geco.multipliers()["pncc"].shape == (16,)
    with pytest.raises(
        ConfigError, match=r"trained for re from 0\.2 to 0\.4 and pncc from 0\.2 to 0\.6: give a kappa by"
    ):
        bridle.load(tmp_path / "run", kappa=0.3)
    bridle.load(tmp_path / "run", kappa={"re": 0.3, "pncc": 0.3})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"constraints": Constraints(re="0.3:0.1")}, "constraints.re: a range is from its least kappa to its greatest"),
        (
            {"constraints": Constraints(re="0.1:0.3:2")},
            "constraints.re: expected a number, or a range such as 0.05:0.25",
        ),
        ({"constraints": Constraints(re="0:0.3")}, "constraints.re: kappa must be positive and finite, got 0"),
        ({"constraints": Constraints(re="nan:0.3")}, "constraints.re: a range is from its least"),
        ({"constraints": Constraints(re="0.1:2")}, r"constraints.re: kappa must lie in \(0, 1\], got 2"),
        ({"constraints": Constraints(pncc="0.5:1")}, r"constraints.pncc: kappa must lie in \(0, 1\), got 1"),
        (
            {"constraints": Constraints(pncc="0.5:0.9", kl=5.0)},
            "constraints.kl goes with one kappa of constraints.pncc",
        ),
        ({"constraints": Constraints(re="0.1:0.3"), "geco": Geco(rule="algorithm1")}, "needs --geco.rule pi"),
        ({"constraints": Constraints(re="0.1:0.3"), "init": "x"}, "begins with fresh weights"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(tmp_path: Path, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(BridleError, match=line):
        train(TrainConfig(**settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_kappa_that_is_not_there_is_refused(run: Path, tmp_path: Path) -> None:
    train(small_config(steps=1), tmp_path / "one")
    for kappa, line in (
        (0.4, r"kappa of re must lie in 0\.2 to 0\.27, got 0\.4"),
        ({"l1": 0.2}, r"a kappa for each of its ranges \(re\), got l1"),
        (None, r"was trained for re from 0\.2 to 0\.27: choose one by --kappa"),
    ):
        with pytest.raises(ConfigError, match=line):
            bridle.load(run, kappa=kappa)  # type: ignore[arg-type]
    for refused in (lambda: bridle.load(tmp_path / "one", kappa=0.2), lambda: bridle.load_dialled(tmp_path / "one")):
        with pytest.raises(ConfigError, match="was trained for one kappa, not for a range"):
            refused()


def test_its_best_checkpoint_meets_every_kappa(tmp_path: Path) -> None:
    train(small_config(constraints=Constraints(re="0.4:0.5"), steps=150, batch=64), tmp_path / "run")
    model = bridle.load_dialled(tmp_path / "run", best=True)
    assert isinstance(model, Dialled)
    assert all(measure_split(model.at(k), Digits().split("train")).rmse <= 1.01 * k for k in (0.4, 0.4472, 0.5))


SCRIPT = """
import sys
from pathlib import Path
from bridle.training import ClassSpec, Constraints, TrainConfig, loop, state

build, built = state.build_objective, []
state.build_objective = lambda *args: built.append(build(*args)) or built[-1]
out = Path(sys.argv[1])
model = ClassSpec("bridle.models.ConvVAE", {"width": 4, "hidden": 16, "latents": 4})
loop.train(TrainConfig(model=model, constraints=Constraints(re="0.3:0.9"), steps=40, batch=32), out)
import torch.distributed as dist
(out / f"multipliers-{dist.get_rank()}").write_text(str(built[0].geco.multipliers()["re"].tolist()))
"""


def test_two_processes_have_one_dial(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(script), str(tmp_path / "run")], check=True, capture_output=True)
    first, second = ((tmp_path / "run" / f"multipliers-{rank}").read_text() for rank in (0, 1))
    assert first == second and len(set(json.loads(first))) > 1


# --- runs that begin with another -------------------------------------------------------------------------------------


def test_it_begins_where_the_dial_stands(run: Path, tmp_path: Path) -> None:
    config = small_config(model=MODEL, constraints=Constraints(re=0.2), init=str(run), steps=1, lr=1e-9)
    summary = train(config, tmp_path / "at")
    dialled = load_run(run).system
    model, (stand,) = dialled.at({"re": 0.2})
    begun = RunFolder(tmp_path / "at").checkpoint_files()[0]
    weights = torch.load(begun, weights_only=True)["system"]
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[f"model.{name}"], weight)
    assert weights["objective.geco.re.log_multiplier"].exp().item() == pytest.approx(stand.multiplier, rel=1e-5)
    assert summary["kl_train"] == pytest.approx(measure_split(model, Digits().split("train")).kl, rel=1e-4)


def test_it_begins_where_a_run_for_one_kappa_ended(tmp_path: Path) -> None:
    train(small_config(steps=30), tmp_path / "first")
    train(small_config(init=str(tmp_path / "first"), steps=1), tmp_path / "second")
    last = RunFolder(tmp_path / "first").load_checkpoint()["system"]
    begun = torch.load(RunFolder(tmp_path / "second").checkpoint_files()[0], weights_only=True)["system"]
    torch.testing.assert_close(begun["objective.geco.re.log_multiplier"], last["objective.geco.re.log_multiplier"])
    assert all(torch.equal(begun[k], last[k]) for k in last if k.startswith("model."))
    train(small_config(init=str(tmp_path / "first"), objective="elbo", steps=1), tmp_path / "third")


def test_a_resumed_run_does_not_begin_anew(run: Path, tmp_path: Path) -> None:
    config = small_config(model=MODEL, constraints=Constraints(re=0.2), init=str(run))
    train(config, tmp_path / "whole")
    train(config, tmp_path / "cut")
    for file in RunFolder(tmp_path / "cut").checkpoint_files()[3:]:
        file.unlink()
    (tmp_path / "cut" / "summary.json").unlink()
    resume(tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"constraints": Constraints(re=0.4)}, r"kappa of re must lie in 0\.2 to 0\.27, got 0\.4"),
        ({"constraints": Constraints(l1=0.1)}, r"a kappa for each of its ranges \(re\), got none"),
        ({"model": SMALL}, "init: the model of .* has other weights"),
    ],
)
def test_what_it_cannot_begin_with_is_refused(run: Path, tmp_path: Path, settings: dict[str, Any], line: str) -> None:
    values = {"model": MODEL, "constraints": Constraints(re=0.2), "init": str(run), "steps": 1}
    with pytest.raises(ConfigError, match=line):
        train(TrainConfig(**{**values, **settings}), tmp_path / "new")
    with pytest.raises(ConfigError, match="init: .* holds no run"):
        train(TrainConfig(**{**values, "init": str(tmp_path / "nothing")}), tmp_path / "new")
    assert not (tmp_path / "new").exists()
