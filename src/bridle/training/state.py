"""What a run is made of while it trains, whether by itself or together with others."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from bridle.data import DataSet, Split
from bridle.errors import ConfigError
from bridle.models.dialled import Dialled
from bridle.training.build import build_model, build_objective, prepare
from bridle.training.config import TrainConfig
from bridle.training.folder import RunFolder
from bridle.training.init import begin_with
from bridle.training.load import load_weights
from bridle.training.system import System
from bridle.training.totals import Totals
from bridle.training.until import Until

__all__ = ["TrainingState", "accelerator_for", "device_for", "seed_step"]


class TrainingState:
    """Everything that moves while a run trains, and its checkpoint.

    ``system``: the model and its objective; ``optimizer``: theirs; ``totals``: the sums since the last row of
    metrics.csv; ``until``: when a run ends that trains until it has settled; ``start``: the step at which it begins or
    goes on; ``seconds``: how long it had trained by then.

    Arguments:
        config: The run.
        data: The data set of the configuration.
        split: Its training split, on the device.
        device: Where to train.
        begun: The run's folder, where it has begun.
    """

    def __init__(
        self, config: TrainConfig, data: DataSet, split: Split, device: torch.device, begun: Path | None = None
    ) -> None:
        self.config, self.split, self.device = config, split, device
        torch.manual_seed(config.seed)
        model = build_model(config, split.image_shape, split.context_shape)
        objective = build_objective(config, split.image_shape, split.bin, data, begun)
        self.system = System(model, objective).to(device)
        self.optimizer = torch.optim.Adam(
            [p for p in self.system.parameters() if p.requires_grad], lr=config.lr, fused=device.type in ("cpu", "cuda")
        )
        self.totals = Totals()
        self.until = Until()
        self.start, self.seconds = 0, 0.0

    @property
    def end(self) -> int:
        """The last step of the run, as far as is known."""
        if self.config.until == "settled" and self.until.end is not None:
            return min(self.until.end, self.config.steps)
        return self.config.steps

    def begin(self, checkpoint: dict[str, Any] | None, folder: RunFolder) -> None:
        """Makes ready for the first step, or takes up what the run's checkpoint holds.

        Raises:
            CheckpointError: The checkpoint is of another model or objective.
            ConfigError: ``init`` cannot be followed.
        """
        if checkpoint is None:
            if self.config.init is not None:
                begin_with(self.system, self.config.init)
            prepare(self.system.objective, self.split, self.device)
            return
        load_weights(self.system, checkpoint["system"], folder)  # first: it refuses in one line what does not fit
        self.start, self.seconds = checkpoint["step"], checkpoint["seconds"]
        self.totals.load(checkpoint["totals"], self.device)
        self.until.load(checkpoint["until"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if isinstance(self.system.model, Dialled) and self.start < self.end:
            self.system.model.ruler.forget()  # which it has of the end that it goes on from

    def checkpoint(self, step: int, seconds: float, scaler: dict[str, Any] | None = None) -> dict[str, Any]:
        """All that is needed to go on from ``step``, bit for bit, and to build the model without the data.

        Arguments:
            step: Steps done.
            seconds: How long they took.
            scaler: The state of the gradients' scaler, where there is one.
        """
        return {
            "system": self.system.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "totals": self.totals.state(),
            "until": self.until.state(),
            "image_shape": self.split.image_shape,
            "context_shape": self.split.context_shape,
            "bin": self.split.bin,
            "step": step,
            "seconds": seconds,
            "scaler": scaler,
        }


def device_for(config: TrainConfig) -> torch.device:
    """Where a run trains: the accelerator, if there is one and its settings do not say otherwise."""
    if config.device == "cpu" or not torch.accelerator.is_available():
        return torch.device("cpu")
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def accelerator_for(config: TrainConfig) -> Accelerator:
    """The devices and processes of a run.

    Raises:
        ConfigError: fp16 without an accelerator.
    """
    # No buffer needs to be shared between processes but GECO's, which shares its own.
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    # Told so, processes without an accelerator work together too; untold, each would train on its own.
    cpu = device_for(config).type == "cpu"
    if config.precision == "fp16" and cpu:
        raise ConfigError("precision fp16 needs an accelerator: use bf16 or no")
    AcceleratorState._reset_state()  # else a second run of one Python process must have the first one's precision
    return Accelerator(mixed_precision=config.precision, cpu=cpu, kwargs_handlers=[ddp])


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seeds torch's generators for all that a step draws in a process."""
    number = zlib.crc32(f"{seed} {step} {rank}".encode())
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        # manual_seed() would note the seed, with a traceback, for every kind of device that is not there: half a
        # millisecond.
        torch.default_generator.manual_seed(number)
