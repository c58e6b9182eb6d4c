from __future__ import annotations

import pytest

from bridle.reproduce import EXHIBITS, SCALES
from bridle.reproduce.blocks import holes_claim, impact_claim


def labels(name: str, scale: str = "paper") -> list[str]:
    return [f"{b.source.name}: {b.label}" for b in EXHIBITS[name].blocks(SCALES[scale])]


def test_the_blocks_stand_in_the_papers_order():
    assert labels("figure3") == [
        "CelebA: ELBO",
        "CelebA: GECO+RE κ=0.1",
        "CelebA: GECO+FRE κ=0.5",
        "Color-MNIST: ELBO",
        "Color-MNIST: GECO+RE κ=0.06",
    ]
    common = ["Data", "ELBO", "ELBO, annealed", "GECO+RE κ=0.06"]
    rest = {
        "figure5": ["GECO+RE κ=0.08", "GECO+RE κ=0.1", "GECO+FRE κ=0.25"],
        "figure6": ["GECO+RE κ=0.08", "GECO+RE κ=0.1"],
        "figure7": ["GECO+RE κ=0.0028", "GECO+FRE κ=0.25", "GECO+pNCC κ=0.8"],
    }
    data = {"figure5": "CelebA", "figure6": "Color-MNIST", "figure7": "CIFAR-10"}
    for name, own in rest.items():
        assert labels(name) == [f"{data[name]}: {label}" for label in (*common, *own)]


def test_blocks_without_data_are_none():
    scale = SCALES["paper"].without({"CelebA": "no files"})
    assert EXHIBITS["figure5"].runs(scale) == []
    assert [b.source.name for b in EXHIBITS["figure3"].blocks(scale)] == ["Color-MNIST", "Color-MNIST"]
    # FRE looks through a classifier of CIFAR-10.
    scale = SCALES["paper"].without({"CIFAR-10": "no files"})
    assert not any("FRE" in b.label for b in EXHIBITS["figure5"].blocks(scale))


@pytest.mark.parametrize(
    ("ratios", "holds"),
    [
        ([("ELBO", 3.0), ("ELBO, annealed", 9.0), ("GECO+RE κ=0.1", 1.5)], True),
        ([("ELBO", 3.0), ("GECO+RE κ=0.1", 1.5), ("GECO+pNCC κ=0.8", 3.5)], False),
        ([("GECO+RE κ=0.1", 1.5)], None),
    ],
)
def test_holes_both_ways(ratios, holds):
    assert holes_claim("MNIST", ratios).holds is holds


def test_impact_both_ways():
    assert impact_claim("MNIST", [("ELBO", 0.02, 100.0), ("GECO", 0.1, 50.0)]).holds is True
    assert impact_claim("MNIST", [("ELBO", 0.02, 100.0), ("GECO", 0.1, 51.0)]).holds is False
    assert impact_claim("MNIST", [("ELBO", 0.02, 100.0)]).holds is None
