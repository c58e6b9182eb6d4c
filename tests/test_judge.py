"""The judge against runs whose verdict is known, step by step."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
import torch

from bridle import GECO, Constraint, Judge
from bridle.constraints import L1, RE, SSIM
from bridle.geco import Rule
from bridle.judge import STATES, Verdict


def rising(rate: float) -> Rule:
    """Multipliers that rise by ``rate`` a step in log space whatever is seen."""
    return Rule(lambda state, c, settings: {"average": c, "log_multiplier": state["log_multiplier"] + rate}, rate=1.0)


def watch(
    value: Callable[[int], float | torch.Tensor],
    steps: int,
    constraint: Constraint | None = None,
    rate: float = 0.0,
    objective: float = 10.0,
    limits: dict[str, Callable[[float], tuple[float, float]]] | None = None,
) -> tuple[GECO, Judge, list[Verdict]]:
    """The verdicts after each step of a run that shows these values."""
    geco = GECO({"a": constraint or Constraint(upper=1.0, bounds=None)}, rule=rising(rate))
    judge = Judge(geco, limits)
    return geco, judge, go_on(geco, judge, value, range(steps), objective)


def go_on(
    geco: GECO, judge: Judge, value: Callable[[int], float | torch.Tensor], steps: range, objective: float = 10.0
) -> list[Verdict]:
    verdicts = []
    for step in steps:
        geco(torch.tensor(objective), a=torch.as_tensor(value(step), dtype=torch.float32))
        geco.step()
        judge.step()
        verdicts.append(judge.verdicts()["a"])
    return verdicts


def test_settled_at_is_when_the_mean_of_200_steps_entered_the_band() -> None:
    def value(step: int) -> float:
        return 1 + 2 * math.exp(-step / 100)

    _, _, verdicts = watch(value, 1500)
    values = torch.tensor([value(step) for step in range(1500)], dtype=torch.float64)
    means = values.unfold(0, 200, 1).mean(dim=1)
    exact = int((means > 1.05).sum()) + 200  # the mean falls, so that it is outside until then
    at = verdicts[-1].settled_at
    assert at is not None and exact <= at < exact + 25
    assert verdicts[at - 2] == ("approaching", None) and verdicts[at - 1] == ("settled", at) == verdicts[-1]


def test_whoever_leaves_the_band_settles_anew() -> None:
    _, _, verdicts = watch(lambda step: 2.0 if 500 <= step < 600 else 1.0, 1200)
    assert verdicts[499] == ("settled", 200)
    assert verdicts[599] == ("approaching", None)
    assert verdicts[-1] == ("settled", 800)


def test_nothing_is_said_before_200_steps() -> None:
    _, _, verdicts = watch(lambda step: 1.0, 200)
    assert {v.state for v in verdicts[:199]} == {"approaching"} and verdicts[199] == ("settled", 200)


@pytest.mark.parametrize(
    ("initial", "objective", "state"),
    [
        (0.19, 10.0, "slack"),  # costs 0.095 nats of 10
        (0.21, 10.0, "approaching"),  # costs 0.105
        (0.09, 0.1, "slack"),  # costs 0.045, though that is much of 0.1
        (0.11, 0.1, "approaching"),  # costs 0.055
    ],
)
def test_slack_is_met_at_no_cost(initial: float, objective: float, state: str) -> None:
    constraint = Constraint(upper=1.0, initial=initial)
    _, _, verdicts = watch(lambda step: 0.5, 300, constraint, objective=objective)
    assert verdicts[-1] == (state, None)


@pytest.mark.parametrize("rate", [0.004, 0.1])
def test_a_multiplier_without_effect_is_found_out_after_two_trials(rate: float) -> None:
    _, _, verdicts = watch(lambda step: 2.0, 1500, rate=rate)
    states = [v.state for v in verdicts]
    # The first judgement begins the first trial; each takes 400 steps, in which the multiplier grows enough.
    assert states.index("cannot be met") == 200 + 2 * 400 - 1
    assert set(states[999:]) == {"cannot be met"}


def test_a_multiplier_that_does_not_grow_proves_nothing() -> None:
    _, _, verdicts = watch(lambda step: 2.0, 3000, rate=math.log(4) / 1400)
    assert {v.state for v in verdicts} == {"approaching"}


def test_a_multiplier_at_its_greatest_is_on_trial() -> None:
    _, _, verdicts = watch(lambda step: 2.0, 1001, Constraint(upper=1.0, bounds=(0.1, 1.0)))
    assert verdicts[-1].state == "cannot be met"


def test_while_nothing_is_paid_no_trial_fails_but_at_the_greatest_multiplier() -> None:
    _, _, idle = watch(lambda step: 4.0, 3000, rate=0.004, objective=0.04)
    assert {v.state for v in idle} == {"approaching"}
    geco, judge, paying = watch(lambda step: 4.0, 1500, rate=0.004, objective=0.06)
    assert paying[-1].state == "cannot be met"
    assert go_on(geco, judge, lambda step: 4.0, range(1000), objective=0.0)[-1].state == "approaching"
    _, _, bounded = watch(lambda step: 4.0, 3000, Constraint(upper=1.0, bounds=(0.5, 2.0)), rate=0.1, objective=0.0)
    assert bounded[-1].state == "cannot be met"


def test_trials_late_in_a_run_take_a_quarter_of_it() -> None:
    _, _, verdicts = watch(lambda step: 1.0 if step < 4000 else 2.0, 8000, rate=0.01)
    found = [v.state for v in verdicts].index("cannot be met") + 1
    began = 4025  # the mean of 200 leaves the band after ten of them
    first = began + math.ceil(began / 4 / 25) * 25
    assert found == first + math.ceil(first / 4 / 25) * 25


@pytest.mark.parametrize("power", [0.1, 0.4])
@pytest.mark.parametrize("met_after", [5_000, 20_000])
def test_a_value_that_falls_like_a_power_of_the_time_is_given_ten_times_as_long(power: float, met_after: int) -> None:
    _, _, verdicts = watch(lambda step: (met_after / (step + 1)) ** power, 2700, rate=0.1)
    states = [v.state for v in verdicts]
    if met_after == 5_000:  # at the end of the first trial, step 600, that is less than ten times as long
        assert set(states) == {"approaching"}
    else:  # twice it is more, at the steps 600 and 1000; from step 2000 on it is less
        assert states.index("cannot be met") + 1 == 1000 and states[999:1999] == ["cannot be met"] * 1000
        assert set(states[2400:]) == {"approaching"}


def test_the_verdict_is_taken_back() -> None:
    _, _, verdicts = watch(lambda step: 2.0 if step < 1200 else 1.0, 1500, rate=0.1)
    assert verdicts[1199].state == "cannot be met" and verdicts[-1].state == "settled"


def test_the_verdict_is_taken_back_when_the_value_falls_after_all() -> None:
    """Slow to learn at first, then on its way to its bound by a multiplier that no longer grows, since a rule may wait
    while the value falls."""
    geco, judge, verdicts = watch(lambda step: 8.0, 1000, rate=0.01)
    at = len(verdicts)
    while verdicts[-1].state != "cannot be met":
        verdicts = go_on(geco, judge, lambda step: 8.0, range(1))
        at += 1
    geco.rule = rising(0.0)
    states = [v.state for v in go_on(geco, judge, lambda step: 1 + 7 * (1 + step / at) ** -1.5, range(4 * at))]
    back = states.index("approaching")
    assert 400 <= back + 1 < at and set(states[:back]) == {"cannot be met"} and set(states[back:]) == {"approaching"}


def test_a_vector_is_as_far_as_its_worst_element() -> None:
    def value(step: int) -> torch.Tensor:
        return torch.tensor([1.0, 0.5, 2.0 if step < 300 else 1.0])

    constraint = Constraint(upper=torch.ones(3), initial=1e-6)
    _, _, verdicts = watch(value, 800, constraint)
    assert verdicts[299].state == "approaching"
    assert verdicts[-1].state == "settled"  # two are, one is slack
    assert verdicts[-1].settled_at == 500  # the later of the two


def test_what_is_met_a_little_better_than_asked_at_no_cost_is_slack() -> None:
    """Within 5% of the bound, but not because of its multiplier."""
    states = [
        watch(lambda step, value=value: value, 300, Constraint(upper=1.0, initial=initial))[2][-1].state
        for value, initial in ((0.97, 1e-3), (0.97, 100.0), (0.995, 1e-3), (1.03, 1e-3))
    ]
    assert states == ["slack", "settled", "settled", "settled"]


def test_an_interval_that_is_met_inside_is_slack_and_an_equality_settles() -> None:
    inside = Constraint(lower=0.0, upper=2.0, initial=1e-6)
    assert watch(lambda step: 1.0, 300, inside)[2][-1].state == "slack"
    assert watch(lambda step: 1.995, 300, inside)[2][-1].state == "settled"
    assert watch(lambda step: 1.02, 300, Constraint(equal=1.0))[2][-1].state == "settled"
    assert watch(lambda step: 1.1, 300, Constraint(equal=1.0))[2][-1].state == "approaching"


def test_absolute_bands_are_shares_of_the_bound() -> None:
    constraint = Constraint(upper=0.01, scale="absolute")
    assert watch(lambda step: 0.0104, 300, constraint)[2][-1].state == "settled"
    assert watch(lambda step: 0.0106, 300, constraint)[2][-1].state == "approaching"


@pytest.mark.parametrize("term", [RE(0.1), L1(0.1), SSIM(0.8)])
@pytest.mark.parametrize("share", [-0.06, -0.04, 0.04, 0.06])
def test_limits_are_shares_of_kappa_in_its_units(term: RE | L1 | SSIM, share: float) -> None:
    """RE's kappa is the root of what is measured, SSIM's one minus it."""
    value = term.measured_at((1 + share) * term.kappa)
    assert term.in_kappa_units(torch.tensor(value)).item() == pytest.approx((1 + share) * term.kappa)
    constraint = term.bound((1, 16, 16))
    _, _, verdicts = watch(lambda step: value, 300, constraint, limits={"a": term.limits})
    assert (verdicts[-1].state == "settled") == (abs(share) < 0.05)


def test_a_batch_that_is_not_finite_is_left_out() -> None:
    _, _, verdicts = watch(lambda step: math.nan if step % 7 == 0 and step else 1.0, 300)
    assert verdicts[-1] == ("settled", 200)


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened() -> None:
    def value(step: int) -> float:
        return 1 + 2 * math.exp(-step / 100)

    _, _, whole = watch(value, 1000)
    geco, judge, first = watch(value, 310)
    file = io.BytesIO()
    torch.save({"geco": geco.state_dict(), "judge": judge.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    geco, judge, _ = watch(value, 1)
    geco.load_state_dict(saved["geco"])
    judge.load_state_dict(saved["judge"])
    assert first + go_on(geco, judge, value, range(310, 1000)) == whole


def test_it_leaves_the_multipliers_alone_and_rests_in_eval_mode() -> None:
    watched, judge, _ = watch(lambda step: 2.0, 40, rate=0.1)
    alone = GECO({"a": Constraint(upper=1.0, bounds=None)}, rule=rising(0.1))
    for _ in range(40):
        alone(torch.tensor(10.0), a=torch.tensor(2.0))
        alone.step()
    torch.testing.assert_close(watched.state_dict(), alone.state_dict(), rtol=0, atol=0)
    before = judge.state_dict()["_extra_state"]["count"]
    watched.eval()
    judge.step()
    assert judge.state_dict()["_extra_state"]["count"] == before
    assert list(judge.parameters()) == [] and list(judge.buffers()) == []


def test_the_last_step_is_seen() -> None:
    geco = GECO({"a": Constraint(upper=2.0), "b": Constraint(lower=torch.tensor([1.0, 4.0]))})
    assert torch.equal(geco.seen, torch.zeros(4))
    geco(torch.tensor(7.0), a=torch.tensor(3.0), b=torch.tensor([1.0, 1.0]), weight=3)
    geco(torch.tensor(3.0), a=torch.tensor(1.0), b=torch.tensor([1.0, 1.0]), weight=1)
    geco.step()
    torch.testing.assert_close(geco.seen, torch.tensor([0.25, 0.0, 0.75, 6.0]))


def test_states_are_ordered_from_done_to_hopeless() -> None:
    assert STATES == ("slack", "settled", "approaching", "cannot be met")
