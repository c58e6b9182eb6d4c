"""``python -m benchmarks.speed``; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.speed import constraint, convdraw, flow, loop, marginal, scaling, shares, startup
from benchmarks.speed.timing import device_name
from bridle.files import write_whole

PIECES: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "convdraw": lambda options: convdraw.measure(options.peers),
    "flow": lambda options: flow.measure(options.peers),
    "marginal": lambda options: marginal.measure(),
    "constraint": lambda options: constraint.measure(),
    "loop": lambda options: loop.measure(),
    "startup": lambda options: startup.measure(),
    "scaling": lambda options: scaling.measure(options.out),
    "shares": lambda options: shares.measure(),
}


def main() -> None:
    """Measures the pieces and tells them as a page of Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PIECES, default=list(PIECES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peers", type=Path, help="folder with clones of wohlert, denproc, gqnlib and nflows")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    packages = ("torch", "zuko", "cooper-optim", "mdmm")
    parts = [
        "# Speed",
        f"{device_name()}, {options.threads} threads; Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in packages)
        + f"; {date.today()}.",
        f"`{' '.join(['python -m benchmarks.speed', *sys.argv[1:]])}`: medians and quartiles; what is compared takes "
        "turns, and ratios are formed within a turn.",
    ]
    print("\n\n".join(parts), flush=True)
    for name in options.only:
        made = PIECES[name](options)
        print("\n" + "\n\n".join(made), flush=True)
        parts += made
    if options.out is not None:
        with write_whole(options.out) as file:
            file.write(("\n\n".join(parts) + "\n").encode())


if __name__ == "__main__":
    main()
