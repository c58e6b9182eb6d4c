"""What data sets composed from the examples of another one share: the base set, and a random stream for each split."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Literal

import numpy as np

from bridle.data.base import DataSet, Split, SplitName, TensorSplit
from bridle.data.digits import Digits
from bridle.data.mnist import MNIST
from bridle.errors import ConfigError

__all__ = ["Composed"]


class Composed(DataSet):
    """A data set whose splits are composed of those of a set of digits.

    A split is composed of the base set's split of the same name alone, so that nothing leaks between the splits, and
    has as many examples. Which images go together is drawn once, by ``seed`` and the split's name; the pixels are put
    together in :meth:`Split.batch`.

    Arguments:
        base: The digits: MNIST, 28x28, or Digits, 8x8, which needs no files.
        root: Folder of MNIST's files; looked for as MNIST does without it.
        download: Fetch MNIST's files when they are not found (11 MB).
        seed: The same seed gives the same examples, on every machine.
    """

    def __init__(
        self, base: Literal["MNIST", "Digits"] = "MNIST", root: str | None = None, download: bool = False, seed: int = 0
    ) -> None:
        name = type(self).__name__
        if base not in ("MNIST", "Digits"):
            raise ConfigError(f"{name}: base is {base!r}; there are MNIST, Digits")
        if base == "Digits" and (root is not None or download):
            raise ConfigError(f"{name}: base Digits comes with scikit-learn; leave out root and download")
        self.base: DataSet = MNIST(root, download) if base == "MNIST" else Digits()
        self.seed = seed
        self._splits: dict[SplitName, Split] = {}

    def split(self, name: SplitName) -> Split:
        if name not in self._splits:
            base = self.base.split(name)
            assert isinstance(base, TensorSplit)
            # Mixed, so that neighbouring seeds and the splits of one seed share nothing. RandomState, since numpy
            # promises that its stream never changes.
            mixed = hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=4).digest()
            self._splits[name] = self._compose(base, np.random.RandomState(int.from_bytes(mixed, "big")))
        return self._splits[name]

    @abstractmethod
    def _compose(self, base: TensorSplit, random: np.random.RandomState) -> Split:
        """The split that is composed of this one."""
