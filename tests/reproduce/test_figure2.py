from __future__ import annotations

from dataclasses import replace

import pytest

from bridle.reproduce import EXHIBITS, SCALES
from bridle.reproduce.figure2 import _COLOURS, PlanePoint, _draw, plane_claims


def group(elbo: tuple[float, float], *geco: tuple[float, float, float], unmet: tuple[float, ...] = ()):
    """An ELBO's NLL and KL, and GECO's kappa, NLL and KL; at the kappas of ``unmet`` the error is above."""
    points = [PlanePoint("ConvDRAW", "MNIST", "elbo", None, *elbo, 0.02, None)]
    points += [PlanePoint("ConvDRAW", "MNIST", "annealed", None, 9.0, 0.1, 0.3, None)]
    return points + [
        PlanePoint("ConvDRAW", "MNIST", "geco", kappa, nll, kl, kappa, kappa not in unmet) for kappa, nll, kl in geco
    ]


def test_an_elbo_of_lower_nll_and_higher_kl_is_what_the_paper_says():
    claims = plane_claims(group((2.9, 300.0), (0.06, 4.1, 30.0), (0.175, 5.2, 2.0)))
    assert [claim.holds for claim in claims] == [True, True]
    assert "lower than GECO's at 2 of 2 kappas, and its KL (300.0) is 10.0 to 150 times GECO's." in claims[0].text
    assert claims[1].text.endswith("the greatest ratio here is 150.")


def test_an_elbo_between_the_kappas_is_not():
    claims = plane_claims(group((4.3, 20.0), (0.06, 4.1, 30.0), (0.175, 5.2, 2.0)))
    assert [claim.holds for claim in claims] == [False, False]
    assert "at kappa 0.06 GECO's NLL is no higher; at kappa 0.06 GECO's KL is no lower." in claims[0].text


def test_without_the_elbo_nothing_is_decided():
    claims = plane_claims(group((4.3, 20.0), (0.06, 4.1, 30.0))[1:])
    assert [claim.holds for claim in claims] == [None]


def test_a_kappa_that_was_not_met_is_no_evidence():
    claims = plane_claims(group((4.3, 20.0), (0.06, 4.2, 300.0), (0.175, 5.2, 2.0), unmet=(0.06,)))
    assert [claim.holds for claim in claims] == [True, False]
    assert claims[0].text.endswith(
        "at 1 of 1 kappas, and its KL (20.00) is 10.0 to 10.0 times GECO's; kappa 0.06 not met and left out."
    )
    (claim,) = plane_claims(group((4.3, 20.0), (0.06, 4.2, 300.0), unmet=(0.06,)))
    assert claim.holds is None and claim.text == "ConvDRAW on MNIST: kappa 0.06 not met."


def test_a_data_set_has_one_colour_in_all_panels_and_an_unmet_kappa_a_mark_of_its_own():
    first = group((2.9, 300.0), (0.06, 4.1, 30.0), (0.175, 5.2, 2.0), unmet=(0.06,))
    other = [replace(p, data="CIFAR-10") for p in first]
    figure = _draw([*other, *first, *(replace(p, family="VAE+NVP") for p in first)])
    colours = [
        {line.get_label(): line.get_color() for line in axes.lines if line.get_label() in ("MNIST", "CIFAR-10")}
        for axes in figure.axes
    ]
    assert len(colours[0]) == 2 and colours[1]["MNIST"] == colours[0]["MNIST"] != colours[0]["CIFAR-10"]
    assert [line.get_marker() for line in figure.axes[1].lines].count("x") == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *("GECO, RE", "GECO, κ not met", "ELBO", "ELBO, hand annealed")
    ]


def test_there_are_colours_enough():
    paper = SCALES["paper"]
    assert len(set(_COLOURS)) >= len({s.name for s in (*paper.unconditional, *paper.conditional)})
    with pytest.raises(ValueError, match="shorter"):
        _draw([PlanePoint("ConvDRAW", f"{i}", "elbo", None, 1.0, 1.0, 0.1, None) for i in range(len(_COLOURS) + 1)])


def test_coarse_data_are_said_to_be(make_record, made_up_runs):
    drawn = EXHIBITS["figure2"].draw(SCALES["tiny"], made_up_runs(make_record([0.3, 0.2], [1, 5], [40, 30])))
    assert "Digits-rotate, Digits: 17 values a channel, so that the NLL is 2.77 nats lower" in drawn.caption[1]
    assert {(row[2], row[4]) for row in drawn.table.rows} == {("elbo", None), ("annealed", None), ("geco", "not met")}
    eight_bits = replace(make_record([0.3, 0.2], [1, 5], [40, 30]), bin=1 / 255)
    assert "lower" not in EXHIBITS["figure2"].draw(SCALES["tiny"], made_up_runs(eight_bits)).caption[1]
