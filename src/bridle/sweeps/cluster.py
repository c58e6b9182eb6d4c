"""Workers on a Ray cluster."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Generator, Sequence
from typing import Any

from bridle.errors import ConfigError
from bridle.sweeps.local import cores
from bridle.sweeps.work import Job, work

__all__ = ["RayEngine"]

_PATIENCE = 600.0  # seconds for the step in hand and its checkpoint, when a sweep is interrupted


class RayEngine:
    """Tasks on a Ray cluster, a job each. Each declares its cores, and its GPU where the cluster has any.

    The sweep's folder, the data and the installed packages must be the same on all machines, as on a shared file
    system.

    Arguments:
        address: The cluster's, such as ``auto`` or ``ray://host:10001``. Without it a local cluster is started, and
            ended with the sweep.
        workers: Jobs at a time on a local cluster; one for each share of ``threads`` cores if not given. An existing
            cluster has its own number of cores.
        threads: Threads of torch in each, and cores that a task declares.

    Raises:
        ConfigError: Ray is not installed; a number below 1; ``workers`` given with ``address``.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, threads: int = 1) -> None:
        try:
            self.ray: Any = importlib.import_module("ray")
        except ImportError:
            raise ConfigError("engine ray needs Ray: pip install 'bridle[ray]'") from None
        if workers is not None and address is not None:
            raise ConfigError("workers are the local cluster's: the one at address has as many as its cores allow")
        if workers is not None and workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        if threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        self.address = address
        self.workers = workers
        self.threads = threads

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, str]], None, None]:
        """As :meth:`bridle.sweeps.Engine.run`.

        Raises:
            ConfigError: There is no cluster at the address.
        """
        ray = self.ray
        ours = not ray.is_initialized()
        if ours:
            self._connect(len(jobs))
        pending: dict[Any, Job] = {}
        try:
            cpu = all(spec.config.device == "cpu" for job in jobs for spec in job.runs)
            gpus = 0 if cpu else min(1, ray.cluster_resources().get("GPU", 0))
            # A run whose process dies is reported, as elsewhere, and taken up by the next start of the sweep.
            task = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=0)(work)
            pending = {task.remote(job, self.threads): job for job in jobs}
            while pending:
                (ended,), _ = ray.wait(list(pending), num_returns=1)
                job = pending.pop(ended)
                try:
                    failures = ray.get(ended)
                except ray.exceptions.RayError as error:
                    reason = " ".join(str(error).split())[:200]
                    failures = dict.fromkeys((s.name for s in job.runs), f"its process ended: {reason}")
                yield job, failures
        finally:
            for reference in pending:
                ray.cancel(reference)  # an interruption by the keyboard, which training answers by a checkpoint
            if pending:
                ray.wait(list(pending), num_returns=len(pending), timeout=_PATIENCE)
            if ours:
                ray.shutdown()

    def _connect(self, jobs: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address is not None:
                self.ray.init(address=self.address, **quiet)
                return
            workers = min(self.workers or max(1, cores() // self.threads), jobs)
            self.ray.init(address="local", num_cpus=workers * self.threads, include_dashboard=False, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"no Ray cluster at {self.address or 'this machine'}: {reason}") from None
