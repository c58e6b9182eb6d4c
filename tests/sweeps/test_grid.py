"""Grids: what is a value and what a list of them, and which points are one run."""

from __future__ import annotations

import pytest

from bridle.sweeps.grid import collapse, expand, split_values
from bridle.training import Constraints, PatchOptions, TrainConfig


def test_the_grid_is_the_product_with_the_last_setting_fastest() -> None:
    points = expand({"seed": [0, 1], "constraints": {"re": [0.1, 0.2]}, "steps": 5})
    assert [(p["seed"], p["constraints"]["re"], p["steps"]) for p in points] == [
        (0, 0.1, 5), (0, 0.2, 5), (1, 0.1, 5), (1, 0.2, 5),
    ]  # fmt: skip
    assert expand({}) == [{}]


def test_a_setting_that_is_a_list_by_itself() -> None:
    layers = {"lpips": {"layers": ["layer1", "layer3"]}}
    assert expand(layers) == [layers]
    several = expand({"lpips": {"layers": [["layer1"], ["layer1", "layer3"]]}})
    assert [p["lpips"]["layers"] for p in several] == [["layer1"], ["layer1", "layer3"]]


LISTED = """
class Listed:
    def __init__(self, widths: list[int] | None = None, depth: int = 1) -> None: ...
"""


def test_a_class_may_declare_a_setting_to_be_a_list(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed_module.py").write_text(LISTED)
    monkeypatch.syspath_prepend(tmp_path)
    model = {"class_path": "listed_module.Listed", "init_args": {"widths": [8, 16], "depth": [1, 2]}}
    assert [p["model"]["init_args"] for p in expand({"model": model})] == [
        {"widths": [8, 16], "depth": 1}, {"widths": [8, 16], "depth": 2},
    ]  # fmt: skip


def test_several_classes_share_their_settings_or_bring_their_own() -> None:
    shared = expand({"model": {"class_path": ["ConvVAE", "NVPVAE"], "init_args": {"latents": [4, 8]}}})
    assert [(p["model"]["class_path"], p["model"]["init_args"]["latents"]) for p in shared] == [
        ("ConvVAE", 4), ("ConvVAE", 8), ("NVPVAE", 4), ("NVPVAE", 8),
    ]  # fmt: skip
    own = expand({"model": ["ConvVAE", {"class_path": "NVPVAE", "init_args": {"couplings": [4, 8]}}]})
    assert len(own) == 3 and own[0] == {"model": "ConvVAE"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1", ["0.1"]),
        ("0.1,0.2", ["0.1", "0.2"]),
        ("[a,b]", ["[a,b]"]),
        ("[a],[a,b]", ["[a]", "[a,b]"]),
        ('{"x":{"a":1,"b":[1,2]}},null', ['{"x":{"a":1,"b":[1,2]}}', "null"]),
        ("a,", ["a", ""]),
    ],
)
def test_commas_part_values_outside_of_brackets(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def points(objectives: str, kappas: str, **settings: object) -> list[tuple[TrainConfig, dict[str, str]]]:
    return [
        (
            TrainConfig(objective=objective, constraints=Constraints(re=float(kappa)), **settings),  # type: ignore[arg-type]
            {"constraints.re": kappa, "objective": objective},
        )
        for kappa in kappas.split()
        for objective in objectives.split()
    ]


def test_baselines_drop_the_constraints_and_all_that_belongs_to_them() -> None:
    specs = collapse(points("elbo annealed geco", "0.1 0.2", pncc=PatchOptions(patch=4), constrain_on="validation"))
    assert [spec.name for spec in specs] == [
        "objective=elbo", "objective=annealed", "re=0.1,objective=geco", "re=0.2,objective=geco",
    ]  # fmt: skip
    assert all(spec.config == TrainConfig(objective=spec.config.objective) for spec in specs[:2])
    assert specs[2].config.pncc.patch == 4 and specs[2].config.constrain_on == "validation"


def test_beta_is_that_of_objective_beta() -> None:
    grid = [
        (TrainConfig(objective=objective, beta=beta), {"objective": objective, "beta": str(beta)})  # type: ignore[arg-type]
        for objective in ("elbo", "beta") for beta in (1.0, 2.0)
    ]  # fmt: skip
    specs = collapse(grid)
    assert [(spec.name, spec.config.beta) for spec in specs] == [
        ("objective=elbo", 4.0), ("objective=beta,beta=1.0", 1.0), ("objective=beta,beta=2.0", 2.0),
    ]  # fmt: skip


def test_kappas_without_objective_geco_stay_to_be_refused() -> None:
    (spec,) = collapse(points("elbo", "0.1"))
    assert spec.config.constraints.re == 0.1


def test_equal_points_are_one_run_and_names_do_not_depend_on_the_spelling() -> None:
    assert [spec.name for spec in collapse(points("geco", "0.10 0.1 1e-1"))] == ["re=0.1,objective=geco"]
    assert [spec.name for spec in collapse([(TrainConfig(), {})])] == ["run"]


def test_names_are_names_of_folders_and_tell_options_apart() -> None:
    given = {"data.root": "/a/b c", "model": "bridle.models.ConvVAE", "geco.rate": "1", "data.rate": "2"}
    (spec,) = collapse([(TrainConfig(), given)])
    assert spec.name == "root=_a_b_c,model=ConvVAE,geco.rate=1,data.rate=2"
