from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bridle.reproduce import EXHIBITS, SCALES, blocks
from bridle.reproduce.blocks import Block, Made, holes_claims, impact_claims


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


def test_captions_speak_of_the_blocks_that_are_there():
    def remarks(name, scale):
        shown = EXHIBITS[name].blocks(scale)
        return " ".join([*EXHIBITS[name].remarks(shown), *blocks._fre_remark(shown)])

    full = SCALES["paper"]
    assert "from the left: 3 of CelebA for CelebA, then 2 of Color-MNIST for Color-MNIST." in remarks("figure3", full)
    assert "FRE: kappa 0.5 here for the paper's 1." in remarks("figure3", full)
    assert "FRE: kappa 0.25 here for the paper's 0.0625." in remarks("figure7", full)
    without = full.without({"CIFAR-10": "no files"})
    assert "2 of CelebA for CelebA" in remarks("figure3", without) and "FRE" not in remarks("figure3", without)
    assert "Panel (e)" in remarks("figure7", full) and "pNCC" in remarks("figure7", full)
    assert blocks._fre_remark(EXHIBITS["figure6"].blocks(full)) == []
    data_alone = [b for b in EXHIBITS["figure7"].blocks(full) if b.spec is None]
    assert "Panel (e)" not in " ".join(EXHIBITS["figure7"].remarks(data_alone))


@pytest.fixture
def constant_images():
    """A model whose reconstructions are of one grey and whose samples of another."""
    return SimpleNamespace(
        reconstruct=lambda x, context, generator: torch.full_like(x, 0.5),
        sample=lambda n, generator: torch.full((n, 1, 8, 8), 0.75),
    )


def test_rows_are_data_then_reconstructions_then_samples(make_record, made_up_runs, constant_images, monkeypatch):
    monkeypatch.setattr(blocks, "holes_of_run", lambda *_: SimpleNamespace(ratio=1.0))
    scale = SCALES["tiny"].without({"Color-Digits": "one channel will do"})
    finished = made_up_runs(make_record([0.3, 0.2], [1, 5], [40, 30], kappa=0.1), constant_images)
    lines = []
    arranged = blocks._arranged
    monkeypatch.setattr(
        blocks, "_arranged", lambda drawn, names: lines.extend(words for words, _ in drawn) or arranged(drawn, names)
    )
    drawn = EXHIBITS["figure3"].draw(scale, finished)
    assert lines[1] == ["(b) GECO+RE κ=0.1", "RMSE 0.200, KL 5.00, κ not met"]
    assert drawn.table.rows[1][3] == "not met"
    grey = np.asarray(drawn.picture.convert("L"))
    heights = [np.flatnonzero((grey == value).sum(axis=1) > 3 * 200) for value in (128, 191)]
    # Three blocks of six tiles of 40 pixels: the row of data is the 42 pixels above the reconstructions.
    assert [len(rows) for rows in heights] == [40, 40]
    assert heights[0].max() < heights[1].min()
    digits = grey[heights[0].min() - 42 : heights[0].min() - 2]
    assert (digits == 0).any() and not ((grey == 0).sum(axis=1)[heights[1].max() + 1 :]).any()
    named = arranged([(["a"], drawn.picture)], ["data", "reconstructions", "samples"])
    assert named.width > arranged([(["a"], drawn.picture)]).width + 80, "room for the rows' names"


def test_samples_stand_beside_the_data(constant_images, made_up_runs, make_record):
    finished = made_up_runs(make_record([0.3], [1], [40]), constant_images)
    data, elbo = EXHIBITS["figure5"].blocks(SCALES["tiny"])[:2]
    x = torch.rand(40, 1, 8, 8)
    assert EXHIBITS["figure5"].images(data, x, finished).equal(x[:36])
    assert EXHIBITS["figure5"].images(elbo, x, finished).equal(torch.full((36, 1, 8, 8), 0.75))


def made(label: str, rmse: float, kl: float = 10.0, holes: float | None = 2.0, met: bool | None = True) -> Made:
    source = SCALES["paper"].cifar10
    assert source is not None
    return Made(Block(label, source, None), rmse, kl, holes, None if label.startswith("ELBO") else met)


@pytest.mark.parametrize(
    ("geco", "holds", "words"),
    [
        (made("GECO+RE κ=0.1", 0.1, holes=1.5), True, "a ratio of 1.50 (RMSE 0.100) against 3.00 (RMSE 0.090)."),
        (made("GECO+RE κ=0.1", 0.1, holes=3.5), False, "GECO+RE κ=0.1 has fewer holes in the prior than the ELBO on"),
        # A poor reconstructor's ratio is near 1 whatever its prior.
        (made("GECO+RE κ=0.3", 0.3, holes=1.1), None, "(RMSE 0.300) against 3.00 (RMSE 0.090), but the errors differ"),
        (made("GECO+RE κ=0.06", 0.091, holes=1.5, met=False), None, "but kappa is not met."),
    ],
)
def test_holes_are_compared_at_about_the_same_error(geco, holds, words):
    elbo = [made("ELBO", 0.09, holes=3.0), made("ELBO, annealed", 0.09, holes=9.0)]
    (claim,) = holes_claims([*elbo, geco])
    assert claim.holds is holds and words in claim.text


@pytest.mark.parametrize("elbo", [[], [made("ELBO", 0.1, holes=None)]])
def test_holes_without_an_elbo(elbo):
    (claim,) = holes_claims([*elbo, made("GECO+RE κ=0.1", 0.1)])
    assert claim.holds is None and "there are no two runs to compare" in claim.text


def test_the_impact_is_that_of_two_constraints_which_were_met():
    def holds(*others: Made) -> list[bool | None]:
        return [claim.holds for claim in impact_claims([made("ELBO", 0.02, 900.0), *others])]

    assert holds(made("GECO+RE", 0.1, 50.0), made("GECO+FRE", 0.2, 25.0)) == [True]
    assert holds(made("GECO+RE", 0.1, 50.0), made("GECO+FRE", 0.2, 26.0)) == [False]
    assert holds(made("GECO+RE", 0.1, 50.0), made("GECO+FRE", 0.2, 5.0, met=False)) == [None]
    assert holds(made("GECO+RE", 0.1, 50.0)) == []
