"""The order of training examples: whole epochs, and a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bridle.data import BatchOrder


def _stream(order: BatchOrder, steps: int) -> Tensor:
    return torch.cat([order.index(step) for step in range(steps)])


@pytest.mark.parametrize(("n", "batch"), [(10, 5), (10, 4), (10, 10), (3, 8), (1, 4), (7, 1), (1297, 128)])
def test_every_epoch_holds_each_example_once(n: int, batch: int) -> None:
    steps = -(-3 * n // batch) + 2
    stream = _stream(BatchOrder(n, batch, seed=0), steps)
    assert stream.dtype == torch.int64 and stream.shape == (steps * batch,)
    epochs = stream[: 3 * n].view(3, n)
    assert torch.equal(epochs.sort(1).values, torch.arange(n).expand(3, n))


def test_each_batch_is_full() -> None:
    order = BatchOrder(10, 4, seed=0)
    assert all(order.index(step).shape == (4,) for step in range(12))


def test_epochs_and_seeds_differ() -> None:
    epochs = _stream(BatchOrder(100, 10, seed=0), 50).view(5, 100)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 5
    assert not torch.equal(epochs[0], torch.arange(100))
    # Neither neighbours nor seeds that agree in their lower 32 bits share an epoch.
    for other in (1, 2**32, -1):
        others = _stream(BatchOrder(100, 10, seed=other), 50).view(5, 100)
        assert not {tuple(epoch.tolist()) for epoch in epochs} & {tuple(epoch.tolist()) for epoch in others}


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (3, 8)])
def test_depends_on_the_step_alone(n: int, batch: int) -> None:
    straight = BatchOrder(n, batch, seed=3)
    expected = [straight.index(step) for step in range(20)]
    jumping = BatchOrder(n, batch, seed=3)
    for step in (19, 0, 7, 8, 7, 3, 19):
        assert torch.equal(jumping.index(step), expected[step])
        assert torch.equal(BatchOrder(n, batch, seed=3).index(step), expected[step])


def test_independent_of_the_global_generator() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = BatchOrder(10, 4, seed=0).index(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(BatchOrder(10, 4, seed=0).index(5), first)


def test_batch_size_does_not_change_the_stream() -> None:
    assert torch.equal(_stream(BatchOrder(10, 4, seed=0), 10), _stream(BatchOrder(10, 8, seed=0), 5))


def test_result_may_be_changed() -> None:
    order = BatchOrder(10, 4, seed=0)
    first = order.index(0).clone()
    order.index(0).zero_()
    assert torch.equal(order.index(0), first)


def test_frozen() -> None:
    # A change of these numbers breaks the resumption of runs that are under way.
    assert BatchOrder(10, 10, seed=0).index(0).tolist() == [9, 8, 0, 1, 6, 4, 2, 3, 5, 7]
    assert BatchOrder(10, 10, seed=0).index(1).tolist() == [8, 6, 4, 5, 1, 9, 3, 7, 0, 2]


def test_permutations_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    order = BatchOrder(100, 10, seed=0)
    permutation: Callable[[int], Tensor] = order._permutation
    made: list[int] = []

    def count(epoch: int) -> Tensor:
        made.append(epoch)
        return permutation(epoch)

    monkeypatch.setattr(order, "_permutation", count)
    _stream(order, 30)
    assert made == [0, 1, 2]


def test_bad_arguments() -> None:
    for n, batch in ((0, 4), (4, 0), (-1, 4)):
        with pytest.raises(ValueError, match="at least 1"):
            BatchOrder(n, batch, seed=0)
    with pytest.raises(ValueError, match="counted from 0"):
        BatchOrder(4, 4, seed=0).index(-1)
