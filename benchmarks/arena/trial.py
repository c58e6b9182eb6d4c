"""One training run of a problem, from its first step to its last."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.arena.contestants import Contestant
from benchmarks.arena.problems import Problem
from benchmarks.arena.sources import source
from benchmarks.arena.terms import Terms, terms_of
from benchmarks.arena.trajectory import READ_EVERY, THIN, Trajectory
from bridle import models
from bridle.constraints import Reconstruction
from bridle.data import BatchOrder
from bridle.models.base import LatentModel
from bridle.training import TrainConfig

__all__ = ["run"]

_CLIP = TrainConfig().clip


def run(
    problem: Problem, enter: Callable[[Terms], Contestant], seed: int, steps: int, terms: Terms | None = None
) -> Trajectory:
    """Trains a problem's model with a contestant's multipliers: Adam at a constant learning rate, gradients clipped as
    Bridle clips them by default.

    The seed decides the weights, the order of the images and the noise, so that contestants are compared in pairs,
    and a run is the beginning of any longer one. A run that is no longer finite ends early; the rest of it is NaN.

    Arguments:
        problem: What is trained.
        enter: Makes the contestant.
        seed: Any whole number.
        steps: A multiple of ten.
        terms: The problem's constraints, on the device on which it is trained; those of :func:`terms_of` if not given.
    """
    terms = terms or terms_of(problem.name)
    split = source(problem.data).split("train").to(terms.device)
    torch.manual_seed(seed)
    model: LatentModel = getattr(models, problem.model)(split.image_shape, split.context_shape, **problem.settings)
    weights = list(model.to(terms.device).parameters())
    optimizer = torch.optim.Adam(weights, lr=problem.lr, fused=True)
    order = BatchOrder(len(split), problem.batch, seed)
    contestant = enter(terms)
    rows = len(terms.bound)
    # Loss, rate, values and multipliers of every step, on the device: the host reads them every hundred steps.
    record = torch.full((steps, 2 + 2 * rows), torch.nan, device=terms.device)
    states: list[str] = []
    began = time.process_time()
    torch.manual_seed(seed + 1)  # no contestant draws anything, so that all see the same noise
    for step in range(steps):
        batch = split.batch(order.index(step).to(terms.device))
        out = model(batch.x, batch.context)
        seen = terms.measure(Reconstruction(batch.x, out.x_hat, out.kl, batch.label))
        loss = contestant.loss(seen)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, _CLIP)
        optimizer.step()
        _write(record[step], loss, seen.kl, *seen.values.values(), contestant.multipliers)
        contestant.step()
        if (step + 1) % READ_EVERY == 0:
            states.append(contestant.state or "")
            if not bool(record[step, : 2 + rows].isfinite().all()):
                break
    seconds = time.process_time() - began
    return _trajectory(record.cpu().numpy(), rows, states, seconds)


def _write(row: Tensor, *numbers: Tensor) -> None:
    with torch.no_grad():
        torch.cat([number.reshape(-1) for number in numbers], out=row)


def _trajectory(record: np.ndarray, rows: int, states: list[str], seconds: float) -> Trajectory:
    broken = np.flatnonzero(~np.isfinite(record[:, : 2 + rows]).all(axis=1))
    thinned = record.reshape(-1, THIN, record.shape[1])
    return Trajectory(
        values=record[:, 2 : 2 + rows].copy(),
        kl=thinned[:, :, 1].mean(axis=1),
        multipliers=thinned[:, -1, 2 + rows :].copy(),
        finite_steps=int(broken[0]) if len(broken) else len(record),
        states=tuple(states),
        seconds=seconds,
    )
