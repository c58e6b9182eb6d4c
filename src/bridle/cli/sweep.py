"""``bridle sweep``"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace

from bridle.cli.parsing import make_parser, parse
from bridle.cli.settings import CLASSES, add_settings, config_from, refuse_rate_range, with_init, with_preset
from bridle.errors import BridleError, ConfigError
from bridle.sweeps import Engine, LocalEngine, RayEngine, RunSpec, collapse, expand, run_sweep
from bridle.sweeps.grid import split_values
from bridle.sweeps.varied import varied_keys
from bridle.training import TrainConfig

__all__ = ["run"]

_OWN = ("config", "out", "engine", "address", "workers", "threads", "together")

Point = dict[str, str]
"""A point of the grid: option to value, as text."""


def run(arguments: list[str]) -> None:
    """Trains a grid of runs in one folder, then writes its table and its page."""
    parser = _sweep_parser()
    if any(a in ("-h", "--help") or a.partition("=")[0].endswith(".help") for a in arguments):
        parse(parser, arguments)
    given = _options(arguments)
    points = _file_points(given.pop("config")) if "config" in given else [{}]
    own = {k: v for point in points for k, v in point.items() if k in _OWN} | {k: given[k] for k in _OWN if k in given}
    namespace = parse(parser, [f"--{option}={value}" for option, value in own.items()])
    if namespace.out is None:
        raise ConfigError("--out is missing: the folder for the sweep, such as --out sweeps/digits")
    engine = _engine(namespace)
    specs = _specs(parser, points, {option: split_values(text) for option, text in given.items() if option not in _OWN})

    from bridle.reports.finish import finish_run
    from bridle.reports.sweep import write_sweep_report

    out = Path(namespace.out)
    result = run_sweep(specs, out, engine=engine, together=namespace.together, finish=finish_run)
    page = write_sweep_report(specs, out, result.failures)
    print(f"table: {out / 'table.csv'}")
    print(f"report: {page}")
    if result.failures:
        raise BridleError(f"{len(result.failures)} of {len(specs)} runs failed: {', '.join(result.failures)}")


def _sweep_parser() -> ArgumentParser:
    parser = make_parser(
        "sweep",
        "Train a grid of runs. Any setting of a run may have several values, parted by commas; the grid is all their "
        "combinations. Kappas and what belongs to them apply to objective geco only, as beta does to objective beta. "
        "The same command again goes on with a sweep that was interrupted.",
    )
    parser.add_argument("--config", type=str, help="A YAML file with any of these settings; a list gives the values.")
    parser.add_argument("--out", type=str | None, default=None, help="The folder for the sweep.")
    parser.add_argument(
        "--engine", type=Literal["local", "ray"], default="local", help="Processes on this machine, or a Ray cluster."
    )
    parser.add_argument(
        "--address", type=str | None, default=None, help="The Ray cluster; one is started on this machine if not given."
    )
    parser.add_argument(
        "--workers",
        type=int | None,
        default=None,
        help="Runs at a time; one for each GPU, or else for each share of cores, if not given.",
    )
    parser.add_argument("--threads", type=int, default=1, help="Threads of a run: its share of the cores.")
    parser.add_argument(
        "--together",
        nargs="?",
        type=bool,
        const=True,
        default=False,
        help="Train runs that differ only in kappa, seed or objective as one model.",
    )
    add_settings(parser)
    return parser


def _engine(namespace: Namespace) -> Engine:
    if namespace.engine == "ray":
        return RayEngine(namespace.address, namespace.workers, namespace.threads)
    if namespace.address is not None:
        raise ConfigError("--address is that of a Ray cluster: give --engine ray")
    return LocalEngine(namespace.workers, namespace.threads)


def _options(arguments: Sequence[str]) -> Point:
    """Option to value on a command line, in both its forms; of one that is given twice, the latter."""
    given: Point = {}
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if not option.startswith("--"):
            raise ConfigError(f"unexpected argument {option!r}: values are parted by commas without spaces")
        if option == "--together":
            value = value or "true"
        elif not equals:
            if not rest:
                raise ConfigError(f"{option} needs a value")
            value = rest.pop(0)
        given[option.removeprefix("--")] = value
    return given


def _file_points(file: str) -> list[Point]:
    """The grid of a YAML file."""
    try:
        settings = yaml.safe_load(Path(file).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {file} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"config: {file} is no YAML mapping of settings")
    for option in _OWN:
        if isinstance(settings.get(option), list):
            raise ConfigError(f"config: {option} is the sweep's, not a run's: it has one value")
    return [_flatten(point) for point in expand(settings)]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Point:
    """Nested settings as the options of a command line."""
    flat: Point = {}
    for key, value in values.items():
        option = f"{prefix}{key}"
        if isinstance(value, Mapping) and option in CLASSES:
            flat[option] = _text(value.get("class_path"))
            flat |= {f"{option}.{name}": _text(v) for name, v in (value.get("init_args") or {}).items()}
        elif isinstance(value, Mapping):
            flat |= _flatten(value, f"{option}.")
        else:
            flat[option] = _text(value)
    return flat


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _specs(parser: ArgumentParser, points: Sequence[Point], axes: Mapping[str, Sequence[str]]) -> list[RunSpec]:
    """The runs of the grid of a file's points and a command line's values, which win."""
    # A class on the command line leaves nothing of the settings that the file has for its own.
    of_classes = tuple(f"{name}." for name in CLASSES if name in axes)
    kept = [
        {option: v for option, v in point.items() if option not in (*_OWN, *axes) and not option.startswith(of_classes)}
        for point in points
    ]
    grid = [point | dict(zip(axes, values, strict=True)) for point in kept for values in product(*axes.values())]
    configs = _configs(parser, grid)
    varied = set(varied_keys(grid))
    return collapse(
        [(c, {o: v for o, v in point.items() if o in varied}) for c, point in zip(configs, grid, strict=True)]
    )


def _configs(parser: ArgumentParser, grid: Sequence[Point]) -> list[TrainConfig]:
    """The settings of each point.

    The parser takes a tenth of a second, so that it does not see every point: it reads each combination of classes and
    their settings once, and each value of any other option once.
    """

    def config(point: Point) -> TrainConfig:
        given = [f"--{option}={value}" for option, value in point.items()]
        refuse_rate_range(given)
        arguments = with_preset(with_init(given))
        return config_from(parse(parser, arguments, CLASSES))

    def of_classes(point: Point) -> Point:
        return {o: v for o, v in point.items() if o.partition(".")[0] in (*CLASSES, "preset", "init")}

    def others(point: Point) -> list[str]:
        return [option for option in point if option not in of_classes(point)]

    values: dict[str, list[str]] = {}
    for point in grid:
        for option in others(point):
            if point[option] not in values.setdefault(option, []):
                values[option].append(point[option])
    read: dict[tuple[str, str], Any] = {}
    # A group and a setting of it, such as --geco and --geco.rate, are read apart: one would change the other.
    for depth in {option.count(".") for option in values}:
        level = {option: texts for option, texts in sorted(values.items()) if option.count(".") == depth}
        for i in range(max(map(len, level.values()))):
            some = {option: texts[i] for option, texts in level.items() if i < len(texts)}
            parsed = config(some)
            read |= {(option, text): _get(parsed, option) for option, text in some.items()}

    bases: dict[str, TrainConfig] = {}
    configs = []
    for point in grid:
        classes = of_classes(point)
        key = json.dumps(classes)
        if key not in bases:
            bases[key] = config(classes)
        settled = bases[key]
        for option in others(point):  # in the order given, of which the last wins
            settled = _with(settled, option, read[option, point[option]])
        configs.append(settled)
    return configs


def _get(config: Any, option: str) -> Any:
    for name in option.split("."):
        config = getattr(config, name)
    return config


def _with(config: Any, option: str, value: Any) -> Any:
    """A copy with one setting changed, by its dotted name."""
    name, _, rest = option.partition(".")
    return replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})
