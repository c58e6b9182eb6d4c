"""Many runs in one folder: a grid of settings, worker processes or a Ray cluster, one table.

:mod:`~bridle.sweeps.grid` makes runs from settings of several values, :mod:`~bridle.sweeps.refusals` looks before
anything starts, :mod:`~bridle.sweeps.work` is what a worker does, :mod:`~bridle.sweeps.local` and
:mod:`~bridle.sweeps.cluster` are the engines that hand out the work, :mod:`~bridle.sweeps.table` writes the result.
"""

from bridle.sweeps.cluster import RayEngine
from bridle.sweeps.grid import collapse, expand
from bridle.sweeps.local import LocalEngine
from bridle.sweeps.runs import RunSpec
from bridle.sweeps.sweep import SweepResult, run_sweep
from bridle.sweeps.table import write_table
from bridle.sweeps.work import Engine, Finish, Job

__all__ = [
    "Engine",
    "Finish",
    "Job",
    "LocalEngine",
    "RayEngine",
    "RunSpec",
    "SweepResult",
    "collapse",
    "expand",
    "run_sweep",
    "write_table",
]
