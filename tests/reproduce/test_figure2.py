from __future__ import annotations

from bridle.reproduce.figure2 import PlanePoint, plane_claims


def group(elbo: tuple[float, float], *geco: tuple[float, float, float]) -> list[PlanePoint]:
    """An ELBO's NLL and KL, and GECO's kappa, NLL and KL."""
    points = [PlanePoint("ConvDRAW", "MNIST", "elbo", None, *elbo, 0.02)]
    points += [PlanePoint("ConvDRAW", "MNIST", "annealed", None, 9.0, 0.1, 0.3)]
    return points + [PlanePoint("ConvDRAW", "MNIST", "geco", kappa, nll, kl, kappa) for kappa, nll, kl in geco]


def test_an_elbo_of_lower_nll_and_higher_kl_is_what_the_paper_says():
    claims = plane_claims(group((2.9, 300.0), (0.06, 4.1, 30.0), (0.175, 5.2, 2.0)))
    assert [claim.holds for claim in claims] == [True, True]
    assert "lower than GECO's at 2 of 2 kappas, and its KL (300) is 10 to 150 times GECO's." in claims[0].text
    assert claims[1].text.endswith("the greatest ratio here is 150.")


def test_an_elbo_between_the_kappas_is_not():
    claims = plane_claims(group((4.3, 20.0), (0.06, 4.1, 30.0), (0.175, 5.2, 2.0)))
    assert [claim.holds for claim in claims] == [False, False]
    assert "at kappa 0.06 GECO's NLL is no higher; at kappa 0.06 GECO's KL is no lower." in claims[0].text


def test_without_the_elbo_nothing_is_decided():
    claims = plane_claims(group((4.3, 20.0), (0.06, 4.1, 30.0))[1:])
    assert [claim.holds for claim in claims] == [None]
