"""How a dial's rows are compared with those of separate runs, on curves that are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.dial import Row, Task, exact_kl, of_the_curve, on_curve, table

TASK = Task("Digits", "ConvVAE", 0.05, 0.2, 5, 100, 0, Path("unused"))


def rate(rmse: float) -> float:
    """A rate-distortion curve, KL in nats, whose multiplier (of the relative constraint) is the KL itself."""
    return 0.2 / rmse**2


def row(kind: str, kappa: float, off: float = 1.0, over: float = 1.0) -> Row:
    """A model ``off`` times kappa from it, on the tangent of a curve that lies ``over`` times as high."""
    kl = over * rate(kappa) - rate(kappa) * (off**2 - 1)
    return Row(kind, 0, 1.0, kappa, off * kappa, kl, 7.0, 1.5, rate(kappa), 0.01)


def rows(off: float = 1.0, over: float = 1.0) -> list[Row]:
    kappas = TASK.asked() + TASK.between()
    dial = [row("dial", kappa, off, over) for kappa in kappas]
    aimed = [row("dial, unread", kappa, 3 * off - 2, over) for kappa in kappas]
    return [row("separate", kappa) for kappa in TASK.asked()] + dial + aimed


def test_kappas_between_are_half_way_in_their_logarithm() -> None:
    asked, between = TASK.asked(), TASK.between()
    assert len(between) == len(asked) - 1
    for left, middle, right in zip(asked, between, asked[1:], strict=False):
        assert middle**2 == pytest.approx(left * right, rel=1e-3)


def test_the_kl_at_exactly_kappa_is_that_of_the_curve() -> None:
    off = row("dial", 0.1, off=1.01)
    assert off.kl != pytest.approx(rate(0.1), rel=0.01)
    assert exact_kl(off, off.multiplier) == pytest.approx(rate(0.1))


def test_between_its_points_a_curve_is_linear_in_both_logarithms() -> None:
    own = [row("dial", kappa) for kappa in TASK.asked()]
    assert on_curve(own, 0.0731) == pytest.approx(rate(0.0731))


def test_a_dial_is_measured_at_the_kappas_and_between_them() -> None:
    off, over, monotone = of_the_curve(TASK, rows(off=1.01, over=1.05), [0])
    assert off == (
        "off kappa: at most 1.0% at these kappas, 1.0% half-way between them; "
        "where they were aimed at, unread: 3.0%, 3.0%"
    )
    assert over.endswith("+5.0% at these kappas; +5.0% between them")
    assert monotone.endswith("for 1 of 1 seeds")


def test_a_curve_with_a_step_back_is_not_monotone() -> None:
    some = rows()
    middle = some.index(row("dial", TASK.between()[0]))
    some[middle] = some[middle]._replace(kl=some[middle].kl * 2)
    *_, monotone = of_the_curve(TASK, some, [0])
    assert monotone.endswith("for 0 of 1 seeds")


def test_the_table_has_a_line_a_kappa() -> None:
    _, _, *lines = table(TASK, rows(over=1.02), [0])
    assert len(lines) == 5
    assert lines[0] == (
        "| 0.05 | 1.000, 80.00 | 1.000, 81.60 | 80.00, 81.60 | +2.0% | 7.00, 7.00 | 0.0100, 0.0100 | 1.50, 1.50 |"
    )
