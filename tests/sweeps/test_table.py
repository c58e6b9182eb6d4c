"""The table: the same cells in both files, and nothing in them that differs between equal sweeps."""

from __future__ import annotations

import builtins
import csv
import json
import logging
from pathlib import Path

import pytest

from bridle.sweeps import RunSpec, write_table
from bridle.sweeps.table import table
from bridle.training import Constraints, TrainConfig

SPECS = [
    RunSpec("elbo", TrainConfig(objective="elbo", lr=1)),  # a whole number in a column of others
    RunSpec("geco, 0.1", TrainConfig(constraints=Constraints(re=0.1))),
    RunSpec("failed", TrainConfig(constraints=Constraints(re=0.2))),
]
RUNS = {
    "elbo": {"objective": "elbo", "kl": 20.25, "seconds": 3.5, "constraints": {}, "context_shape": None, "bin": 0.0625},
    "geco, 0.1": {
        "objective": "geco", "kl": 10.1, "seconds": 4.5, "image_shape": [1, 8, 8], "bin": 0.0625,
        "constraints": {"re": {"kappa": 0.1, "value": 1 / 3, "satisfied": True, "values": [[1.0]]}},
    },
}  # fmt: skip


def test_a_row_has_the_varied_settings_and_every_scalar_of_the_summary() -> None:
    rows = table(SPECS, RUNS)
    assert rows[1] == {
        "name": "geco, 0.1", "objective": "geco", "constraints.re": 0.1, "lr": 1e-3, "kl": 10.1, "bin": 0.0625,
        "constraints.re.kappa": 0.1, "constraints.re.value": 1 / 3, "constraints.re.satisfied": True,
        "status": "finished",
    }  # fmt: skip
    assert rows[0]["constraints.re.value"] is None and rows[0]["lr"] == 1.0 and isinstance(rows[0]["lr"], float)
    assert rows[2]["status"] == "not finished" and rows[2]["kl"] is None and rows[2]["constraints.re"] == 0.2
    assert [row["name"] for row in rows] == [spec.name for spec in SPECS]


def test_csv_and_parquet_agree(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: no Parquet file was read")
    write_table(SPECS, RUNS, tmp_path)
    with (tmp_path / "table.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert from_parquet == table(SPECS, RUNS)
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in from_parquet] == from_csv
    assert float(from_csv[1]["constraints.re.value"]) == 1 / 3


def test_seconds_are_no_part_of_it(tmp_path: Path) -> None:
    later = json.loads(json.dumps(RUNS))
    later["elbo"]["seconds"] = 99.0
    for name, runs in (("a", RUNS), ("b", later)):
        write_table(SPECS, runs, tmp_path / name)
    assert (tmp_path / "a" / "table.csv").read_bytes() == (tmp_path / "b" / "table.csv").read_bytes()


def test_without_pyarrow_the_csv_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with caplog.at_level(logging.WARNING, "bridle"):
        write_table(SPECS, RUNS, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    assert [r.getMessage() for r in caplog.records] == [
        "table.parquet is not written, for want of pyarrow: pip install 'bridle[parquet]'"
    ]
