from __future__ import annotations

import pytest

from bridle.reproduce import SCALES
from bridle.reproduce.equal_error import equal_error_kappa, equal_error_pairs, equal_error_verdict


def test_kappa_is_the_error_that_the_elbo_reached(make_record):
    assert equal_error_kappa(make_record([0.2, 0.0798765], [1, 2], [3, 4])) == 0.07988


def test_a_pair_is_of_one_seed(make_record, made_up_runs):
    tiny = SCALES["tiny"]
    finished = made_up_runs(make_record([0.2, 0.0798765], [1, 2], [3, 4]))
    names = [(a.name, b.name) for a, b in equal_error_pairs(tiny, finished, tiny.cifar10, "NVPVAE", (0, 2))]
    assert names == [(f"Digits,NVPVAE,elbo,seed={i}", f"Digits,NVPVAE,re=0.07988,seed={i}") for i in (0, 2)]


@pytest.mark.parametrize(
    ("lower", "geco", "holds"),
    [
        (True, 0.1005, True),
        (True, 0.09, True),
        (True, 0.102, None),
        (False, 0.1005, False),
        (False, 0.0995, False),
        # A lower error costs rate, so that a higher rate says nothing.
        (False, 0.098, None),
        (False, 0.102, None),
        (None, 0.1, None),
    ],
)
def test_when_a_difference_counts(lower, geco, holds):
    assert equal_error_verdict(lower, [(0.1, 0.1), (0.1, geco)])[0] is holds
