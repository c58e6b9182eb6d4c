"""The order of the training examples, as a function of the step: a resumed run needs no state to go on in it."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["BatchOrder"]


class BatchOrder:
    """An endless stream of epochs, each a permutation of its own, cut into batches of one size.

    A batch may span two epochs, or many where it is greater than the data set, so that every batch is full and every
    example is used once an epoch. What ``index`` returns depends on the arguments and the step alone.

    Arguments:
        n: Number of examples, at least 1.
        batch: Examples in a batch, at least 1.
        seed: Any integer.

    Raises:
        ValueError: ``n`` or ``batch`` is less than 1.

    Example:
        >>> order = BatchOrder(n=6, batch=4, seed=0)
        >>> stream = torch.cat([order.index(step) for step in range(3)])
        >>> sorted(stream[:6].tolist()), sorted(stream[6:].tolist())
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    """

    def __init__(self, n: int, batch: int, seed: int) -> None:
        if n < 1 or batch < 1:
            raise ValueError(f"n is {n} and batch is {batch}; both must be at least 1")
        self.n, self.batch, self.seed = n, batch, seed
        self._epochs: dict[int, Tensor] = {}  # the permutations of the last batch: nothing but a cache

    def index(self, step: int) -> Tensor:
        """The examples of a step, counted from 0: int64, shape ``(batch,)``, on the CPU.

        Raises:
            ValueError: ``step`` is negative.
        """
        if step < 0:
            raise ValueError(f"step is {step}; steps are counted from 0")
        start, stop = step * self.batch, (step + 1) * self.batch
        epochs = range(start // self.n, (stop - 1) // self.n + 1)
        self._epochs = {e: self._epochs[e] if e in self._epochs else self._permutation(e) for e in epochs}
        return torch.cat([p[max(0, start - e * self.n) : stop - e * self.n] for e, p in self._epochs.items()])

    def _permutation(self, epoch: int) -> Tensor:
        # Mixed into 32 bits, which is all that torch's generator on the CPU takes of a seed: seeds that are neighbours,
        # or epochs of them, share no permutations.
        mixed = hashlib.blake2b(b"%d %d" % (self.seed, epoch), digest_size=4).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(mixed, "big"))
        return torch.randperm(self.n, generator=generator)
