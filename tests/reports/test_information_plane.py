from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
from matplotlib.text import Text

from bridle.reports.information_plane import figure1, nll_per_dimension, plane
from bridle.reports.record import RunRecord


def texts(figure) -> str:
    """All the words in a figure, after it was drawn."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, format="png")
    labels = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return " | ".join(labels)


def with_metrics(record: RunRecord, **columns: np.ndarray) -> RunRecord:
    record.metrics.update(columns)
    return record


def test_nll_is_the_gaussian_at_its_best_sigma():
    assert float(nll_per_dimension(0.06, 1 / 255)) == pytest.approx(4.147, abs=1e-3)
    assert float(nll_per_dimension(1.0, 1 / 255)) == pytest.approx(6.960, abs=1e-3)
    assert float(nll_per_dimension(0.1, 1 / 16)) == pytest.approx(math.log(0.1) + 1.41894 + math.log(16), abs=1e-4)
    assert np.isnan(nll_per_dimension(np.array([0.0, math.nan]), 1 / 255)).all()


def test_figure1_has_the_trajectory_the_error_against_kappa_and_the_multiplier(make_run):
    record = RunRecord.read(make_run())
    figure = figure1(record)
    words = texts(figure)
    for label in ("NLL (nats per dimension)", "KL (nats per image)", "RMSE (pixel units)", "kappa = 0.1", "Iteration"):
        assert label in words
    assert "Multiplier of re" in words and len(figure.axes) == 3
    drawn = np.concatenate([line.get_xdata() for line in figure.axes[0].get_lines()])
    expected = nll_per_dimension(record.metrics["rmse"][[0, -1]], record.bin)
    assert all(np.isclose(drawn, x).any() for x in expected)


def test_the_colour_is_the_iteration_in_every_panel(make_run):
    figure = figure1(RunRecord.read(make_run()))
    bands = [[line.get_color() for line in axes.get_lines() if line.get_linewidth() == 1.8] for axes in figure.axes]
    colours = [[tuple(c) for c in band] for band in bands]
    assert len(set(colours[1])) > 10 and set(colours[1]) == set(colours[2]) <= set(colours[0])


def test_figure1_of_a_baseline_shows_sigma_and_the_weight_of_the_kl(make_run):
    words = texts(figure1(RunRecord.read(make_run("elbo", objective="elbo"))))
    assert "sigma of the likelihood" in words and "Weight of the KL" in words and "Multiplier" not in words


def test_every_constraint_has_its_two_panels(make_run):
    figure = figure1(RunRecord.read(make_run(kappas={"re": 0.12, "pncc": 0.4})))
    words = texts(figure)
    assert "Multiplier of re" in words and "Multiplier of pncc" in words
    assert "kappa = 0.12" in words and "kappa = 0.4" in words and len(figure.axes) == 5
    assert len(figure1(RunRecord.read(make_run("fre", kappas={"fre": 1.0}))).axes) == 4


def test_many_rows_are_thinned_and_the_last_one_is_kept(make_run):
    record = RunRecord.read(make_run(steps=200_000, every=10))
    figure = figure1(record)
    last = figure.axes[2].get_lines()[-1].get_xdata()[-1]
    assert sum(len(line.get_xdata()) for line in figure.axes[0].get_lines()) < 600 and last == 200_000


def test_a_kl_over_more_than_two_decades_is_drawn_on_a_logarithmic_axis(make_run):
    record = RunRecord.read(make_run())
    assert figure1(record).axes[0].get_yscale() == "linear"
    wide = np.geomspace(5000, 10, len(record.metrics["step"]))
    assert figure1(with_metrics(record, kl=wide)).axes[0].get_yscale() == "log"


def test_values_that_are_not_finite_are_left_out(make_run):
    record = RunRecord.read(make_run())
    kl, rmse = record.metrics["kl"].copy(), record.metrics["rmse"].copy()
    kl[5:20], rmse[100], rmse[200] = np.nan, np.inf, 0.0
    texts(figure1(with_metrics(record, kl=kl, rmse=rmse)))
    nothing = np.full(len(kl), np.nan)
    words = texts(figure1(with_metrics(record, kl=nothing, **{"re.multiplier": nothing})))
    assert "no finite values" in words


@pytest.mark.parametrize("rows", [1, 2])
def test_a_run_of_few_rows_is_drawn(make_run, rows):
    record = RunRecord.read(make_run())
    texts(figure1(with_metrics(record, **{k: v[:rows] for k, v in record.metrics.items()})))


def test_a_run_without_rows_has_no_figure(make_run):
    record = RunRecord.read(make_run())
    with pytest.raises(ValueError, match="no rows"):
        figure1(with_metrics(record, **{k: v[:0] for k, v in record.metrics.items()}))


def test_several_runs_share_a_plane_with_their_names(make_run):
    runs = [make_run("digits"), make_run("elbo", objective="elbo", rmse=0.08, kl=20), make_run("tight", rmse=0.06)]
    words = texts(plane([RunRecord.read(r) for r in runs]))
    for label in ("digits", "elbo", "tight", "kappa = 0.1", "held-out images", "RMSE (pixel units)"):
        assert label in words


def test_names_of_runs_that_end_at_one_place_do_not_lie_on_each_other(make_run):
    records = [RunRecord.read(make_run(f"run-{i}", steps=50)) for i in range(9)]
    figure = plane(records)
    texts(figure)
    # Of the words alone: an annotation's own extent takes in the line to its point.
    boxes = [Text.get_window_extent(t) for t in figure.axes[0].texts if t.get_text().startswith("run-")]
    assert len(boxes) == 9
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_plane_of_runs_that_diverged_is_still_drawn(make_run):
    good, bad = RunRecord.read(make_run("good")), RunRecord.read(make_run("bad", rmse=math.nan, kl=math.inf))
    texts(plane([good, bad]))
    texts(plane([bad, bad]))
