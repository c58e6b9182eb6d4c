"""Parsers for the commands, whose errors are one line that names what exists, nearest first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from bridle.errors import ConfigError

if TYPE_CHECKING:
    from bridle.models import LatentModel

__all__ = [
    "add_best",
    "add_kappa",
    "kappa_from",
    "make_parser",
    "nearest_first",
    "parse",
    "refuse_conditional",
    "values_of",
]


def make_parser(command: str, description: str) -> ArgumentParser:
    """A parser whose errors can be caught."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(prog=f"bridle {command}", description=description, exit_on_error=False)


def parse(parser: ArgumentParser, arguments: Sequence[str], classes: dict[str, type] | None = None) -> Namespace:
    """Parses a command's arguments.

    Arguments:
        parser: From :func:`make_parser`.
        arguments: The command line after the command.
        classes: For each option that takes a class, the base of what it may be.

    Raises:
        ConfigError: The first argument that is wrong, in one line.
    """
    classes = classes or {}
    for option, base in classes.items():
        for given in values_of(f"--{option}", arguments):
            known = [c.__name__ for c in _concrete_subclasses(base)]
            if "." not in given and given not in known:
                raise ConfigError(f"unknown {option} {given!r}: there are {nearest_first(given, known)}")
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise ConfigError(_one_line(parser, str(error), classes)) from None


def add_best(parser: ArgumentParser) -> None:
    """The option of the commands that use a run's weights."""
    parser.add_argument(
        "--best",
        action="store_true",
        help="Not the latest checkpoint: of those that met every constraint the one with the least KL on validation.",
    )


def add_kappa(parser: ArgumentParser) -> None:
    """The option of the commands that use the model of a run with a dial."""
    parser.add_argument(
        "--kappa",
        type=str | None,
        default=None,
        help="Of a run that was trained for a range of kappas: which one, as 0.08; as re=0.08,pncc=0.4 for several.",
    )


def kappa_from(given: str | None) -> float | dict[str, float] | None:
    """The value of ``--kappa``.

    Raises:
        ConfigError: It is neither a number nor numbers by name.

    Example:
        >>> kappa_from("0.08"), kappa_from("re=0.08,pncc=0.4")
        (0.08, {'re': 0.08, 'pncc': 0.4})
    """
    if given is None:
        return None
    try:
        if "=" not in given:
            return float(given)
        pairs = [part.split("=") for part in given.split(",")]
        return {name.strip(): float(kappa) for name, kappa in pairs}
    except ValueError:
        raise ConfigError(f"--kappa: expected a number, or re=0.08,pncc=0.4 for several, got {given!r}") from None


def refuse_conditional(model: LatentModel, run: str) -> None:
    """Raises ConfigError for a model that needs contexts, which image files alone do not give."""
    if model.context_shape is not None:
        raise ConfigError(f"{run} is conditional and needs contexts: use bridle.load({run!r}) in Python")


def nearest_first(name: str, known: Iterable[str]) -> str:
    """What exists, joined by commas, with what resembles ``name`` at the front.

    Example:
        >>> nearest_first("trian", ["evaluate", "train"])
        'train, evaluate'
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=len(known), cutoff=0.5)
    return ", ".join([*near, *(k for k in known if k not in near)])


def values_of(option: str, arguments: Sequence[str]) -> list[str]:
    """What is given for an option on a command line, in both its forms, from the first to the last.

    Example:
        >>> values_of("--seed", ["--seed=1", "--steps", "5", "--seed", "2"])
        ['1', '2']
    """
    return [
        after if given == option else given.partition("=")[2]
        for given, after in pairwise([*arguments, ""])
        if given == option or given.startswith(f"{option}=")
    ]


def _concrete_subclasses(base: type) -> list[type]:
    found: list[type] = []
    subclasses: list[type] = base.__subclasses__()
    for subclass in subclasses:
        found += [subclass, *_concrete_subclasses(subclass)]
    return [c for c in found if not getattr(c, "__abstractmethods__", None)]


def _one_line(parser: ArgumentParser, message: str, classes: dict[str, type]) -> str:
    if match := re.search(r"unrecognized arguments: (\S+)", message, re.IGNORECASE):
        return _unknown_option(parser, match[1].partition("=")[0])
    keys = re.findall(r'[Pp]arser key "([^"]+)"', message)
    key = ".".join(keys)
    if match := re.search(r"Option '([^']+)' is not accepted|Key '([^']+)' is not expected", message):
        where = keys[0] if keys else "the configuration"
        return f"{where} has no setting {match[1] or match[2]!r}{_settings_of(message)}"
    if len(keys) == 1 and keys[0] in classes and "import path" in message.lower():
        given = re.search(r"path but (\S+)", message)
        known = [c.__name__ for c in _concrete_subclasses(classes[keys[0]])]
        name = given[1] if given else ""
        return (
            f"{keys[0]} {name!r} is no {classes[keys[0]].__name__}: give one of {nearest_first(name, known)}, "
            "or the import path of your own"
        )
    if match := re.search(r"Literal\[(.*?)\]+\. Got value: (.*)", message):
        known = [name.strip(" '") for name in match[1].split(",")]
        return f"{key}: {match[2].strip()!r} is unknown: there are {nearest_first(match[2].strip(), known)}"
    if match := re.search(r"Got value: (.*)|Given value: (.*)", message):
        kind = re.search(r"Expected an? (?:<class ')?(\w+)", message)
        wanted = {"float": "a number", "int": "a whole number", "bool": "true or false"}.get(
            kind[1] if kind else "", "another value"
        )
        return f"{key}: expected {wanted}, got {(match[1] or match[2]).strip()!r}"
    return " ".join(re.sub(r'[Pp]arser key "([^"]+)":', r"\1:", message).split())


def _settings_of(message: str) -> str:
    if not (match := re.search(r"class_path '([^']+)'", message)):
        return ""
    import importlib
    import inspect

    module, _, name = match[1].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    known = [p for p in parameters if p not in ("image_shape", "context_shape")]
    return f": {name} has {', '.join(known)}" if known else f": {name} has none"


def _unknown_option(parser: ArgumentParser, given: str) -> str:
    if not given.startswith("-"):
        return f"unexpected argument {given!r}"
    known = [s for action in parser._actions for s in action.option_strings if s.startswith("--")]
    group = given.partition(".")[0] + "."
    siblings = [s for s in known if s.startswith(group) and not s.endswith(".help")]
    if parser.prog.endswith("--resume"):
        return f"unknown option {given}: a resumed run keeps its settings, only --steps may be given"
    if siblings:
        return f"unknown option {given}: there are {nearest_first(given, siblings)}"
    near = difflib.get_close_matches(given, known, n=3, cutoff=0.5)
    return f"unknown option {given}" + (f": did you mean {' or '.join(near)}?" if near else ": see --help")
