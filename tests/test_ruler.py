"""The place for a kappa, by what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bridle.dial import Dial
from bridle.ruler import Ruler

ONE = Dial({"re": (0.05, 0.2)}, points=4)
SHORT = Dial({"re": (0.05, 0.2)}, points=2, margin=0)  # five places: 0.05, 0.071, 0.1, 0.141, 0.2
SIMILAR = Dial({"pncc": (0.3, 0.9)}, points=4, similarities=["pncc"])
TWO = Dial({"re": (0.05, 0.2), "pncc": (0.3, 0.9)}, points=3, similarities=["pncc"])


def measured(ruler: Ruler, reached: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Ruler:
    """A ruler for a model that reaches, where it is aimed at some kappas, what a function of these says."""
    ruler.read(**reached(ruler.dial.kappas(ruler.places())))
    return ruler


def kappas_at(ruler: Ruler, **asked: float) -> dict[str, float]:
    """What has to be aimed at for the kappas that are asked for."""
    return {name: kappa.item() for name, kappa in ruler.dial.kappas(ruler.place(asked)).items()}


def test_unmeasured_it_is_the_dials_own_position() -> None:
    for dial, kappas in ((ONE, {"re": 0.0731}), (SIMILAR, {"pncc": 0.44}), (TWO, {"re": 0.13, "pncc": 0.81})):
        torch.testing.assert_close(Ruler(dial).place(kappas), dial.position(kappas), rtol=0, atol=1e-6)
    for kappa in ONE.ranges["re"]:
        assert torch.equal(Ruler(ONE).place({"re": kappa}), ONE.position({"re": kappa}))


def test_places_are_the_points_and_some_between_them() -> None:
    """Three between two points of a curve, one between two of a surface."""
    for dial, parts, shape in ((ONE, 4, (13, 1)), (TWO, 2, (25, 2))):
        places = Ruler(dial).places()
        assert places.shape == shape
        of_last = places[:, -1].unique()
        torch.testing.assert_close(of_last[::parts], dial.grid()[:, -1].unique())
        torch.testing.assert_close(of_last.diff(), torch.full((len(of_last) - 1,), 1 / (len(of_last) - 1)))


@pytest.mark.parametrize("factor", [0.97, 1.04])
def test_an_error_that_is_off_by_a_factor_everywhere(factor: float) -> None:
    """Then the place for a kappa is that of kappa over the factor: linear in the logarithm, so exactly."""
    ruler = measured(Ruler(ONE), lambda kappas: {"re": factor * kappas["re"]})
    for kappa in (0.06, 0.0815, 0.1, 0.17):
        assert kappas_at(ruler, re=kappa)["re"] == pytest.approx(kappa / factor, rel=1e-5)


def test_what_is_missing_of_a_similarity_is_off_by_a_factor() -> None:
    ruler = measured(Ruler(SIMILAR), lambda kappas: {"pncc": 1 - 1.05 * (1 - kappas["pncc"])})
    for kappa in (0.4, 0.62, 0.85):
        assert kappas_at(ruler, pncc=kappa)["pncc"] == pytest.approx(1 - (1 - kappa) / 1.05, rel=1e-5)


def test_linear_between_places() -> None:
    ruler = Ruler(ONE)
    kappas = ONE.kappas(ruler.places().double())["re"]
    off = torch.tensor([0.02, -0.01, 0.04, 0.0, -0.03, 0.01, 0.0, 0.01, 0.03, -0.02, 0.02, 0.01, 0.0])  # of log(kappa)
    ruler.read(re=kappas * off.exp())
    logs = (kappas.log() + off).tolist()
    for i in range(1, 12):
        asked = math.exp(0.3 * logs[i] + 0.7 * logs[i + 1])
        assert ruler.place({"re": asked}).item() == pytest.approx((i + 0.7) / 12, abs=1e-5)


def test_the_loosest_place_where_kappa_is_met() -> None:
    ruler = Ruler(SHORT)
    ruler.read(re=torch.tensor([0.06, 0.09, 0.08, 0.14, 0.14]))
    # Met at 0.1 as well as before the bump; a little of the way from 0.08 to 0.14 is left.
    place = ruler.place({"re": 0.085}).item()
    assert place == pytest.approx((2 + math.log(0.085 / 0.08) / math.log(0.14 / 0.08)) / 4, abs=1e-5)
    # Slack from 0.14 on, another constraint being the tighter one: all the way.
    assert ruler.place({"re": 0.15}).item() == 1
    # Met nowhere: where the error is least.
    assert ruler.place({"re": 0.055}).item() == 0
    assert ruler.place({"re": 0.05}).item() == 0


def test_the_place_rises_with_kappa() -> None:
    ruler = Ruler(ONE)
    noise = torch.randn(13, generator=torch.Generator().manual_seed(0)) / 10
    ruler.read(re=ONE.kappas(ruler.places())["re"] * noise.exp())
    places = [ruler.place({"re": point["re"]}).item() for point in ONE.along("re", 60)]
    assert places == sorted(places) and places[0] < 0.2 and places[-1] > 0.8


def test_a_surface_whose_constraints_depend_on_each_other() -> None:
    """An error that is lower the tighter the similarity, and the other way round."""

    def reached(kappas: dict[str, Tensor]) -> dict[str, Tensor]:
        error, missing = kappas["re"].log(), (1 - kappas["pncc"]).log()
        return {
            "re": (0.05 + error + 0.1 * (missing + 1)).exp(),
            "pncc": 1 - (missing - 0.04 + 0.2 * (error + 2.3)).exp(),
        }

    ruler = measured(Ruler(TWO), reached)
    for asked in ({"re": 0.1, "pncc": 0.6}, {"re": 0.08, "pncc": 0.75}):
        aimed = {name: torch.tensor(kappa) for name, kappa in kappas_at(ruler, **asked).items()}
        found = reached(aimed)
        assert found["re"].item() == pytest.approx(asked["re"], rel=2e-3)
        assert 1 - found["pncc"].item() == pytest.approx(1 - asked["pncc"], rel=2e-3)
        assert aimed["re"].item() != pytest.approx(asked["re"], rel=0.02)


def test_a_slack_constraint_of_a_surface() -> None:
    """The similarity is that of 0.6 wherever it may be less: what is asked of it below that changes nothing."""
    ruler = measured(Ruler(TWO), lambda kappas: {"re": 0.98 * kappas["re"], "pncc": kappas["pncc"].clamp_min(0.6)})
    at = kappas_at(ruler, re=0.1, pncc=0.45)
    assert at["pncc"] == pytest.approx(0.3) and at["re"] == pytest.approx(0.1 / 0.98, rel=1e-4)


def test_a_perfect_reconstruction_is_a_number() -> None:
    ruler = Ruler(SHORT)
    ruler.read(re=torch.tensor([0.0, 0.0, 0.1, 0.141, 0.2]))
    assert bool(ruler.off.isfinite().all()) and 1 / 4 < ruler.place({"re": 0.06}).item() < 1 / 2


def test_forgetting() -> None:
    ruler = measured(Ruler(ONE), lambda kappas: {"re": 1.1 * kappas["re"]})
    assert kappas_at(ruler, re=0.1)["re"] == pytest.approx(0.1 / 1.1, rel=1e-5)
    ruler.forget()
    assert kappas_at(ruler, re=0.1)["re"] == pytest.approx(0.1, rel=1e-5)


def test_its_readings_are_part_of_the_state() -> None:
    ruler, other = measured(Ruler(ONE), lambda kappas: {"re": 1.1 * kappas["re"]}), Ruler(ONE)
    other.load_state_dict(ruler.state_dict())
    assert torch.equal(other.place({"re": 0.1}), ruler.place({"re": 0.1}))


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({"l1": torch.ones(13)}, r"for each of the dial's ranges \(re\), got l1"),
        ({}, "got none"),
        ({"re": torch.ones(4)}, r"'re' needs 13 values, one a place, got shape \(4,\)"),
        ({"re": torch.full((13,), math.nan)}, "got NaN"),
    ],
)
def test_readings_that_make_no_sense(found: dict[str, Tensor], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Ruler(ONE).read(**found)


def test_kappas_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"kappa of re must lie in 0\.05 to 0\.2, got 0\.3"):
        Ruler(ONE).place({"re": 0.3})
    with pytest.raises(ValueError, match="a kappa for each of its ranges"):
        Ruler(TWO).place({"re": 0.1})
