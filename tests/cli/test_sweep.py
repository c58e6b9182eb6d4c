"""bridle sweep as a person types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from bridle.cli import sweep
from bridle.cli.main import main
from bridle.sweeps import RunSpec
from bridle.sweeps.grid import split_values

SMALL = ["--model.width", "4", "--model.hidden", "16", "--model.latents", "4", "--log_every", "5", "--batch", "32"]


def grid(*arguments: str) -> list[RunSpec]:
    given = sweep._options(arguments)
    points = sweep._file_points(given.pop("config")) if "config" in given else [{}]
    axes = {option: split_values(text) for option, text in given.items() if option not in sweep._OWN}
    return sweep._specs(sweep._sweep_parser(), points, axes)


def test_a_sweep_has_a_folder_a_run_a_table_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sweep"
    command = ["sweep", "--constraints.re", "0.2", "--objective", "elbo,geco", "--steps", "10", *SMALL]
    assert main([*command, "--workers", "1", "--out", str(out)]) == 0
    names = ["objective=elbo", "objective=geco"]
    for name in names:
        assert all((out / name / file).is_file() for file in ("summary.json", "samples.png", "report.html"))
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == names and {row["status"] for row in rows} == {"finished"}
    summary = json.loads((out / names[1] / "summary.json").read_text())
    assert float(rows[1]["constraints.re.value"]) == summary["constraints"]["re"]["value"]
    page = (out / "report.html").read_text()
    assert all(f'href="{name.replace("=", "%3D")}/report.html"' in page for name in names)
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"table: {out / 'table.csv'}", f"report: {out / 'report.html'}"]
    assert len(told.err.splitlines()) == 2

    table = (out / "table.csv").read_bytes()
    assert main([*command, "--workers", "1", "--out", str(out)]) == 0
    assert "2 of 2 runs are finished already" in capsys.readouterr().err
    assert (out / "table.csv").read_bytes() == table


def test_together_gives_the_numbers_of_one_by_one(tmp_path: Path) -> None:
    command = ["sweep", "--constraints.re", "0.2,0.3", "--steps", "10", *SMALL, "--workers", "1"]
    assert main([*command, "--together", "--out", str(tmp_path / "together")]) == 0
    assert main([*command, "--out", str(tmp_path / "alone")]) == 0
    for name in ("re=0.2", "re=0.3"):
        together, alone = (
            json.loads((tmp_path / how / name / "summary.json").read_text()) for how in ("together", "alone")
        )
        assert (together["kl"], together["rmse"]) == pytest.approx((alone["kl"], alone["rmse"]), rel=1e-3)


def test_a_failed_run_is_named_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "--constraints.re", "0.2", "--batch", "31,32", "--accumulate", "2", "--steps", "4"]
    small = SMALL[:-2]
    assert main([*command, *small, "--workers", "1", "--out", str(tmp_path / "sweep")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1] == "bridle sweep: 1 of 2 runs failed: batch=31"
    assert any("batch=31" in line and "cannot be shared equally" in line for line in error[:-1])
    assert "cannot be shared equally" in (tmp_path / "sweep" / "report.html").read_text()


def test_the_issue_s_grid() -> None:
    specs = grid("--constraints.re", "0.06,0.08", "--objective=elbo,annealed,geco", "--seed", "0,1", "--steps", "7")
    assert len(specs) == 2 * 2 + 2 * 2
    assert specs[0].name == "objective=elbo,seed=0" and specs[-1].name == "re=0.08,objective=geco,seed=1"
    assert specs[-1].config.constraints.re == 0.08 and specs[-1].config.seed == 1
    assert {spec.config.steps for spec in specs} == {7}


def test_classes_presets_and_lists() -> None:
    specs = grid(
        *("--data", "Digits,MNISTRotate", "--model", "ConvVAE,NVPVAE", "--preset", "tiny,small", "--steps", "9"),
        *("--constraints.lpips", "0.1", "--lpips.layers", "[layer1],[layer1,layer3]"),
    )
    # ConvVAE's two presets differ in their steps only, which are given.
    assert len(specs) == 2 * (1 + 2) * 2
    first, last = specs[0], specs[-1]
    assert first.name == "data=Digits,model=ConvVAE,preset=tiny,layers=_layer1_"
    assert first.config.lpips.layers == ["layer1"] and last.config.lpips.layers == ["layer1", "layer3"]
    assert last.config.model.init_args["latents"] == 64 and last.config.batch == 64 and last.config.steps == 9
    assert last.config.data.class_path.endswith("MNISTRotate")


def test_a_file_and_the_command_line_which_wins(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "objective: [elbo, geco]\nconstraints: {re: [0.1, 0.2], l1: null}\nseed: [0, 1]\nlr: 1e-2\n"
        "lpips: {layers: [layer1, layer2, layer3]}\nworkers: 1\n"
        "model:\n- ConvVAE\n- {class_path: NVPVAE, init_args: {latents: [4, 8]}}\n"
    )
    specs = grid("--config", str(file), "--seed", "5")
    assert len(specs) == 3 * (1 + 2) and {spec.config.seed for spec in specs} == {5}
    assert {spec.config.lr for spec in specs} == {0.01}
    assert "objective=geco,re=0.2,model=NVPVAE,latents=8" in [spec.name for spec in specs]
    assert len(grid("--config", str(file), "--seed", "5", "--model", "ConvVAE")) == 3


@pytest.mark.parametrize("value", ['{"rate": 1}', '{"rate": 1},{"rate": 3}'])
def test_a_group_of_settings_and_one_of_them_are_read_in_order(value: str) -> None:
    common = ("--constraints.re", "0.1")
    assert {spec.config.geco.rate for spec in grid(*common, "--geco", value, "--geco.rate", "2")} == {2.0}
    rates = [spec.config.geco.rate for spec in grid(*common, "--geco.rate", "2", "--geco", value)]
    assert rates == [1.0, 3.0][: len(rates)]


def test_a_run_s_own_settings_are_a_sweep_s(tmp_path: Path) -> None:
    (spec,) = grid("--constraints.lpips", "0.1", "--model.latents", "8", "--steps", "9")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(spec.config.as_dict()))
    (again,) = grid("--config", str(tmp_path / "config.yaml"))
    assert again == spec


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--constraints.re 0.1", "--out is missing: the folder for the sweep"),
        (
            "--constraints.re 0.1,abc --out q",
            "constraints.re: expected a number, or a range such as 0.05:0.25, got 'abc'",
        ),
        ("--constraints.re 0.1,2 --out q", "re=2: constraints.re: kappa must lie in (0, 1], got 2"),
        ("--constraints.re 0.1, --out q", "constraints.re: expected a number"),
        ("--objective elbo,gec --out q", "objective: 'gec' is unknown: there are geco, "),
        ("--model ConvVAE,ConvVE --out q", "unknown model 'ConvVE': there are ConvVAE"),
        ("--preset tiny,huge --constraints.re 0.1 --out q", "preset: 'huge' is unknown: there are "),
        ("--constraints.rr 0.1,0.2 --out q", "unknown option --constraints.rr: there are --constraints.re"),
        ("--objective elbo,beta --constraints.re 0.1 --out q", "objective elbo enforces no constraint"),
        ("--objective elbo,geco --out q", "objective geco needs a constraint"),
        ("--steps 5,0 --constraints.re 0.1 --out q", "steps=0: steps must be at least 1, got 0"),
        ("--data Digits,MNIST --data.root absent --constraints.re 0.1 --out q", "data has no setting 'root'"),
        ("--constraints.re 0.1 0.2 --out q", "unexpected argument '0.2': values are parted by commas"),
        ("--constraints.re", "--constraints.re needs a value"),
        ("--config absent.yaml --out q", "absent.yaml: No such file"),
        ("--workers 0 --constraints.re 0.1 --out q", "workers must be at least 1, got 0"),
        ("--workers 1,2 --constraints.re 0.1 --out q", "workers: expected a whole number, got '1,2'"),
        ("--address auto --constraints.re 0.1 --out q", "--address is that of a Ray cluster: give --engine ray"),
        ("--overwrite true --constraints.re 0.1 --out q", "unknown option --overwrite"),
    ],
)
def test_bad_input_is_one_line(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *command.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "something was written"


def test_help_documents_the_sweep_and_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(words in text for words in ("Runs at a time", "a list gives the values", "Adam's learning rate"))
