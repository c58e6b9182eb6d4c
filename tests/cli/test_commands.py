"""Every command as a person types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bridle
from bridle.cli.main import main
from bridle.data import Digits

SMALL = ["--model.width", "4", "--model.hidden", "16", "--model.latents", "4", "--log_every", "10"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "digits"
    command = ["train", "--data", "Digits", "--model", "ConvVAE", "--constraints.re", "0.25", "--steps", "60"]
    assert main([*command, *SMALL, "--out", str(out)]) == 0
    return out


def test_train_fills_the_run_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = ["config.yaml", "metrics.csv", "summary.json", "samples.png", "reconstructions.png", "report.html"]
    assert all((run / name).is_file() for name in expected)
    assert not list(run.rglob(".*")), "unfinished files are left over"
    assert len(list((run / "checkpoints").iterdir())) == 11 and (run / "checkpoints" / "step-00000000.pt").exists()

    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40, 50, 60]
    assert {"step", "kl", "rmse", "re.value", "re.kappa", "re.multiplier"} <= rows[0].keys()
    assert all(row["re.kappa"] == "0.25" for row in rows)

    summary = json.loads((run / "summary.json").read_text())
    keys = "kl rmse kl_train rmse_train sigma_opt nll nll_bits bits_per_dim steps seconds parameters constraints"
    assert set(keys.split()) <= summary.keys()
    assert set(summary["constraints"]["re"]) >= {"kappa", "value", "satisfied", "multiplier", "scale"}
    assert summary["constraints"]["re"]["value"] == pytest.approx(summary["rmse_train"], rel=1e-5)
    assert summary["constraints"]["re"]["multiplier"] == pytest.approx(float(rows[-1]["re.multiplier"]), rel=1e-5)
    assert summary["nll_bits"] == pytest.approx(summary["nll"] / np.log(2))
    expected_bits = (64 * summary["nll_held_out"] + summary["kl"]) / (64 * np.log(2))
    assert summary["bits_per_dim"] == pytest.approx(expected_bits)
    assert summary["parameters"] == sum(p.numel() for p in bridle.load(run).parameters())


def test_the_config_file_repeats_the_run(run: Path, tmp_path: Path) -> None:
    assert main(["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert (run / "metrics.csv").read_bytes() == (tmp_path / "again" / "metrics.csv").read_bytes()
    assert (run / "config.yaml").read_bytes() == (tmp_path / "again" / "config.yaml").read_bytes()


def test_print_config_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--constraints.re", "0.1", "--model.latents", "7", "--print_config"])
    assert stopped.value.code in (0, None)
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["train", "--config", str(tmp_path / "config.yaml"), "--print_config"])
    assert capsys.readouterr().out == (tmp_path / "config.yaml").read_text()
    assert "latents: 7" in (tmp_path / "config.yaml").read_text()


def test_help_documents_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in ("Weight of the KL for objective beta", "in pixel units (0 to 1)", "Adam's learning rate", "Digits"):
        assert words in text
    assert main(["--help"]) == 0
    assert "reconstruct" in capsys.readouterr().out


def test_baselines_train(tmp_path: Path) -> None:
    for objective in ("elbo", "beta", "annealed"):
        out = tmp_path / objective
        assert main(["train", "--objective", objective, "--steps", "20", *SMALL, "--out", str(out)]) == 0
        assert json.loads((out / "summary.json").read_text())["objective"] == objective
    assert main(["report", *(str(tmp_path / o) for o in ("elbo", "beta")), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_evaluate_measures_what_the_summary_says_and_more(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--marginal_samples", "20", "--importance", "2"]) == 0
    evaluation, summary = (json.loads((run / name).read_text()) for name in ("evaluation.json", "summary.json"))
    assert evaluation["seconds"] == pytest.approx(summary.pop("seconds"), abs=1)
    assert {key: evaluation[key] for key in summary} == summary
    assert evaluation["latents"]["dimensions"] == len(evaluation["latents"]["kl"]) == 4
    assert evaluation["importance"]["k"] == 2 and evaluation["holes"]["n"] == 1000
    assert evaluation["marginal"]["samples"] == 20 and evaluation["marginal"]["within_bounds"]
    assert evaluation["skipped"] == {}
    printed = capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert f"report: {run / 'report.html'}" in printed and "bridle evaluate wrote" in page and "active latents" in page
    for words in ("active latents", "full mixture of 1,297", "at least max(0, average KL - log N)", "K = 2 (nats)"):
        assert words in printed


def test_evaluate_says_what_it_leaves_out_and_what_is_rough(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--marginal_kl", "quick", "--importance", "0"]) == 0
    printed = capsys.readouterr().out
    assert "quick: stratified, 256 of 1,297 components, biased low" in printed
    assert "skipped: importance-weighted likelihood: not asked for" in printed
    assert json.loads((run / "evaluation.json").read_text())["importance"] is None
    assert main(["evaluate", str(run), "--marginal_kl", "none", "--importance", "0"]) == 0
    printed = capsys.readouterr().out
    assert "skipped: marginal KL: not asked for" in printed
    assert f"written: {run / 'evaluation.json'}" in printed


def test_sample_repeats_with_its_seed(run: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        command = ["sample", str(run), "--n", "9", "--seed", seed, "--out", str(tmp_path / f"{name}.png")]
        assert main(command) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b and a != c


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    digit = Digits().split("test").batch(torch.tensor([0])).x[0, 0]
    Image.fromarray((digit * 255).round().byte().numpy()).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_reconstruct_and_encode(run: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "reconstructed.png"
    assert main(["reconstruct", str(run), str(picture), str(picture), "--out", str(out)]) == 0
    assert Image.open(out).size[0] > 8
    error = float(capsys.readouterr().out.splitlines()[0].rpartition(" ")[2])
    assert 0.05 < error < 0.6

    assert main(["encode", str(run), str(picture), "--out", str(tmp_path / "z.npz")]) == 0
    with np.load(tmp_path / "z.npz") as file:
        assert file["z"].shape == (1, 4) and file["names"].tolist() == [str(picture)]


def test_load_gives_the_model(run: Path) -> None:
    model = bridle.load(run)
    x = Digits().split("test").batch(torch.arange(5)).x
    assert not model.training
    z = model.encode(x)
    assert z.shape == (5, 4) and model.decode(z).shape == model.reconstruct(x).shape == model.sample(5).shape == x.shape


OWN = '''
from bridle.models import ConvVAE
from bridle.data import Digits

class Wide(ConvVAE):
    """A model of one's own."""
    def __init__(self, image_shape, context_shape=None, latents: int = 3):
        super().__init__(image_shape, context_shape, latents=latents, width=4, hidden=16)

class Half(Digits):
    """A data set of one's own."""
'''


def test_classes_of_the_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["train", "--data", "own_module.Half", "--model", "own_module.Wide", "--model.latents", "5"]
    assert main([*command, "--constraints.re", "0.3", "--steps", "3", "--out", "run"]) == 0
    assert type(bridle.load("run")).__name__ == "Wide"


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for i in range(12):
        pixels = random.integers(0, 255, (10 + i, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.jpg")
    out = tmp_path / "run"
    command = ["train", "--data", "ImageFolder", "--data.root", str(tmp_path / "photos"), "--constraints.re", "0.2"]
    assert main([*command, "--model", "ConvVAE", *SMALL, "--steps", "5", "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["image_shape"] == [3, 10, 10]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("trian", "unknown command 'trian': there are train, "),
        ("train --data Digit --out q", "unknown data 'Digit': there are Digits, "),
        ("train --data json.JSONDecoder --out q", "data 'json.JSONDecoder' is no DataSet: give one of "),
        ("train --model ConvVE --out q", "unknown model 'ConvVE': there are ConvVAE"),
        ("train --constraints.rr 0.1 --out q", "unknown option --constraints.rr: there are --constraints.re"),
        (
            "train --constraints.re abc --out q",
            "constraints.re: expected a number, or a range such as 0.05:0.25, got 'abc'",
        ),
        (
            "train --constraints.re nan --out q",
            "constraints.re: expected a number, or a range such as 0.05:0.25, got 'nan'",
        ),
        ("train --constraints.re 0 --out q", "constraints.re: kappa must be positive and finite, got 0"),
        ("train --constraints.re -0.1 --out q", "constraints.re: kappa must be positive and finite, got -0.1"),
        ("train --stepss 3 --out q", "unknown option --stepss: did you mean --steps"),
        ("train --model.foo 3 --out q", "model has no setting 'foo': ConvVAE has latents, width, hidden"),
        ("train --model.latents x --out q", "model.latents: expected a whole number, got 'x'"),
        ("train --objective elb --out q", "objective: 'elb' is unknown: there are elbo, "),
        ("train --geco.rule algo --out q", "geco.rule: 'algo' is unknown: there are algorithm1, pi"),
        ("train --constraints.re 0.1", "--out is missing: the folder for the run"),
        ("train --out q", "objective geco needs a constraint, such as --constraints.re 0.1"),
        ("train --data ImageFolder --constraints.re 0.1 --out q", "ImageFolder needs --data.root"),
        ("train --data MNIST --data.root absent --constraints.re 0.1 --out q", "MNIST: not found under absent"),
        ("train --config absent.yaml --out q", "config: File does not exist: "),
        ("train --resume absent", "absent holds no run: there is no config.yaml in it"),
        ("train --resume absent --lr 1", "unknown option --lr: a resumed run keeps its settings"),
        ("evaluate absent", "absent holds no run"),
        ("evaluate absent --marginal_kl ful", "marginal_kl: 'ful' is unknown: there are full, quick, none"),
        ("sample absent --n 0", "--n must be at least 1, got 0"),
        ("report absent", "absent is no run folder"),
        ("encode absent x.png --out z.npy", "--out must end in .npz, got z.npy"),
    ],
)
def test_bad_input_is_one_line(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "something was written"


def test_a_kappa_below_the_rounding_error_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["train", "--constraints.re", "0.01", "--steps", "2", *SMALL, "--out", str(tmp_path / "run")]) == 0
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1 and "kappa 0.01 is below 0.018" in warnings[0] and "\n" not in warnings[0]
