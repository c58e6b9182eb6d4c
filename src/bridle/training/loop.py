"""The training loop: the two phases of every step, on one device or on many processes.

All randomness of a step is a function of (seed, step, process): the order of the data, and the noise, whose generator
is seeded anew at each step. So a checkpoint needs no hidden state, and a run that was killed and resumed ends with the
same bits as one that was not.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from bridle.data import Batch, DataSet
from bridle.data.order import BatchOrder
from bridle.errors import ConfigError, Interrupted
from bridle.training.best import Best
from bridle.training.build import build_data
from bridle.training.compiling import can_compile, compile_system, refuse_without_compiler
from bridle.training.config import TrainConfig
from bridle.training.folder import RunFolder
from bridle.training.interruption import interruptible
from bridle.training.kept import keep_classifiers
from bridle.training.progress import TrainingView
from bridle.training.state import TrainingState, accelerator_for, seed_step
from bridle.training.summary import remarks, summarize
from bridle.training.totals import refuse_unless_finite

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
    if config.compile:
        refuse_without_compiler()
    if not overwrite:
        folder.refuse_if_used()
    return _run(config, folder, data or build_data(config), checkpoint=None)


def resume(run: str | Path, steps: int | None = None, data: DataSet | None = None) -> dict[str, Any]:
    """Goes on with a run from its latest checkpoint, to the same end as if it had not stopped.

    Arguments:
        run: The run's folder.
        steps: A new end of the run, at or after the latest checkpoint, also of one that trains until it has settled.
        data: The data set of the run, where it is at hand; built otherwise.

    Returns:
        The contents of summary.json.

    Raises:
        BridleError: As :func:`train`; a folder without a run, a damaged checkpoint, or one of another model.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    if steps is not None:
        config.steps, config.until = steps, "steps"
    config.validate()
    checkpoint = folder.load_checkpoint()
    if checkpoint["step"] > config.steps:
        raise ConfigError(f"{folder.path} is at step {checkpoint['step']}, past --steps {config.steps}")
    return _run(config, folder, data or build_data(config), checkpoint)


def _run(config: TrainConfig, folder: RunFolder, data: DataSet, checkpoint: dict[str, Any] | None) -> dict[str, Any]:
    accelerator = accelerator_for(config)
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    if config.batch % (world * config.accumulate):
        shares = f"{world} processes x accumulate {config.accumulate}"
        raise ConfigError(f"batch {config.batch} cannot be shared equally by {shares}")

    split = data.split("train").to(device)
    held_out_split = data.split("validation").to(device) if config.constrain_on == "validation" else None
    with accelerator.main_process_first():  # which trains the classifier, if there is one to train
        state = TrainingState(config, data, split, device, begun=folder.path if checkpoint else None)
    state.begin(checkpoint, folder)
    system, objective, totals, start = state.system, state.system.objective, state.totals, state.start
    # Accelerate's own steps look for other libraries every time, half a millisecond; only scaled gradients need them.
    scaled = accelerator.scaler is not None
    optimizer: Any = accelerator.prepare_optimizer(state.optimizer) if scaled else state.optimizer
    weights = [weight for weight in system.parameters() if weight.requires_grad]
    order = BatchOrder(len(split), config.batch, config.seed)
    held_out_order = None if held_out_split is None else BatchOrder(len(held_out_split), config.batch, config.seed + 1)

    def batch_of(source: Any, its_order: BatchOrder, step: int, part: int) -> Batch:
        index = its_order.index(step).view(world, config.accumulate, -1)[rank, part]
        return source.batch(index.to(device))

    def save(step: int) -> None:
        if accelerator.is_main_process:
            scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
            seconds = state.seconds + time.monotonic() - began
            folder.save_checkpoint(step, state.checkpoint(step, seconds, scaler))
            if step:
                best.consider(state, step, seconds)

    if config.compile and can_compile():
        compile_system(system, batch_of(split, order, start, 0))
    elif config.compile and accelerator.is_main_process:
        log.warning("nothing can be compiled here: the run goes on uncompiled, which is the same to rounding")
    wrapped: Any = accelerator.prepare_model(system)

    if checkpoint is not None and checkpoint["scaler"] is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(checkpoint["scaler"])
    began = time.monotonic()
    if accelerator.is_main_process:
        for warning in objective.warnings(split.bin):
            log.warning(warning)
        if checkpoint is None:
            folder.create(config)
            keep_classifiers(objective, folder.path)
        else:
            folder.go_on(config, start)
    best = Best(config, data, folder, device)
    if checkpoint is None:
        save(0)
    checkpoint_every = config.checkpoint_every or max(1, config.steps // 10)

    system.train()
    view = TrainingView([folder.path], config.steps, start, accelerator.is_main_process)
    with view, interruptible(world) as stop:
        for step in range(start, config.steps):
            if step >= state.end:
                break
            seed_step(config.seed, step, rank)
            system.advance(step / state.end)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate(step, state.end)

            # Phase one, pure: the loss and its gradients, from as many passes as a step is spread over.
            for part in range(config.accumulate):
                batch = batch_of(split, order, step, part)
                held_out = None
                if held_out_split is not None and held_out_order is not None:
                    held_out = batch_of(held_out_split, held_out_order, step, part)
                with nullcontext() if part == config.accumulate - 1 else accelerator.no_sync(wrapped):
                    out = wrapped(batch, held_out)
                    accelerator.backward(out.loss if config.accumulate == 1 else out.loss / config.accumulate)
                totals.add(out.metrics)
            if config.clip:
                if scaled:
                    accelerator.unscale_gradients(optimizer)
                torch.nn.utils.clip_grad_norm_(weights, config.clip)

            # Phase two: the optimizer moves the weights, then the objective its multipliers.
            optimizer.step()
            optimizer.zero_grad()
            objective.step(skip=accelerator.optimizer_step_was_skipped if scaled else None)

            done = step + 1
            if done % config.log_every == 0 or done == state.end:
                row = {"step": done, **totals.means(objective, accelerator)}
                refuse_unless_finite(row["loss"], done)
                if accelerator.is_main_process:
                    folder.append_metrics(row)
                if config.until == "settled":
                    state.until.add(row, objective.finished())
                    view.end(state.end)
                view.show(row)
            if done % checkpoint_every == 0 or done == state.end or stop.is_set():
                refuse_unless_finite(totals.loss(), done)
                if done == state.end and accelerator.is_main_process:
                    system.read(split if held_out_split is None else held_out_split)
                save(done)
            if stop.is_set():
                raise Interrupted(f"interrupted at step {done} and saved: go on by bridle train --resume {folder.path}")

    seconds = state.seconds + time.monotonic() - began
    summary: dict[str, Any] = {}
    if accelerator.is_main_process:
        summary = summarize(system, data, config.constrain_on, state.end, seconds)
        folder.write_json("summary.json", summary)
        for remark in remarks(summary):
            log.warning(remark)
    accelerator.wait_for_everyone()
    return summary
