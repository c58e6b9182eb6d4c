"""Compiled steps: a system whose forward and backward pass are translated before the first of them."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import torch

from bridle.data import Batch
from bridle.errors import ConfigError
from bridle.training.system import System

__all__ = ["can_compile", "compile_system", "refuse_without_compiler"]


def compile_system(system: System, batch: Batch) -> None:
    """Compiles what a call of the system does.

    The noise is that which would be drawn uncompiled, so that a run is the same to rounding.

    Arguments:
        system: Changed in place; in training mode from then on.
        batch: One as all of them are, in shape and device.
    """
    torch.compiler.reset()  # torch stops compiling after a few models of one class, earlier runs' among them
    # What is computed once, such as positions on a dial, is no part of the step. In eval mode nothing else is kept.
    system.eval()
    with torch.no_grad():
        system(batch)
    system.train()
    system.compile(dynamic=False, options={"fallback_random": True})


def can_compile() -> bool:
    """Whether the compiler that torch would call and Python's headers are there."""
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = shutil.which(os.environ.get("CXX", default))
    return compiler is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


def refuse_without_compiler() -> None:
    """Raises ConfigError where nothing can be compiled."""
    if not can_compile():
        raise ConfigError("compile needs a C++ compiler and Python's headers: install them, or leave compile out")
