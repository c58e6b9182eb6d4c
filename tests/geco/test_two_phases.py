"""A call is pure; one ``step()`` moves the state; accumulation, skipped steps, measured values."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from bridle.geco import GECO, Constraint

RULES = ["pi", "algorithm1"]


def make(rule: str = "algorithm1") -> GECO:
    return GECO({"a": Constraint(upper=1.0), "b": Constraint(lower=torch.tensor([1.0, 2.0]))}, rule=rule)


def call(geco: GECO, a: float, b: tuple[float, float] = (1.5, 1.5), weight: float | Tensor | None = None) -> Tensor:
    return geco(torch.tensor(5.0), weight=weight, a=torch.tensor(a), b=torch.tensor(b)).loss


def assert_same(one: GECO, other: GECO, exact: bool = True) -> None:
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(one.state_dict(), other.state_dict(), **tolerance)


def assert_moved(one: GECO, other: GECO) -> None:
    assert not torch.equal(one.state, other.state)


@pytest.mark.parametrize("rule", RULES)
def test_a_call_moves_nothing_that_is_saved(rule: str) -> None:
    geco = make(rule)
    for _ in range(3):
        call(geco, 2.0)
        geco.step()
    before = copy.deepcopy(geco)
    losses = {call(geco, 3.0).item() for _ in range(5)}
    assert len(losses) == 1
    assert_same(geco, before)
    geco.step()
    assert_moved(geco, before)


@pytest.mark.parametrize("rule", RULES)
def test_evaluation_moves_nothing_whatever_is_called(rule: str) -> None:
    geco, other = make(rule), make(rule)
    for g in (geco, other):
        call(g, 2.0)
        g.step()
    for _ in range(2):
        geco.eval()
        call(geco, 50.0)
        geco.step()
        with torch.no_grad():
            call(geco, 60.0)
        geco.step()
        geco.step(skip=True)
        geco.train()
    with torch.no_grad():  # an evaluation that forgot eval()
        call(geco, 70.0)
    assert_same(geco, other)
    for g in (geco, other):
        call(g, 3.0)
        g.step()
    assert_same(geco, other)
    assert_moved(geco, make(rule))


def test_an_evaluation_between_call_and_step_keeps_what_was_staged() -> None:
    geco, other = make(), make()
    call(geco, 2.0)
    geco.eval()
    call(geco, 50.0)
    geco.step()
    assert_same(geco, make())
    geco.train()
    geco.step()
    call(other, 2.0)
    other.step()
    assert_same(geco, other)


def test_a_step_without_a_call_does_nothing() -> None:
    geco = make()
    geco.step()
    assert_same(geco, make())
    call(geco, 2.0)
    geco.step()
    after = copy.deepcopy(geco)
    geco.step()
    assert_same(geco, after)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_accumulated_calls_equal_one_big_batch(rule: str, as_tensor: bool) -> None:
    torch.manual_seed(0)
    parts, whole = make(rule), make(rule)
    for _ in range(20):
        a, b = torch.rand(60) * 3, torch.rand(60, 2) * 3
        start = 0
        for size in (7, 30, 1, 22):
            rows = slice(start, start + size)
            weight = torch.tensor(size) if as_tensor else size
            parts(torch.tensor(5.0), weight=weight, a=a[rows].mean(), b=b[rows].mean(0))
            start += size
        parts.step()
        whole(torch.tensor(5.0), a=a.mean(), b=b.mean(0))
        whole.step()
        assert_same(parts, whole, exact=False)
    assert_moved(parts, make(rule))


def test_without_weights_calls_count_the_same() -> None:
    geco = make()
    call(geco, 2.0)
    call(geco, 5.0)
    geco.step()
    assert geco.state[1, 0].item() == pytest.approx(2.5)


SKIP = [True, torch.tensor(1.0), torch.tensor([1.0]), torch.tensor(True)]
NO_SKIP = [None, False, torch.tensor(0.0), torch.tensor([0.0]), torch.tensor(False)]


@pytest.mark.parametrize("skip", SKIP)
def test_a_skipped_step_drops_what_was_staged(skip: bool | Tensor) -> None:
    geco, other = make(), make()
    call(geco, 50.0)
    geco.step(skip=skip)
    assert_same(geco, other)
    for g in (geco, other):
        call(g, 2.0)
        g.step()
    assert_same(geco, other)
    assert_moved(geco, make())


@pytest.mark.parametrize("skip", NO_SKIP)
def test_a_step_that_is_not_skipped_moves(skip: bool | Tensor | None) -> None:
    geco, other = make(), make()
    for g, s in ((geco, skip), (other, None)):
        call(g, 2.0)
        g.step(skip=s)
    assert_same(geco, other)
    assert_moved(geco, make())


def test_the_first_value_starts_the_average_even_after_skipped_and_bad_batches() -> None:
    geco = make()
    call(geco, 50.0)
    geco.step(skip=True)
    call(geco, float("nan"))
    geco.step()
    call(geco, 3.0)
    geco.step()
    assert geco.metrics()["a/violation"].item() == pytest.approx(2.0)


def test_a_measured_value_moves_the_multiplier_and_the_other_gives_the_gradient() -> None:
    geco = GECO({"a": Constraint(upper=2.0, rate=0.5), "b": Constraint(upper=1.0)}, rule="algorithm1")
    smooth = torch.tensor(10.0, requires_grad=True)
    measured = torch.tensor(3.0, requires_grad=True)
    b = torch.tensor(1.5, requires_grad=True)
    out = geco(torch.tensor(0.0), a=(3 * smooth, measured), b=b)
    out.loss.backward()
    assert smooth.grad is not None and smooth.grad.item() == pytest.approx(3 / 2)
    assert measured.grad is None
    assert b.grad is not None and b.grad.item() == pytest.approx(1.0)
    assert out.violations["a"].item() == pytest.approx(0.5)
    assert out.loss.item() == pytest.approx(0.5 + 0.5), "the value shown is the measured one"
    geco.step()
    assert geco.state[1].tolist() == pytest.approx([0.5, 0.5])
    assert geco.state[0, 0].item() == pytest.approx(0.25)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["a", "b", "objective", "weight"])
def test_a_batch_that_is_not_finite_is_left_out_and_counted(rule: str, bad: float, where: str) -> None:
    geco, other = make(rule), make(rule)

    def batch(g: GECO, broken: bool) -> None:
        b = torch.tensor([1.5, bad if broken and where == "b" else 1.5])
        objective = torch.tensor(bad if broken and where == "objective" else 5.0)
        weight = bad if broken and where == "weight" else None
        g(objective, weight=weight, a=torch.tensor(bad if broken and where == "a" else 2.0), b=b)
        g.step()

    batch(geco, False)
    batch(other, False)
    for _ in range(3):
        batch(geco, True)
    before, after = other.state_dict(), geco.state_dict()
    for key in before:
        if not key.endswith("nonfinite"):
            assert torch.equal(before[key], after[key]), key
    hit = {"a": (3, 0), "b": (0, 3)}.get(where, (3, 3))
    assert (geco.metrics()["a/nonfinite"].item(), geco.metrics()["b/nonfinite"].item()) == hit
    if where == "b":
        assert after["b.nonfinite"].tolist() == [0, 3]

    for _ in range(10):
        batch(geco, False)
        batch(other, False)
    assert torch.equal(geco.state, other.state)
    assert geco.state.isfinite().all()


def test_one_bad_call_of_several_spoils_its_step_and_no_more() -> None:
    geco, other = make(), make()
    call(geco, 2.0)
    call(geco, float("nan"))
    geco.step()
    for g in (geco, other):
        call(g, 2.0)
        g.step()
    assert torch.equal(geco.state, other.state)


def test_metrics_are_zero_dimensional() -> None:
    geco = GECO(
        {"a": Constraint(upper=1.0), "v": Constraint(lower=torch.ones(3)), "i": Constraint(lower=0.0, upper=2.0)}
    )
    geco(torch.tensor(0.0), a=torch.tensor(1.5), v=torch.tensor([0.5, 0.25, 1.0]), i=torch.tensor(1.0))
    geco.step()
    metrics = geco.metrics()
    assert list(metrics) == [f"{c}/{m}" for c in "avi" for m in ("multiplier", "violation", "nonfinite")]
    assert all(m.dim() == 0 and not m.requires_grad for m in metrics.values())
    assert metrics["a/violation"].item() == pytest.approx(0.5)
    assert metrics["v/violation"].item() == pytest.approx(0.75), "the greatest element"
    assert metrics["i/violation"].item() == pytest.approx(-1.0)
    assert metrics["v/multiplier"].item() == pytest.approx(geco.multipliers()["v"].mean().item())
