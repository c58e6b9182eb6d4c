"""A dial: its grid, and multipliers over it that keep every promise of the scalar ones."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from bridle import GECO, Constraint
from bridle.dial import HASTE, Dial, DialledGECO

ONE = Dial({"re": (0.05, 0.2)}, points=5, margin=0)
TWO = Dial({"re": (0.05, 0.2), "kl": (2.0, 50.0)}, points=4, margin=0)
DIALS = pytest.mark.parametrize("dial", [ONE, TWO], ids=["one range", "two ranges"])


def uniform(n: int, ranges: int, seed: int = 0) -> Tensor:
    return torch.rand(n, ranges, generator=torch.Generator().manual_seed(seed))


def test_kappas_lie_evenly_in_their_logarithm() -> None:
    kappas = ONE.kappas(torch.linspace(0, 1, 5).unsqueeze(1))["re"]
    torch.testing.assert_close(kappas, 0.05 * 4 ** torch.tensor([0, 0.25, 0.5, 0.75, 1]))


@pytest.mark.parametrize(("re", "kl"), [(0.05, 2.0), (0.2, 50.0), (0.093, 7.7)])
def test_position_is_the_inverse_of_kappas(re: float, kl: float) -> None:
    kappas = TWO.kappas(TWO.position({"re": re, "kl": kl}))
    assert kappas["re"].item() == pytest.approx(re, rel=1e-5) and kappas["kl"].item() == pytest.approx(kl, rel=1e-5)


@DIALS
def test_shares_are_those_of_linear_interpolation(dial: Dial) -> None:
    """They sum to one, and give back every function that is linear along each range."""
    position = uniform(200, len(dial.ranges))
    shares = dial.shares(position)
    assert shares.shape == (200, dial.size) and bool((shares >= 0).all())
    grid = torch.tensor(list(itertools.product(torch.linspace(0, 1, dial.points).tolist(), repeat=len(dial.ranges))))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(200))
    torch.testing.assert_close(shares @ grid, position)
    torch.testing.assert_close(shares @ grid.prod(dim=1), position.prod(dim=1))
    torch.testing.assert_close(dial.shares(grid), torch.eye(dial.size))


def power(progress: float) -> float:
    return 0.4 + 0.9 * min(progress / 0.6, 1)


def shares_up_to(coordinate: Tensor, progress: float = 0.5) -> Tensor:
    """What share of the images is nearer to the tight end. By their places, the powers of it, 0.3 / 1.8 of all stand
    there, 0.5 / 1.8 at the loose end, and from one to the other their density rises from 0.1 to 1.9."""
    inside = 0.1 * coordinate + 0.9 * coordinate.square()
    return torch.where(coordinate < 1, ((0.3 + inside) / 1.8) ** (1 / power(progress)), 1.0)


def ends(progress: float = 0.5) -> tuple[float, float]:
    """The shares of the images up to which they stand at the tight end, and from which on at the loose one."""
    return (0.3 / 1.8) ** (1 / power(progress)), (1.3 / 1.8) ** (1 / power(progress))


def stands_for(dial: Dial, progress: float = 0.5) -> Tensor:
    """The share of the images that each point has, by numerical integration."""
    edges = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    up_to = shares_up_to(edges, progress)
    up_to[-1] = ends(progress)[1]
    one = Dial({"re": (0.1, 1.0)}, dial.points)
    along = up_to.diff() @ one.shares(((edges[1:] + edges[:-1]) / 2).unsqueeze(1))
    along[0] += up_to[0]
    along[-1] += 1 - up_to[-1]
    return torch.cartesian_prod(*[along.float()] * len(dial.ranges)).view(dial.size, -1).prod(dim=1)


@DIALS
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [1, 7, 128])
def test_every_part_of_a_range_has_one_image_of_a_batch(dial: Dial, progress: float, n: int) -> None:
    position = dial.draw(n, torch.Generator().manual_seed(3), progress=progress)
    assert position.shape == (n, len(dial.ranges))
    tight, loose = ends(progress)
    for coordinate in position.unbind(dim=1):
        ordered = coordinate.sort().values
        inside = (ordered > 0) & (ordered < 1)
        parts = torch.arange(n)
        before, reached, behind = parts / n, shares_up_to(ordered, progress), (parts + 1) / n
        assert bool((before <= reached + 1e-5)[inside].all()) and bool((reached <= behind + 1e-5)[inside].all())
        assert bool((before[ordered == 0] <= tight).all()) and bool((behind[ordered == 1] >= loose).all())
    assert torch.equal(position, dial.draw(n, torch.Generator().manual_seed(3), progress=progress))
    assert not torch.equal(position, dial.draw(n, torch.Generator().manual_seed(4), progress=progress))


@DIALS
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_even_positions_are_all_over_the_dial(dial: Dial, progress: float) -> None:
    dial = Dial(dial.ranges, dial.points)
    position = dial.even(64)
    dial.advance(progress)
    assert dial.even(64) is position and position.shape == (64, len(dial.ranges))
    first, *others = position.unbind(dim=1)
    inside = (first > 0) & (first < 1)
    parts = ((torch.arange(64) + 0.5) / 64)[inside]
    torch.testing.assert_close(shares_up_to(first, progress)[inside], parts, rtol=0, atol=1e-5)
    tight, loose = ends(progress)
    assert (first == 0).sum() == round(64 * tight) and (first == 1).sum() == 64 - round(64 * loose)
    for coordinate in others:
        ordered = coordinate.sort().values
        inside = (ordered > 0) & (ordered < 1)
        parts = ((torch.arange(64) + 0.5) / 64)[inside]
        torch.testing.assert_close(shares_up_to(ordered, progress)[inside], parts, rtol=0, atol=1.5 / 64)
    images, expected = 64 * dial.shares(position).mean(dim=0), 64 * stands_for(dial, progress)
    torch.testing.assert_close(images, expected, rtol=0.3, atol=0.5)


def test_positions_move_from_the_loose_end_to_the_tight_one() -> None:
    dial = Dial(ONE.ranges)
    position, means = dial.even(64), []
    for step in range(100):
        dial.advance(step / 100)
        means.append(position.mean().item())
        assert torch.equal(dial.shares(position), dial.shares(position.clone()))
    assert means == sorted(means, reverse=True) and means[0] > 0.8 > 0.6 > means[60] == means[99]


@DIALS
@pytest.mark.parametrize("progress", [0.0, 0.4, 0.6])
def test_how_many_images_a_point_has(dial: Dial, progress: float) -> None:
    generators = (torch.Generator().manual_seed(seed) for seed in range(400))
    position = torch.cat([dial.draw(64, generator, progress=progress) for generator in generators])
    torch.testing.assert_close(dial.shares(position).mean(dim=0), stands_for(dial, progress), rtol=0.1, atol=1e-3)


def test_the_tight_end_of_a_similarity_is_its_greatest() -> None:
    dial = Dial({"pncc": (0.3, 0.9)}, points=5, similarities=["pncc"])
    other = Dial(ONE.ranges, points=5)
    position = dial.even(64)
    for progress in (0.5, 0.1, 0.9):
        dial.advance(progress)
        other.advance(progress)
        torch.testing.assert_close(1 - position.squeeze(1).flip(0), other.even(64).squeeze(1))


@DIALS
def test_what_is_kept_of_even_positions_is_what_it_would_be(dial: Dial) -> None:
    position = dial.even(16)
    assert dial.even(16) is position and dial.even(32) is not position
    for of in (dial.shares, dial.features, dial.looseness):
        assert of(position) is of(position)
        torch.testing.assert_close(of(position), of(position.clone()))
    for name, kappas in dial.kappas(position.clone()).items():
        torch.testing.assert_close(dial.kappas(position)[name], kappas)
    parts = torch.cat((2 * position - 1, dial.shares(position)), dim=1)
    torch.testing.assert_close(dial.features(position), HASTE * parts)


def test_looseness_is_kappa_over_that_of_the_middle() -> None:
    position = uniform(20, 2)
    kappas, middle = TWO.kappas(position), TWO.kappas(torch.full((1, 2), 0.5))
    over = [kappas[name] / middle[name] for name in TWO.ranges]
    torch.testing.assert_close(TWO.looseness(position), (over[0] * over[1]).sqrt())
    torch.testing.assert_close(
        ONE.looseness(position[:, :1]), ONE.kappas(position[:, :1])["re"] / math.sqrt(0.05 * 0.2)
    )
    dial = Dial({"pncc": (0.3, 0.9)}, similarities=["pncc"], margin=0)
    misses = 1 - dial.kappas(position[:, :1])["pncc"]
    torch.testing.assert_close(dial.looseness(position[:, :1]), (misses / math.sqrt(0.7 * 0.1)).sqrt())


def test_positions_are_random_within_their_part_and_ranges_are_independent() -> None:
    position = torch.cat([TWO.draw(8, torch.Generator().manual_seed(seed)) for seed in range(500)])
    part, (tight, loose) = 8 * shares_up_to(position), ends()
    whole = (part.floor() > 8 * tight) & (part.ceil() < 8 * loose)
    within = part[whole] % 1  # of the parts that do not reach beyond an end
    assert within.mean().item() == pytest.approx(0.5, abs=0.02)
    assert within.var().item() == pytest.approx(1 / 12, abs=0.005)
    assert abs(torch.corrcoef(position.T)[0, 1].item()) < 0.05


@pytest.mark.parametrize(
    ("ranges", "points", "message"),
    [
        ({}, 8, "a dial needs a range"),
        ({"re": (0.1, 0.1)}, 8, "range of 're' must be 0 < least < greatest, got 0.1 to 0.1"),
        ({"re": (0.0, 0.1)}, 8, "got 0.0 to 0.1"),
        ({"re": (0.1, math.inf)}, 8, "got 0.1 to inf"),
        ({"re": (math.nan, 0.1)}, 8, "got nan to 0.1"),
        ({"re": (0.1, 0.2)}, 1, "two points along each range, got 1"),
    ],
)
def test_a_dial_that_makes_no_sense_is_refused(
    ranges: dict[str, tuple[float, float]], points: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Dial(ranges, points)


@pytest.mark.parametrize(
    ("kappas", "message"),
    [
        ({"re": 0.3, "kl": 5.0}, "kappa of re must lie in 0.05 to 0.2, got 0.3"),
        ({"re": math.nan, "kl": 5.0}, "got nan"),
        ({"re": 0.1}, r"a kappa for each of its ranges \(re, kl\), got re"),
        ({"re": 0.1, "l1": 5.0}, "got re, l1"),
        ({}, "got none"),
    ],
)
def test_a_kappa_that_the_dial_does_not_have_is_refused(kappas: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TWO.position(kappas)


# --- multipliers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["pi", "algorithm1"])
def test_at_a_point_of_the_grid_it_is_the_scalar_rule(rule: str) -> None:
    """All images at one point: its multiplier is that of a GECO with that kappa alone, and so is the gradient, but that
    it is divided by one plus the multiplier."""
    kappa, point = ONE.kappas(torch.tensor([[0.5]]))["re"].item(), 2
    dialled = DialledGECO({"re": Constraint(upper=1.0)}, ONE, rule=rule)
    scalar = GECO({"re": Constraint(upper=kappa**2)}, rule=rule)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        mse = (kappa**2 * (0.5 + 2 * torch.rand(6, generator=generator))).requires_grad_()
        kl = torch.rand(6, generator=generator).requires_grad_()
        ours = dialled(kl, position=torch.full((6, 1), 0.5), re=mse / kappa**2)
        theirs = scalar(kl.mean(), re=mse.mean())
        divided = theirs.loss / (1 + scalar.multipliers()["re"])
        for mine, other in zip(
            torch.autograd.grad(ours.loss, (kl, mse)), torch.autograd.grad(divided, (kl, mse)), strict=True
        ):
            torch.testing.assert_close(mine, other)
        torch.testing.assert_close(ours.violations["re"][point], theirs.violations["re"])
        torch.testing.assert_close(ours.objective, theirs.objective)
        dialled.step()
        scalar.step()
        multipliers = dialled.multipliers()["re"]
        assert multipliers[point].item() == pytest.approx(scalar.multipliers()["re"].item(), rel=1e-4)
        assert multipliers[[0, 1, 3, 4]].tolist() == [1, 1, 1, 1]


def train(dial: Dial, steps: int) -> tuple[DialledGECO, dict[str, Tensor]]:
    """Least w^2, summed over the ranges, subject to w >= kappa at any kappa, for a log w that is linear between the
    points of the dial; the multipliers, and w at each point."""
    torch.manual_seed(0)
    geco = DialledGECO({name: Constraint(lower=1.0, initial=30.0) for name in dial.ranges}, dial)
    log_w = torch.ones(dial.size, len(dial.ranges), requires_grad=True)
    optimizer = torch.optim.Adam([log_w], lr=0.05)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / steps)
        position = dial.draw(64)
        w = (dial.shares(position) @ log_w).exp()
        values = {name: one / k for (name, k), one in zip(dial.kappas(position).items(), w.unbind(1), strict=True)}
        optimizer.zero_grad()
        geco(w.square().sum(dim=1), position=position, **values).loss.backward()
        optimizer.step()
        geco.step()
    return geco, dict(zip(dial.ranges, log_w.detach().exp().unbind(1), strict=True))


@pytest.mark.parametrize(
    ("dial", "steps"),
    [(Dial({"a": (1.0, 4.0)}, points=4), 1000), (Dial({"a": (1.0, 2.0), "b": (1.0, 2.0)}, points=2), 2000)],
    ids=["a curve", "a surface"],
)
def test_multipliers_that_are_known(dial: Dial, steps: int) -> None:
    """w = kappa, and 2 w = multiplier / kappa: the multiplier is 2 kappa^2, whose logarithm the grid can tell. On a
    surface each depends on its own kappa alone, whatever the other one is."""
    geco, found = train(dial, steps)
    grid = torch.tensor(list(itertools.product(torch.linspace(0, 1, dial.points).tolist(), repeat=len(dial.ranges))))
    for name, kappa in dial.kappas(grid).items():
        torch.testing.assert_close(found[name], kappa, rtol=1e-3, atol=0)
        torch.testing.assert_close(geco.multipliers()[name], 2 * kappa.square(), rtol=1e-3, atol=0)


def test_a_vector_has_a_multiplier_for_each_element_and_point() -> None:
    geco = DialledGECO({"re": Constraint(upper=torch.ones(3))}, ONE)
    value = torch.tensor([0.5, 1.0, 2.0]).expand(16, 3)
    for _ in range(20):
        geco(torch.ones(16), position=ONE.draw(16), re=value)
        geco.step()
    multipliers = geco.multipliers()["re"]
    assert multipliers.shape == (3, 5)
    assert bool((multipliers[0] < 1).all() and (multipliers[1] == 1).all() and (multipliers[2] > 1).all())


def test_an_interval_has_both_sides() -> None:
    geco = DialledGECO({"re": Constraint(lower=0.9, upper=1.1)}, ONE)
    for value, steps in ((2.0, 40), (0.2, 150)):
        for _ in range(steps):
            geco(torch.ones(16), position=ONE.draw(16), re=torch.full((16,), value))
            geco.step()
        assert bool((geco.multipliers()["re"] > 0).all() if value > 1 else (geco.multipliers()["re"] < 0).all())


# --- promises of the core ---------------------------------------------------------------------------------------------


def batch(step: int, n: int = 24) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "objective": torch.rand(n, generator=generator),
        "position": torch.rand(n, 1, generator=generator),
        "re": torch.rand(n, generator=generator) + 0.6,
    }


def make() -> DialledGECO:
    return DialledGECO({"re": Constraint(upper=1.0)}, ONE)


def advance(geco: DialledGECO, steps: range) -> None:
    for step in steps:
        geco(**batch(step))
        geco.step()


def test_a_call_is_pure() -> None:
    geco = make()
    advance(geco, range(5))
    before = geco.state.clone()
    first, second = geco(**batch(9)).loss, geco(**batch(9)).loss
    assert torch.equal(first, second) and torch.equal(geco.state, before)


def test_parts_of_a_batch_add_up_to_it() -> None:
    whole, parts = make(), make()
    for step in range(30):
        one = batch(step)
        whole(**one)
        for index in (slice(0, 5), slice(5, 24)):
            parts(**{name: value[index] for name, value in one.items()})
        whole.step()
        parts.step()
    torch.testing.assert_close(whole.state, parts.state)


def test_points_without_images_stay_where_they_are() -> None:
    geco = make()
    advance(geco, range(5))
    before = geco.state.clone()
    geco(torch.ones(4), position=torch.tensor([[0.0], [0.1], [0.2], [0.24]]), re=torch.full((4,), 3.0))
    geco.step()
    assert torch.equal(geco.state[:, 2:], before[:, 2:])
    assert bool((geco.state[0, :2] > before[0, :2]).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["re", "objective"])
def test_a_value_that_is_not_finite_leaves_everything_untouched_and_is_counted(bad: float, where: str) -> None:
    geco = make()
    advance(geco, range(5))
    before = geco.state.clone()
    spoilt = batch(9)
    spoilt[where][3] = bad
    geco(**spoilt)
    geco.step()
    assert torch.equal(geco.state, before) and geco.metrics()["re/nonfinite"] == 1
    advance(geco, range(10, 11))
    assert not torch.equal(geco.state, before)


def test_a_skipped_step_drops_what_was_staged() -> None:
    geco, other = make(), make()
    for step in range(6):
        geco(**batch(step))
        geco.step(skip=step == 2)
    advance(other, range(2))
    advance(other, range(3, 6))
    assert torch.equal(geco.state, other.state)


def test_evaluation_stages_nothing() -> None:
    geco = make()
    advance(geco, range(5))
    before = geco.state.clone()
    geco.eval()
    geco(**batch(9))
    geco.train()
    with torch.no_grad():
        geco(**batch(9))
    geco.step()
    assert torch.equal(geco.state, before)


def test_it_is_taken_up_bit_for_bit() -> None:
    straight, first, second = make(), make(), make()
    advance(straight, range(40))
    advance(first, range(20))
    second.load_state_dict(first.state_dict())
    advance(second, range(20, 40))
    assert torch.equal(straight.state, second.state)


def test_a_stand_in_gives_the_gradient_and_the_measured_value_moves_the_multiplier() -> None:
    geco, plain = make(), make()
    one = batch(0)
    stand_in = one["re"].clone().requires_grad_()
    geco(one["objective"], position=one["position"], re=(3 * stand_in, one["re"])).loss.backward()
    assert stand_in.grad is not None and bool((stand_in.grad > 0).all())
    geco.step()
    advance(plain, range(1))
    assert torch.equal(geco.state, plain.state)


def test_call_and_step_compile_without_a_break() -> None:
    geco, eager = make(), make()
    call = torch.compile(lambda one: geco(**one).loss, fullgraph=True, backend="aot_eager")
    step = torch.compile(geco.step, fullgraph=True, backend="aot_eager")
    for number in range(3):
        torch.testing.assert_close(call(batch(number)), eager(**batch(number)).loss)
        step()
        eager.step()
    torch.testing.assert_close(geco.state, eager.state)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"l1": torch.ones(24)}, r"exactly its constraints \(re\), got l1"),
        ({"re": torch.ones(())}, r"'re' has shape \(\), expected \(24,\)"),
        ({"re": torch.ones(23)}, r"shape \(23,\), expected \(24,\)"),
    ],
)
def test_values_of_another_shape_are_refused(values: dict[str, Tensor], message: str) -> None:
    one = batch(0)
    with pytest.raises(ValueError, match=message):
        make()(one["objective"], position=one["position"], **values)


# --- similarities, and kappas that people are shown -------------------------------------------------------------------


def test_a_similarity_goes_by_what_is_missing() -> None:
    dial = Dial({"pncc": (0.2, 0.9)}, points=4, similarities=["pncc"], margin=0)
    missing = 1 - dial.kappas(dial.grid())["pncc"]
    torch.testing.assert_close(missing, 0.8 * 0.125 ** (torch.arange(4) / 3))
    for kappa in (0.2, 0.5, 0.9):
        assert dial.kappas(dial.position({"pncc": kappa}))["pncc"].item() == pytest.approx(kappa, rel=1e-5)
    with pytest.raises(ValueError, match=r"range of 'pncc' must end below 1, got 0\.2 to 1\.0"):
        Dial({"pncc": (0.2, 1.0)}, similarities=["pncc"])


def test_kappas_along_a_range_reach_its_ends_exactly() -> None:
    kappas = [at["re"] for at in TWO.along("re", 5)]
    assert kappas == [0.05, 0.07071, 0.1, 0.1414, 0.2]
    assert {at["kl"] for at in TWO.along("re", 5)} == {10.0} and TWO.middle == {"re": 0.1, "kl": 10.0}
    assert {at["kl"] for at in TWO.along("re", 3, {"kl": 4.0, "re": 7.0})} == {4.0}
    narrow = Dial({"re": (0.100012, 0.100014)})
    assert [at["re"] for at in narrow.along("re", 3)] == pytest.approx([0.100012, 0.100013, 0.100014], rel=1e-7)
    for at in (*narrow.along("re", 7), narrow.middle):
        narrow.position(at)


@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_a_dial_goes_on_beyond_the_tight_ends_of_its_ranges(margin: float) -> None:
    """By so much of a range's length, in its logarithm; what can be asked for is the range."""
    ranges = {"re": (0.05, 0.2), "pncc": (0.3, 0.9)}
    dial = Dial(ranges, points=3, similarities=["pncc"], margin=margin)
    beyond = dial.kappas(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(beyond["re"], torch.tensor([0.05 * 4**-margin, 0.2]))
    torch.testing.assert_close(1 - beyond["pncc"], torch.tensor([0.1 * 7**-margin, 0.7]))
    at = dial.position({"re": 0.05, "pncc": 0.9})
    torch.testing.assert_close(at, torch.tensor([[margin, 1]]) / torch.tensor([[1 + margin, 1 + margin]]))
    assert dial.along("re", 3)[0]["re"] == 0.05 and dial.along("pncc", 3)[2]["pncc"] == 0.9
    assert dial.middle == {"re": 0.1, "pncc": 0.7354}
    for kappas in ({"re": 0.0499, "pncc": 0.5}, {"re": 0.1, "pncc": 0.901}):
        with pytest.raises(ValueError, match="must lie in"):
            dial.position(kappas)
    torch.testing.assert_close(dial.refined().grid()[::2][:3], dial.grid()[:3])
    torch.testing.assert_close(dial.refined().kappas(at)["re"], torch.tensor([0.05]))


def test_a_margin_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"margin of a dial must be at least 0, got -0\.1"):
        Dial({"re": (0.1, 0.2)}, margin=-0.1)


def test_the_grid_is_in_the_order_of_the_shares() -> None:
    torch.testing.assert_close(TWO.shares(TWO.grid()), torch.eye(TWO.size))


def test_multipliers_at_a_kappa() -> None:
    """Linear in the logarithm between points, in the bound's shape; an interval's are those of its two sides."""
    geco = DialledGECO(
        {"re": Constraint(upper=torch.ones(3)), "both": Constraint(lower=0.5, upper=1.5)},
        Dial({"re": (0.1, 0.4)}, 3, margin=0),
    )
    logs = torch.tensor([[0.0, 1, 2], [1, 1, 1], [0, 2, 0], [0, 1, 0], [1, 0, 0]])
    geco.state[0] = logs.flatten()
    at = geco.multipliers_at(geco.dial.position({"re": 0.1 * 2**0.5}))
    torch.testing.assert_close(at["re"], torch.tensor([0.5, 1, 1]).exp())
    torch.testing.assert_close(at["both"], torch.tensor(0.5).exp() - torch.tensor(0.5).exp())
    at = geco.multipliers_at(geco.dial.position({"re": 0.1}))
    torch.testing.assert_close(at["both"], torch.tensor(1 - math.e))


def test_a_point_without_images_counts_as_not_met_and_then_as_its_average() -> None:
    geco = DialledGECO({"re": Constraint(upper=1.0)}, ONE)

    def step(position: float, value: float) -> list[float]:
        geco(torch.ones(4), position=torch.full((4, 1), position), re=torch.full((4,), value))
        geco.step()
        return [round(c, 4) for c in geco.seen[:-1].tolist()]

    assert step(1.0, 0.8) == [1, 1, 1, 1, -0.2]
    assert step(0.0, 1.5) == [0.5, 1, 1, 1, -0.2]
    resumed = DialledGECO({"re": Constraint(upper=1.0)}, ONE)
    resumed.load_state_dict(geco.state_dict())
    geco = resumed
    assert step(0.5, 1.0) == [0.5, 1, 0, 1, -0.2]
