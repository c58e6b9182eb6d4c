"""``bridle COMMAND ...``: finds the command, and turns every error that a user can mend into one line."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

# Kept apart from the modules, so that `bridle --help` imports none of them.
COMMANDS = {
    "train": "train a model on images, to the error that you state",
    "sweep": "train a grid of runs, by several processes or on a Ray cluster",
    "evaluate": "measure a run: rate, error, likelihood",
    "sample": "draw images from a trained model",
    "reconstruct": "encode and decode images with a trained model",
    "curve": "make a page to choose kappa by, of a run with a range of kappas",
    "encode": "write the latents of images to a file",
    "classifier": "train a classifier that constraints look through",
    "reproduce": "make the paper's figures and table",
    "report": "make one page of one or several runs",
    "data": "list the data sets, or draw examples of one",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status: 0; 2 for an error that the user can mend; 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"bridle {version('bridle')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from bridle.cli.parsing import nearest_first

        print(f"bridle: unknown command {name!r}: there are {nearest_first(name, COMMANDS)}", file=sys.stderr)
        return 2
    return _run(name, rest)


def _run(name: str, arguments: list[str]) -> int:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that a user's own classes are found by import path
    logging.basicConfig(format="bridle: %(message)s")
    logging.getLogger("bridle").setLevel(logging.INFO)
    from bridle.errors import BridleError, Interrupted

    try:
        importlib.import_module(f"bridle.cli.{name}").run(arguments)
    except BridleError as error:
        print(f"bridle {name}: {error}", file=sys.stderr)
        return 130 if isinstance(error, Interrupted) else 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"bridle {name}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"bridle {name}: interrupted", file=sys.stderr)
        return 130
    return 0


def _help() -> str:
    lines = ["usage: bridle COMMAND ...", "", "Train latent-variable models under constraints a person can read.", ""]
    lines += [f"  {name:<12} {what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", "bridle COMMAND --help shows a command's options."])
