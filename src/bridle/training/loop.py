"""The training loop: the two phases of every step, on one device or on many processes.

All randomness of a step is a function of (seed, step, process): the order of the data, and the noise, whose generator
is seeded anew at each step. So a checkpoint needs no hidden state, and a run that was killed and resumed ends with the
same bits as one that was not.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from bridle.data import Batch, DataSet
from bridle.data.order import BatchOrder
from bridle.errors import ConfigError, Interrupted, TrainingError
from bridle.objectives import Objective
from bridle.training.build import build_data, build_model, build_objective, prepare
from bridle.training.config import TrainConfig
from bridle.training.folder import RunFolder
from bridle.training.load import load_weights
from bridle.training.progress import TrainingView
from bridle.training.summary import summarize
from bridle.training.system import System

__all__ = ["resume", "train"]

log = logging.getLogger("bridle")


def train(config: TrainConfig, out: str | Path, overwrite: bool = False, data: DataSet | None = None) -> dict[str, Any]:
    """Trains a model from scratch.

    Arguments:
        config: What to train.
        out: The run's folder; refused if it holds a run, unless ``overwrite``.
        overwrite: Replace the run that the folder holds.
        data: The data set of the configuration, where it is at hand; built otherwise.

    Returns:
        The contents of summary.json.

    Raises:
        BridleError: Settings, data or files that cannot be used, before anything is written or trained; a disk that
            refuses; a loss that is no longer finite; an interruption.
    """
    folder = RunFolder(out)
    config.validate()
    if not overwrite:
        folder.refuse_if_used()
    return _run(config, folder, data or build_data(config), checkpoint=None)


def resume(run: str | Path, steps: int | None = None, data: DataSet | None = None) -> dict[str, Any]:
    """Goes on with a run from its latest checkpoint, to the same end as if it had not stopped.

    Arguments:
        run: The run's folder.
        steps: A new end of the run, at or after the latest checkpoint.
        data: The data set of the run, where it is at hand; built otherwise.

    Returns:
        The contents of summary.json.

    Raises:
        BridleError: As :func:`train`; a folder without a run, a damaged checkpoint, or one of another model.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    if steps is not None:
        config.steps = steps
    config.validate()
    checkpoint = folder.load_checkpoint()
    if checkpoint["step"] > config.steps:
        raise ConfigError(f"{folder.path} is at step {checkpoint['step']}, past --steps {config.steps}")
    return _run(config, folder, data or build_data(config), checkpoint)


def _run(config: TrainConfig, folder: RunFolder, data: DataSet, checkpoint: dict[str, Any] | None) -> dict[str, Any]:
    # No buffer needs to be shared between processes but GECO's, which shares its own.
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    # Told so, processes without an accelerator work together too; untold, each would train on its own.
    cpu = config.device == "cpu" or not torch.accelerator.is_available()
    if config.precision == "fp16" and cpu:
        raise ConfigError("precision fp16 needs an accelerator: use bf16 or no")
    AcceleratorState._reset_state()  # else a second run of one Python process must have the first one's precision
    accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu, kwargs_handlers=[ddp])
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    if config.batch % (world * config.accumulate):
        shares = f"{world} processes x accumulate {config.accumulate}"
        raise ConfigError(f"batch {config.batch} cannot be shared equally by {shares}")

    split = data.split("train").to(device)
    held_out_split = data.split("validation").to(device) if config.constrain_on == "validation" else None
    torch.manual_seed(config.seed)
    model = build_model(config, split.image_shape, split.context_shape)
    with accelerator.main_process_first():  # which trains the classifier, if there is one to train
        objective = build_objective(config, split.image_shape, split.bin, data)
    system = System(model, objective).to(device)
    optimizer: Any = torch.optim.Adam(
        [p for p in system.parameters() if p.requires_grad], lr=config.lr, fused=device.type in ("cpu", "cuda")
    )
    start, seconds, totals = 0, 0.0, Totals()
    if checkpoint is not None:
        start, seconds = checkpoint["step"], checkpoint["seconds"]
        totals.load(checkpoint["totals"], device)
        load_weights(system, checkpoint["system"], folder)
        optimizer.load_state_dict(checkpoint["optimizer"])
    else:
        prepare(objective, split, device)

    wrapped: Any = accelerator.prepare_model(system)
    optimizer = accelerator.prepare_optimizer(optimizer)
    order = BatchOrder(len(split), config.batch, config.seed)
    held_out_order = None if held_out_split is None else BatchOrder(len(held_out_split), config.batch, config.seed + 1)

    def batch_of(source: Any, its_order: BatchOrder, step: int, part: int) -> Batch:
        index = its_order.index(step).view(world, config.accumulate, -1)[rank, part]
        return source.batch(index.to(device))

    def save(step: int) -> None:
        if accelerator.is_main_process:
            state = {"system": system.state_dict(), "optimizer": optimizer.state_dict(), "totals": totals.state()}
            shapes = {"image_shape": split.image_shape, "context_shape": split.context_shape, "bin": split.bin}
            scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
            now = {"step": step, "seconds": seconds + time.monotonic() - began, "scaler": scaler}
            folder.save_checkpoint(step, {**state, **shapes, **now})

    if checkpoint is not None and checkpoint["scaler"] is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(checkpoint["scaler"])
    began = time.monotonic()
    if accelerator.is_main_process:
        for warning in objective.warnings(split.bin):
            log.warning(warning)
        if checkpoint is None:
            folder.create(config)
            save(0)
        else:
            folder.write_config(config)
            folder.truncate_metrics(start)
    checkpoint_every = config.checkpoint_every or max(1, config.steps // 10)

    system.train()
    view = TrainingView(folder.path, config.steps, start, accelerator.is_main_process)
    with view, _interruptible(world) as stop:
        for step in range(start, config.steps):
            torch.manual_seed(zlib.crc32(f"{config.seed} {step} {rank}".encode()))

            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate(step)

            # Phase one, pure: the loss and its gradients, from as many passes as a step is spread over.
            for part in range(config.accumulate):
                batch = batch_of(split, order, step, part)
                held_out = None
                if held_out_split is not None and held_out_order is not None:
                    held_out = batch_of(held_out_split, held_out_order, step, part)
                with nullcontext() if part == config.accumulate - 1 else accelerator.no_sync(wrapped):
                    out = wrapped(batch, held_out)
                    accelerator.backward(out.loss / config.accumulate)
                totals.add(out.metrics)
            if config.clip:
                accelerator.clip_grad_norm_(system.parameters(), config.clip)

            # Phase two: the optimizer moves the weights, then the objective its multipliers.
            optimizer.step()
            optimizer.zero_grad()
            objective.step(skip=accelerator.optimizer_step_was_skipped if config.precision == "fp16" else None)

            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                row = {"step": done, **totals.means(objective, accelerator)}
                _refuse_unless_finite(row["loss"], done)
                if accelerator.is_main_process:
                    folder.append_metrics(row)
                view.show(row)
            if done % checkpoint_every == 0 or done == config.steps or stop.is_set():
                _refuse_unless_finite(totals.loss(), done)
                save(done)
            if stop.is_set():
                raise Interrupted(f"interrupted at step {done} and saved: go on by bridle train --resume {folder.path}")

    seconds += time.monotonic() - began
    summary: dict[str, Any] = {}
    if accelerator.is_main_process:
        summary = summarize(model, objective, data, config.constrain_on, config.steps, seconds)
        folder.write_json("summary.json", summary)
    accelerator.wait_for_everyone()
    return summary


class Totals:
    """Sums of the metrics since the last row, kept on the device: only :meth:`means` reads them."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Adds one pass."""
        self.sums = {k: v + self.sums[k] if self.count else v for k, v in metrics.items()}
        self.count += 1

    def means(self, objective: Objective, accelerator: Accelerator) -> dict[str, float]:
        """The means over steps and processes as the columns of metrics.csv, by one read; the sums start anew."""
        flat = torch.cat([total.reshape(-1) for total in self.sums.values()]) / self.count
        parts = accelerator.reduce(flat, "mean").split([total.numel() for total in self.sums.values()])
        means = {k: part.view_as(total) for (k, total), part in zip(self.sums.items(), parts, strict=True)}
        self.sums, self.count = {}, 0
        columns = objective.columns(means)
        return dict(zip(columns, torch.stack(list(columns.values())).tolist(), strict=True))

    def loss(self) -> float:
        """The sum of the losses since the last row, zero right after it. One read of the device."""
        return self.sums["loss"].item() if self.count else 0.0

    def state(self) -> dict[str, Any]:
        """For a checkpoint that falls between two rows."""
        return {"sums": self.sums, "count": self.count}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        """The inverse of :meth:`state`."""
        self.sums = {k: v.to(device) for k, v in state["sums"].items()}
        self.count = state["count"]


def _refuse_unless_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is not finite at step {step}: train anew with a lower --lr")


@contextmanager
def _interruptible(world: int) -> Iterator[threading.Event]:
    """An event that Ctrl-C or a polite kill sets, so that the step in hand is finished and saved.

    With several processes they could stop at different steps, so there the interruption takes its usual course and
    the latest checkpoint stands.
    """
    stop = threading.Event()
    if world > 1 or threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
