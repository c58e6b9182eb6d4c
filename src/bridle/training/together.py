"""Several runs trained at once, as one stacked model: small models by themselves leave a machine idle.

Only the models are stacked. Each run has an objective, an optimizer, sums and a folder of its own, the very ones it
would have by itself, and sees the batches and the noise that it would see by itself; so its numbers are those of the
run by itself up to rounding, and any of the runs can go on alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from bridle.data import DataSet, Split
from bridle.data.order import BatchOrder
from bridle.errors import ConfigError, Interrupted, TrainingError
from bridle.training.best import Best
from bridle.training.build import build_data
from bridle.training.config import OBJECTIVE_SETTINGS, TrainConfig
from bridle.training.folder import RunFolder
from bridle.training.interruption import interruptible
from bridle.training.kept import keep_classifiers
from bridle.training.progress import TrainingView
from bridle.training.stacked import Pass, StackedModel
from bridle.training.state import TrainingState, accelerator_for, seed_step
from bridle.training.summary import remarks, summarize
from bridle.training.totals import refuse_unless_finite

__all__ = ["group", "train_together"]

log = logging.getLogger("bridle")

_OWN = {"seed", "objective", *chain(*OBJECTIVE_SETTINGS.values())} - {"constrain_on"}
"""In these settings runs that are trained together may differ: the seed, and what says the objective."""


def group(configs: Sequence[TrainConfig]) -> list[list[int]]:
    """Which runs can be trained together.

    Those that differ in nothing but the seed and the objective: kappas, constraints, their options, the rule of the
    multipliers, beta and annealing included. A run by itself is one whose steps are spread over several passes
    (``accumulate``), one in mixed precision, one that is compiled, one whose constraint draws random patches
    (``pncc.random``), one that trains until it has settled (``until``), one whose kappa is a range, and one whose model
    recomputes.

    Returns:
        Indices, each once, in the order of the configurations: one list for each group.

    Example:
        >>> from bridle.training import Constraints
        >>> runs = [TrainConfig(constraints=Constraints(re=kappa)) for kappa in (0.06, 0.1)]
        >>> group([*runs, TrainConfig(objective="elbo", seed=7), TrainConfig(objective="elbo", steps=10)])
        [[0, 1, 2], [3]]
    """
    groups: list[tuple[dict[str, Any] | None, list[int]]] = []
    for i, config in enumerate(configs):
        common = _common(config)
        members = next((m for other, m in groups if common is not None and other == common), None)
        if members is None:
            groups.append((common, [i]))
        else:
            members.append(i)
    return [members for _, members in groups]


def train_together(
    configs: Sequence[TrainConfig], outs: Sequence[str | Path], data: DataSet | None = None
) -> list[dict[str, Any]]:
    """Trains runs of one :func:`group` at once, each into a run folder of its own.

    A folder may hold its run already: a finished one is left as it is, an unfinished one is taken up from its latest
    checkpoint. Runs whose checkpoints are of different steps wait for the one that is furthest behind, and join it as
    it passes them. A run whose loss is no longer finite stops where it is and leaves the others alone.

    The seconds in a run's summary are its share of the time that all of them took.

    Arguments:
        configs: The runs.
        outs: Their folders, in the same order.
        data: The data set of the configurations, where it is at hand; built otherwise.

    Returns:
        The contents of each summary.json, in the same order.

    Raises:
        ConfigError: Before anything is written: settings that cannot be used, runs that are not of one group, a folder
            with a run of other settings, several processes, a model that cannot be stacked.
        TrainingError: After the other runs have finished: runs whose loss was no longer finite, with their folders.
        BridleError: Data or files that cannot be used; an interruption.
    """
    folders = [RunFolder(out) for out in outs]
    _refuse_misfits(configs, folders)
    runs = [(c, f) for c, f in zip(configs, folders, strict=True) if not f.finished]
    failures = _train(runs, data or build_data(configs[0])) if runs else []
    if failures:
        raise TrainingError("; ".join(failures))
    return [folder.read_summary() for folder in folders]


@dataclass(eq=False)
class _Run:
    """One of the runs; ``failed`` once its loss is no longer finite."""

    config: TrainConfig
    folder: RunFolder
    state: TrainingState
    best: Best
    index: int
    failed: bool = False


class _Stream:
    """What all runs of one seed see: the same batches, and the same noise.

    Arguments:
        seed: Theirs.
        batch: Examples in a batch.
        held_out: The split that the constraints are measured on, if it is not the training split.
        train: The training split.
    """

    def __init__(self, seed: int, batch: int, held_out: Split | None, train: Split) -> None:
        self.seed = seed
        self.sources = [(train, BatchOrder(len(train), batch, seed))]
        if held_out is not None:  # first, as in System.forward
            self.sources.insert(0, (held_out, BatchOrder(len(held_out), batch, seed + 1)))

    def passes(self, step: int, stack: StackedModel, device: torch.device) -> list[Pass]:
        """The passes of a step, with the noise drawn as a run by itself would draw it."""
        seed_step(self.seed, step)
        return [Pass(split.batch(order.index(step).to(device)), stack.noise()) for split, order in self.sources]


def _train(given: Sequence[tuple[TrainConfig, RunFolder]], data: DataSet) -> list[str]:
    """Trains the runs to their end, and gives a line for each that failed."""
    common = given[0][0]  # what all of them have in common may be read here
    accelerator = accelerator_for(common)
    if accelerator.num_processes > 1:
        raise ConfigError("runs are trained together by one process: leave out torchrun, or train them one by one")
    device = accelerator.device
    split = data.split("train").to(device)
    held_out = data.split("validation").to(device) if common.constrain_on == "validation" else None
    streams = {c.seed: _Stream(c.seed, common.batch, held_out, split) for c, _ in given}
    runs = [
        _Run(
            config,
            folder,
            TrainingState(config, data, split, device, _begun(folder)),
            Best(config, data, folder, device),
            index,
        )
        for index, (config, folder) in enumerate(given)
    ]
    stack = _stacked(runs)
    for run in runs:
        checkpoint = run.folder.load_checkpoint() if run.folder.checkpoint_files() else None
        run.state.begin(checkpoint, run.folder)
        run.state.system.train()

    began = time.monotonic()

    def seconds(run: _Run) -> float:
        return run.state.seconds + (time.monotonic() - began) / len(runs)

    for run in runs:
        for warning in run.state.system.objective.warnings(split.bin):
            log.warning(f"{run.folder.path}: {warning}")
        if run.folder.checkpoint_files():
            run.folder.go_on(run.config, run.state.start)
        else:
            run.folder.create(run.config)
            keep_classifiers(run.state.system.objective, run.folder.path)
            run.folder.save_checkpoint(0, run.state.checkpoint(0, 0.0))

    failures: list[str] = []
    first = min(run.state.start for run in runs)
    stacked = runs
    with (
        TrainingView([run.folder.path for run in runs], common.steps, first, shown=True) as view,
        interruptible() as stop,
    ):
        for step in range(first, common.steps):
            now = [run for run in runs if run.state.start <= step and not run.failed]
            if not now:
                continue
            if now != stacked:
                stack, stacked = _stacked(now), now
            passes = {seed: streams[seed].passes(step, stack, device) for seed in {run.config.seed for run in now}}
            _step(now, [passes[run.config.seed] for run in now], stack, step)
            done, stopping = step + 1, stop.is_set()  # asked once, so that all of them are saved or none
            for run in now:
                try:
                    _keep(run, done, seconds(run), accelerator, view, stopping)
                except TrainingError as error:
                    run.failed = True
                    failures.append(f"{run.folder.path}: {error}")
                    log.warning(failures[-1])
            if stopping:
                raise Interrupted(
                    f"interrupted at step {done} and saved: the same command goes on, "
                    f"or with one of the runs bridle train --resume {now[0].folder.path}"
                )
    for run in runs:
        if not run.failed:
            summary = summarize(run.state.system, data, common.constrain_on, common.steps, seconds(run))
            run.folder.write_json("summary.json", summary)
            for remark in remarks(summary):
                log.warning(f"{run.folder.path}: {remark}")
    return failures


def _step(runs: Sequence[_Run], passes: Sequence[Sequence[Pass]], stack: StackedModel, step: int) -> None:
    """One step of all runs: the two phases of the training loop, with one forward and one backward pass."""
    *before, train = zip(*passes, strict=True)
    measured_on: Sequence[Any] = stack.evaluate(before[0]) if before else [None] * len(runs)
    outputs = [
        run.state.system.objective(r, held_out)
        for run, r, held_out in zip(runs, stack(train), measured_on, strict=True)
    ]
    total: Tensor = torch.stack([out.loss for out in outputs]).sum()
    total.backward()
    for run, out in zip(runs, outputs, strict=True):
        state, config = run.state, run.config
        state.totals.add(out.metrics)
        if config.clip:
            torch.nn.utils.clip_grad_norm_(state.system.parameters(), config.clip)
        for parameters in state.optimizer.param_groups:
            parameters["lr"] = config.learning_rate(step)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.system.objective.step()


def _keep(run: _Run, done: int, seconds: float, accelerator: Accelerator, view: TrainingView, stopping: bool) -> None:
    """Writes the row and the checkpoint that are due after so many steps.

    Raises:
        TrainingError: The loss is not finite.
    """
    config, state = run.config, run.state
    last = done == config.steps
    if done % config.log_every == 0 or last:
        row = {"step": done, **state.totals.means(state.system.objective, accelerator)}
        refuse_unless_finite(row["loss"], done)
        run.folder.append_metrics(row)
        view.show(row, run.index)
    if done % (config.checkpoint_every or max(1, config.steps // 10)) == 0 or last or stopping:
        refuse_unless_finite(state.totals.loss(), done)
        run.folder.save_checkpoint(done, state.checkpoint(done, seconds))
        run.best.consider(state, done, seconds)


def _begun(folder: RunFolder) -> Path | None:
    """The run's folder, where it has begun."""
    return folder.path if folder.checkpoint_files() else None


def _stacked(runs: Sequence[_Run]) -> StackedModel:
    models = [run.state.system.at()[0] for run in runs]
    return StackedModel(models, runs[0].config.batch)


def _common(config: TrainConfig) -> dict[str, Any] | None:
    """The settings that must be equal in a group; None for a run that is trained by itself."""
    alone = (
        config.accumulate > 1
        or config.precision != "no"
        or config.compile
        or config.pncc.random is not None
        or config.until == "settled"
        or config.constraints.ranges()
        or config.model.init_args.get("recompute")
    )
    if alone:
        return None
    return {name: value for name, value in config.as_dict().items() if name not in _OWN}


def _refuse_misfits(configs: Sequence[TrainConfig], folders: Sequence[RunFolder]) -> None:
    if not configs or len(configs) != len(folders):
        raise ConfigError(f"every run needs a folder: there are {len(configs)} and {len(folders)}")
    if len({folder.path.resolve() for folder in folders}) < len(folders):
        raise ConfigError("every run needs a folder of its own")
    for config in configs:
        config.validate()
    if len(group(configs)) > 1 or _common(configs[0]) is None:
        raise ConfigError(
            "these runs cannot be trained together: they may differ in seed and objective alone, with accumulate 1, "
            "precision no, until steps, one kappa each, no pncc.random, no recompute and not compiled"
        )
    for config, folder in zip(configs, folders, strict=True):
        if not folder.config_file.exists():
            folder.refuse_if_used()
        elif folder.holds_another(config):
            raise ConfigError(f"{folder.path} holds a run of other settings: choose another folder")
