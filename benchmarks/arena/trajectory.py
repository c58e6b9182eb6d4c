"""What is kept of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridle.files import write_whole

__all__ = ["READ_EVERY", "THIN", "Trajectory"]

THIN = 10
"""Steps to one entry of the rate and the multipliers, which are kept thinned."""

READ_EVERY = 100
"""Steps from one reading of the host to the next: of a contestant's state, and of whether all is finite."""


@dataclass(frozen=True)
class Trajectory:
    """A training run of N steps with R rows.

    ``values``: what the constraints measured at each step, shape ``(N, R)``, NaN after the run broke down; ``kl``:
    means over ten steps each, nats, shape ``(N / 10,)``; ``multipliers``: of the relative constraints at every tenth
    step, shape ``(N / 10, R)``; ``finite_steps``: steps before the first loss that was not finite, N where there was
    none; ``states``: what the contestant said of the run every hundred steps, empty for nothing; ``seconds``: of the
    processor, which the training took.
    """

    values: NDArray[np.float32]
    kl: NDArray[np.float32]
    multipliers: NDArray[np.float32]
    finite_steps: int
    states: tuple[str, ...]
    seconds: float

    @property
    def steps(self) -> int:
        """N."""
        return len(self.values)

    def beginning(self, steps: int) -> Trajectory:
        """The run as it was after so many steps, a multiple of ten."""
        if steps >= self.steps:
            return self
        return Trajectory(
            self.values[:steps],
            self.kl[: steps // THIN],
            self.multipliers[: steps // THIN],
            min(steps, self.finite_steps),
            self.states[: steps // READ_EVERY],
            self.seconds * steps / self.steps,
        )

    @staticmethod
    def joined(runs: Sequence[Trajectory]) -> Trajectory:
        """Runs one after another as if they were one. It breaks down where the last of them does; what became of the
        earlier ones is past."""
        before = sum(run.steps for run in runs[:-1])
        return Trajectory(
            np.concatenate([run.values for run in runs]),
            np.concatenate([run.kl for run in runs]),
            np.concatenate([run.multipliers for run in runs]),
            before + runs[-1].finite_steps,
            runs[-1].states,
            sum(run.seconds for run in runs),
        )

    def save(self, path: Path) -> None:
        """Writes it as npz."""
        with write_whole(path) as file:
            np.savez_compressed(
                file,
                values=self.values,
                kl=self.kl,
                multipliers=self.multipliers,
                finite_steps=self.finite_steps,
                states=np.array(self.states, dtype=np.str_),
                seconds=self.seconds,
            )

    @staticmethod
    def load(path: Path) -> Trajectory:
        """The inverse of :meth:`save`."""
        with np.load(path) as saved:
            return Trajectory(
                saved["values"],
                saved["kl"],
                saved["multipliers"],
                int(saved["finite_steps"]),
                tuple(saved["states"].tolist()),
                float(saved["seconds"]),
            )
