"""Bounds and their scales, the shapes and names of values, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bridle.geco import GECO, Constraint, Rule, algorithm1

finite = st.floats(-100, 100, width=32)
nonzero = finite.filter(lambda v: abs(v) > 0.01)
positive = st.floats(0.0625, 100, width=32)


def violation(constraint: Constraint, value: float | Tensor) -> Tensor:
    return GECO({"c": constraint})(torch.tensor(0.0), c=torch.as_tensor(value)).violations["c"]


@settings(max_examples=40, deadline=None)
@given(nonzero, finite)
def test_c_of_a_single_bound(bound: float, value: float) -> None:
    """Relative C is divided by |bound|, absolute C is not; a lower bound turns the sign, an equality has both."""
    difference = value - bound
    for scale, unit in (("relative", abs(bound)), ("absolute", 1.0)):
        expected = difference / unit
        for side, c in (("upper", expected), ("lower", -expected), ("equal", abs(expected))):
            got = violation(Constraint(**{side: bound}, scale=scale), value).item()
            assert got == pytest.approx(c, rel=1e-4, abs=1e-4), (side, scale)


@settings(max_examples=40, deadline=None)
@given(finite, positive, finite)
def test_c_of_an_interval(lower: float, width: float, value: float) -> None:
    upper = lower + width
    for scale, unit in (("relative", width / 2), ("absolute", 1.0)):
        expected = max(value - upper, lower - value) / unit
        got = violation(Constraint(lower=lower, upper=upper, scale=scale), value).item()
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-2)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["pi", "algorithm1"]), st.sampled_from(["upper", "lower"]), positive, positive)
def test_a_violated_bound_raises_its_multiplier_and_a_slack_one_lowers_it(
    rule: str, side: str, bound: float, value: float
) -> None:
    geco = GECO({"c": Constraint(**{side: bound})}, rule=rule)
    c = geco(torch.tensor(0.0), c=torch.tensor(value)).violations["c"].item()
    geco.step()
    assert math.copysign(1, c) == (1 if (value >= bound) == (side == "upper") else -1) or value == bound
    moved = geco.state[0].item()
    assert moved * c > 0 or abs(c) < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["pi", "algorithm1"]), positive, positive, positive)
def test_the_first_move_of_the_multiplier_grows_with_the_value(rule: str, bound: float, v: float, w: float) -> None:
    moves = []
    for value in sorted((v, w)):
        geco = GECO({"c": Constraint(upper=bound)}, rule=rule)
        geco(torch.tensor(0.0), c=torch.tensor(value))
        geco.step()
        moves.append(geco.state[0].item())
    assert moves[0] <= moves[1]


def test_the_papers_reconstruction_error_is_mse_over_kappa_squared() -> None:
    assert violation(Constraint(upper=0.1**2), 0.02).item() == pytest.approx(1.0)
    assert violation(Constraint(lower=0.9), 0.45).item() == pytest.approx(0.5)


def test_a_vector_has_a_multiplier_for_each_element() -> None:
    bound = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    geco = GECO({"c": Constraint(upper=bound, rate=1.0)}, rule="algorithm1")
    value = torch.tensor([[2.0, 2.0], [1.5, 6.0]])
    out = geco(torch.tensor(0.0), c=value)
    c = torch.tensor([[1.0, 0.0], [-0.5, 0.5]])
    torch.testing.assert_close(out.violations["c"], c)
    geco.step()
    torch.testing.assert_close(geco.multipliers()["c"], c.exp())


def test_two_sided_vectors_press_each_element_its_own_way() -> None:
    interval = Constraint(lower=torch.tensor([0.0, 0.0]), upper=torch.tensor([2.0, 2.0]), rate=0.5, max_log_step=None)
    equal = Constraint(equal=torch.tensor([2.0, 2.0]), rate=0.5)
    geco = GECO({"i": interval, "e": equal}, rule="algorithm1")
    out = geco(torch.tensor(0.0), i=torch.tensor([3.0, -2.0]), e=torch.tensor([4.0, 1.0]))
    torch.testing.assert_close(out.violations["i"], torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(out.violations["e"], torch.tensor([1.0, 0.5]))
    geco.step()
    high, low = torch.tensor([1.0, -4.0]), torch.tensor([-3.0, 2.0])
    torch.testing.assert_close(geco.multipliers()["i"], (0.5 * high).exp() - (0.5 * low).exp())
    e = torch.tensor([1.0, -0.5])
    torch.testing.assert_close(geco.multipliers()["e"], 2 * torch.sinh(0.5 * e))


@pytest.mark.parametrize("scale", ["relative", "absolute"])
@pytest.mark.parametrize(
    ("bound", "value"),
    [
        ((), (1,)),
        ((1,), ()),
        ((2,), (1,)),
        ((2,), ()),
        ((2,), (2, 1)),
        ((2, 1), (2,)),
        ((2, 3), (3, 2)),
        ((6,), (2, 3)),
    ],
)
def test_shapes_are_never_broadcast(scale: str, bound: tuple[int, ...], value: tuple[int, ...]) -> None:
    geco = GECO({"c": Constraint(upper=torch.ones(bound), scale=scale)})
    for bad in (torch.ones(value), (torch.ones(value), torch.ones(bound)), (torch.ones(bound), torch.ones(value))):
        with pytest.raises(ValueError, match="has shape") as error:
            geco(torch.tensor(0.0), c=bad)
        assert "\n" not in str(error.value)
        assert "'c'" in str(error.value)
    geco(torch.tensor(0.0), c=torch.ones(bound))


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 1)])
def test_an_objective_or_weight_that_is_not_zero_dimensional_is_refused(shape: tuple[int, ...]) -> None:
    geco = GECO({"c": Constraint(upper=1.0)})
    with pytest.raises(ValueError, match="0-dimensional"):
        geco(torch.ones(shape), c=torch.tensor(1.0))
    with pytest.raises(ValueError, match="0-dimensional"):
        geco(torch.tensor(1.0), weight=torch.ones(shape), c=torch.tensor(1.0))
    assert geco._staged.abs().sum() == 0


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b", "c"), ("a", "B")])
def test_the_values_are_those_of_exactly_the_constraints(names: tuple[str, ...]) -> None:
    geco = GECO({"a": Constraint(upper=1.0), "b": Constraint(upper=1.0)})
    with pytest.raises(ValueError, match=r"a, b") as error:
        geco(torch.tensor(0.0), **{name: torch.tensor(1.0) for name in names})
    assert "\n" not in str(error.value)


def test_the_order_of_values_is_free_and_the_objective_may_be_named() -> None:
    geco = GECO({"a": Constraint(upper=1.0), "b": Constraint(upper=2.0)})
    out = geco(b=torch.tensor(6.0), objective=torch.tensor(3.0), a=torch.tensor(1.5))
    assert (out.violations["a"].item(), out.violations["b"].item(), out.objective.item()) == (0.5, 2.0, 3.0)


long = torch.linspace(-1, 1, 300)  # its printed form spans many lines
BAD = {
    "no bound": {},
    "equal and upper": {"equal": 1.0, "upper": 2.0},
    "equal and lower": {"equal": 1.0, "lower": 0.5},
    "crossed": {"lower": 2.0, "upper": 1.0},
    "empty interval": {"lower": 1.0, "upper": 1.0},
    "crossed in one element": {"lower": long, "upper": long.flip(0)},
    "shapes differ": {"lower": torch.zeros(2), "upper": torch.ones(3)},
    "shapes would broadcast": {"lower": 0.0, "upper": torch.ones(3)},
    "nan": {"upper": math.nan},
    "infinite": {"lower": -math.inf},
    "nan in a vector": {"equal": long.log()},
    "beyond float32": {"upper": torch.tensor(1e39, dtype=torch.float64)},
    "relative zero": {"upper": 0.0},
    "relative zero, lower": {"lower": 0},
    "relative zero, equal": {"equal": torch.tensor([1.0, 0.0])},
    "relative zero in float32": {"upper": torch.tensor(1e-60, dtype=torch.float64)},
    "interval of no width in float32": {
        "lower": torch.tensor(1.0).double(),
        "upper": torch.tensor(1.0).double() + 1e-12,
    },
    "scale": {"upper": 1.0, "scale": "log"},
    "initial zero": {"upper": 1.0, "initial": 0.0},
    "initial nan": {"upper": 1.0, "initial": math.nan},
    "initial infinite": {"upper": 1.0, "initial": math.inf, "bounds": None},
    "initial beyond float32": {"upper": 1.0, "initial": 1e40, "bounds": None},
    "initial below float32": {"upper": 1.0, "initial": 1e-40, "bounds": None},
    "rate zero": {"upper": 1.0, "rate": 0.0},
    "rate negative": {"upper": 1.0, "rate": -0.1},
    "rate nan": {"upper": 1.0, "rate": math.nan},
    "alpha one": {"upper": 1.0, "alpha": 1.0},
    "alpha negative": {"upper": 1.0, "alpha": -0.1},
    "alpha nan": {"upper": 1.0, "alpha": math.nan},
    "least zero": {"upper": 1.0, "bounds": (0.0, 10.0)},
    "bounds crossed": {"upper": 1.0, "bounds": (10.0, 0.1)},
    "bounds nan": {"upper": 1.0, "bounds": (math.nan, 10.0)},
    "initial outside bounds": {"upper": 1.0, "initial": 20.0, "bounds": (0.1, 10.0)},
    "log step zero": {"upper": 1.0, "max_log_step": 0.0},
    "log step nan": {"upper": 1.0, "max_log_step": math.nan},
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_bound_or_setting_is_refused_in_one_line(case: str) -> None:
    with pytest.raises(ValueError) as error:
        Constraint(**BAD[case])
    message = str(error.value)
    assert message
    assert "\n" not in message
    assert len(message) < 200


def test_a_zero_bound_is_absolute_and_an_interval_may_touch_zero() -> None:
    assert violation(Constraint(upper=0.0, scale="absolute"), 0.3).item() == pytest.approx(0.3)
    assert violation(Constraint(lower=0.0, upper=1.0), 1.25).item() == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["objective", "weight", "self", "two words", "a.b", "", "1st"])
def test_a_name_that_cannot_be_a_keyword_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name") as error:
        GECO({name: Constraint(upper=1.0)})
    assert "\n" not in str(error.value)


def test_no_constraint_and_unknown_rule_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        GECO({})
    with pytest.raises(ValueError, match=r"'algorithm'.*pi, algorithm1"):
        GECO({"c": Constraint(upper=1.0)}, rule="algorithm")


def test_bounds_are_copied() -> None:
    bound = torch.tensor([1.0, 2.0], requires_grad=True)
    geco = GECO({"c": Constraint(upper=bound)})
    with torch.no_grad():
        bound.mul_(100)
    out = geco(torch.tensor(0.0), c=torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(out.violations["c"], torch.tensor([1.0, 0.0]))
    assert not any(b.requires_grad for b in geco.buffers())


def test_repr_names_what_was_changed() -> None:
    assert repr(Constraint(lower=0.5, scale="absolute")) == "Constraint(lower=0.5, scale='absolute')"


def test_a_rule_of_ones_own() -> None:
    def sign_rule(state, c, settings):  # type: ignore[no-untyped-def]
        update = algorithm1(state, c, settings)
        motion = {"log_multiplier": state["log_multiplier"] + settings.rate * c.sign(), "seen": state["seen"] + 1}
        return update | motion

    geco = GECO({"c": Constraint(upper=1.0)}, rule=Rule(sign_rule, rate=0.25, registers=("seen",)))
    for value in (3.0, 9.0, 0.5):
        geco(torch.tensor(0.0), c=torch.tensor(value))
        geco.step()
    assert geco.state[0].item() == pytest.approx(0.25)
    assert geco.state_dict()["c.seen"].tolist() == [3.0]
