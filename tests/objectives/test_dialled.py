"""The objective over a dial: what it differentiates, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bridle.constraints import L1, PNCC, RE, ImageConstraint, REChannel, Reconstruction
from bridle.dial import Dial
from bridle.objectives import ConstrainedObjective, DialledObjective

SHAPE = (2, 8, 8)


def objective(dial: Dial, *terms: ImageConstraint) -> DialledObjective:
    return DialledObjective(terms, {term.name: term.bound(SHAPE) for term in terms}, dial)


def batch(position: Tensor, seed: int = 0) -> Reconstruction:
    generator = torch.Generator().manual_seed(seed)
    n = len(position)
    x, x_hat = (torch.rand(n, *SHAPE, generator=generator) for _ in range(2))
    kl = torch.rand(n, generator=generator) * 10
    return Reconstruction(x, x_hat.requires_grad_(), kl.requires_grad_(), position=position)


@pytest.mark.parametrize("point", [0, 2, 4])
def test_at_one_kappa_it_is_the_objective_of_that_kappa(point: int) -> None:
    """With all images at one point of the grid, its multipliers are those of GECO with that kappa, and its gradients
    are, divided by one plus their sum."""
    dial = Dial({"re_channel": (0.05, 0.2)}, points=5, margin=0)
    kappa = dial.kappas(dial.grid())["re_channel"][point].item()
    ranged, fixed = REChannel(dial.middle["re_channel"]), L1(0.07)
    dialled = objective(dial, ranged, fixed)
    one = REChannel(kappa)
    plain = ConstrainedObjective([one, fixed], {one.name: one.bound(SHAPE), fixed.name: fixed.bound(SHAPE)})
    for step in range(30):
        r = batch(dial.grid()[[point] * 6], step)
        ours, theirs = dialled(r), plain(r._replace(position=None))
        divided = theirs.loss / (1 + sum(multiplier.sum() for multiplier in plain.geco.multipliers().values()))
        gradients = [torch.autograd.grad(loss, (r.kl, r.x_hat)) for loss in (ours.loss, divided)]
        for mine, other in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, other)
        dialled.step()
        plain.step()
    at = dialled.geco.multipliers_at(dial.position({"re_channel": kappa}))
    torch.testing.assert_close(at["re_channel"], plain.geco.multipliers()["re_channel"], rtol=1e-3, atol=0)
    torch.testing.assert_close(at["l1"], plain.geco.multipliers()["l1"], rtol=1e-3, atol=0)


def test_each_image_has_a_bound_of_its_own() -> None:
    dial = Dial({"re": (0.05, 0.2), "pncc": (0.3, 0.9)}, points=3, similarities=["pncc"])
    terms = RE(dial.middle["re"]), PNCC(dial.middle["pncc"])
    dialled, r = objective(dial, *terms), batch(dial.draw(12, torch.Generator().manual_seed(0)))
    assert r.position is not None
    kappas = dial.kappas(r.position)
    c = torch.stack([terms[0].each(r) / kappas["re"] ** 2 - 1, (1 - terms[1].similarity(r)) / (1 - kappas["pncc"]) - 1])
    multipliers = torch.tensor([[term.bound(SHAPE).initial] for term in terms])
    expected = (r.kl + (multipliers * c).sum(dim=0)) / (1 + multipliers.sum())
    torch.testing.assert_close(dialled(r).loss, expected.mean())


def test_held_out_images_move_the_multipliers_and_give_no_gradient() -> None:
    dial = Dial({"re": (0.05, 0.2)}, points=3)
    one, other = objective(dial, RE(0.1)), objective(dial, RE(0.1))
    position = dial.draw(12, torch.Generator().manual_seed(0))
    r, held_out = batch(position, 0), batch(position, 1)
    with_other, alone = one(r, held_out), other(r)
    torch.testing.assert_close(with_other.loss, alone.loss)
    one.step()
    other.step()
    expected = objective(dial, RE(0.1))
    expected(held_out)
    expected.step()
    assert torch.equal(one.geco.seen[:-1], expected.geco.seen[:-1])
    assert not torch.equal(one.geco.seen[:-1], other.geco.seen[:-1])


@pytest.mark.parametrize(
    ("term", "ratio", "near", "exact"),
    [
        # 4% above and below kappa in its own units; and 0.9%, and 6%.
        (RE(0.1), 1.04**2, True, False),
        (RE(0.1), 0.96**2, True, False),
        (RE(0.1), 1.009**2, True, True),
        (RE(0.1), 1.06**2, False, False),
        (L1(0.1), 0.94, False, False),
        (L1(0.1), 1.04, True, False),
    ],
)
def test_the_judge_sees_shares_of_kappa(term: ImageConstraint, ratio: float, near: bool, exact: bool) -> None:
    dialled = objective(Dial({term.name: (0.05, 0.2)}, points=3), term)
    bands = dialled.judge._bands
    c = ratio - 1
    assert bool(((bands.near_least <= c) & (c <= bands.near_greatest)).all()) == near
    assert bool(((bands.exact_least <= c) & (c <= bands.exact_greatest)).all()) == exact


def test_the_judge_sees_shares_of_a_similarity_at_each_point() -> None:
    """5% of a correlation of 0.9 is far more of what is missing than 5% of 0.3."""
    dial = Dial({"pncc": (0.3, 0.9)}, points=3, similarities=["pncc"])
    bands = objective(dial, PNCC(dial.middle["pncc"])).judge._bands
    kappas = dial.kappas(dial.grid())["pncc"]
    torch.testing.assert_close(bands.near_greatest, 0.05 * kappas / (1 - kappas))
    torch.testing.assert_close(bands.near_least, -0.05 * kappas / (1 - kappas))


def test_columns_are_told_for_the_middle() -> None:
    dial = Dial({"re": (0.05, 0.2)}, points=3)
    dialled = objective(dial, RE(dial.middle["re"]))
    out = dialled(batch(dial.grid().repeat_interleave(4, dim=0)))
    columns = dialled.columns(out.metrics)
    ratio = out.metrics["re.ratio"]
    assert ratio.shape == (3,)
    assert columns["re.value"].item() == pytest.approx(0.1 * ratio.max().sqrt().item(), rel=1e-5)
    assert columns["re.kappa"].item() == pytest.approx(0.1)
    assert columns["re.multiplier"].item() == pytest.approx(64 / 32)
    assert {"re.state", "re.settled_at", "re.violation", "re.nonfinite", "kl", "rmse", "loss"} <= columns.keys()


def test_where_it_stands_at_a_kappa() -> None:
    dial = Dial({"re": (0.05, 0.2)}, points=3, margin=0)
    dialled = objective(dial, RE(0.1), L1(0.07))
    dialled.geco.state[0, :3] = torch.tensor([8.0, 4.0, 2.0]).log()
    kappas = {"re": 0.1 * 2**0.5}
    (re, l1) = dialled.stands_at(kappas, dial.position(kappas))
    assert re.term.kappa == pytest.approx(0.1414, abs=1e-4) and l1.term.kappa == 0.07
    assert re.multiplier == pytest.approx(8**0.5, rel=1e-5)
    assert dialled.stands()[0].multiplier == pytest.approx(4)
    assert re.verdict.state == "approaching" and re.scale == "relative"
    # Where the kappa is met is another matter than where it was aimed at.
    assert dialled.stands_at(kappas, dial.position({"re": 0.1}))[0].multiplier == pytest.approx(4)


def test_it_warns_of_the_tightest_kappa() -> None:
    dial = Dial({"re": (0.001, 0.2)})
    assert "kappa 0.001 is below 0.018" in next(objective(dial, RE(dial.middle["re"])).warnings(1 / 16))
    assert not list(objective(Dial({"re": (0.1, 0.2)}), RE(0.15)).warnings(1 / 16))


def test_settings_of_a_bound_are_kept() -> None:
    dial, re = Dial({"re": (0.05, 0.2)}), RE(0.1)
    dialled = DialledObjective([re], {"re": replace(re.bound(SHAPE), alpha=0.5, initial=3.0)}, dial)
    assert dialled.geco.constraints["re"].alpha == 0.5
    assert dialled.geco.multipliers()["re"].tolist() == pytest.approx([3.0] * dial.size)


def test_the_value_shown_is_that_of_the_worst_point_that_is_known() -> None:
    dialled = objective(Dial({"re": (0.05, 0.2)}, points=3), RE(0.1))
    (term,) = dialled.terms()
    value = dialled.value(term, {"re.ratio": torch.tensor([torch.nan, 1.21, 1.0])})
    torch.testing.assert_close(value, torch.tensor(0.11))
    assert dialled.value(term, {"re.ratio": torch.full((3,), torch.nan)}).isnan()
