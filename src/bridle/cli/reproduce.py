"""``bridle reproduce``"""

from __future__ import annotations

from typing import Literal

from bridle.cli.parsing import make_parser, parse
from bridle.errors import BridleError, ConfigError
from bridle.reproduce import EXHIBITS, reproduce

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """Makes figures and tables of the paper from runs that it trains, or finds finished."""
    parser = make_parser(
        "reproduce",
        f"Make figures and tables of the paper: {', '.join(EXHIBITS)}, or all. Runs that --out holds are not trained "
        "again; the same command goes on with what was interrupted.",
    )
    parser.add_argument("names", type=str, nargs="+", metavar="NAME", help="Which figures and tables, or all.")
    parser.add_argument(
        "--scale",
        type=Literal["tiny", "small", "paper"],
        default="tiny",
        help="tiny: 8x8 digits, minutes. small: MNIST and CIFAR-10, hours on two cores. paper: the paper's setting.",
    )
    parser.add_argument("--out", type=str | None, default=None, help="The folder for the runs and the page.")
    parser.add_argument("--quick", action="store_true", help="A few steps a run, to see that everything works.")
    parser.add_argument("--workers", type=int | None, default=None, help="Runs at a time; one a core or GPU.")
    parser.add_argument(
        "--data", type=str | None, default=None, help="Only these data sets of the scale, as MNIST,CIFAR-10."
    )
    parser.add_argument("--model", type=str | None, default=None, help="Only these models, as ConvDRAW,NVPVAE.")
    parser.add_argument(
        "--dial", action="store_true", help="Figure 2's line of kappas from one run for their range as well."
    )
    namespace = parse(parser, arguments)
    if namespace.out is None:
        raise ConfigError("--out is missing: the folder for the runs and the page, such as --out reproduction/")
    done = reproduce(
        namespace.names,
        namespace.scale,
        namespace.out,
        quick=namespace.quick,
        workers=namespace.workers,
        data=None if namespace.data is None else namespace.data.split(","),
        models=None if namespace.model is None else namespace.model.split(","),
        dial=namespace.dial,
    )
    print(f"page: {done.page}")
    if done.failures:
        count = f"{len(done.failures)} run{'s' * (len(done.failures) > 1)}"
        raise BridleError(f"{count} failed: {', '.join(done.failures)}")
