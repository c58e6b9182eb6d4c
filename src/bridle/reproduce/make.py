"""Figures and tables by name: their runs trained, each once, then what they show."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bridle.classifiers import train_and_save
from bridle.errors import ConfigError, DataError
from bridle.reproduce.blocks import CelebASamples, CIFAR10Samples, ColorMNISTSamples, ConstraintBlocks
from bridle.reproduce.exhibit import Exhibit, FinishedRuns, MissingRunError
from bridle.reproduce.figure1 import Trajectory
from bridle.reproduce.figure2 import InformationPlane
from bridle.reproduce.figure4 import EqualError
from bridle.reproduce.page import write_exhibit, write_page
from bridle.reproduce.scales import SCALES, Scale
from bridle.reproduce.sources import source_data
from bridle.reproduce.table2 import MarginalTable
from bridle.sweeps import LocalEngine, RunSpec, run_sweep
from bridle.sweeps.refusals import refuse_misfits
from bridle.training.config import FeatureOptions
from bridle.training.folder import RunFolder

__all__ = ["EXHIBITS", "Reproduced", "reproduce"]

log = logging.getLogger("bridle")

EXHIBITS: dict[str, Exhibit] = {
    e.name: e
    for e in (
        Trajectory(),
        InformationPlane(),
        ConstraintBlocks(),
        EqualError(),
        CelebASamples(),
        ColorMNISTSamples(),
        CIFAR10Samples(),
        MarginalTable(),
    )
}
"""The figures and the table by name, in the paper's order."""


@dataclass(frozen=True)
class Reproduced:
    """``page``: what was made; ``failures``: one line for each run that did not finish, by its name."""

    page: Path
    failures: dict[str, str]


def reproduce(
    names: Sequence[str],
    scale: str,
    out: str | Path,
    *,
    quick: bool = False,
    workers: int | None = None,
    data: Collection[str] | None = None,
    models: Collection[str] | None = None,
    dial: bool = False,
) -> Reproduced:
    """Makes figures and tables of the paper: trains the runs that they need and draws them.

    Each run lives in ``out/runs/NAME``; what is finished there is not trained again, what was interrupted goes on. The
    page ``out/index.html`` holds all figures and tables made in ``out`` so far; each has its ``.png``, ``.csv`` and
    ``.json`` beside it.

    Arguments:
        names: Of :data:`EXHIBITS`, or ``all``.
        scale: ``tiny``, ``small`` or ``paper``.
        out: The folder.
        quick: A few steps a run: shows that everything works, and nothing about the paper.
        workers: Runs trained at a time, see :class:`bridle.sweeps.LocalEngine`.
        data: Only these data sets of the scale, by :attr:`Source.name`.
        models: Only these models, ``ConvDRAW`` or ``NVPVAE``.
        dial: Figure 2 also has a run for the whole range of kappas, and its line over the points of the others.

    Raises:
        ConfigError: No name, or one that does not exist; a folder whose runs have other settings. Nothing is trained
            or written then.
        DataError: None of the data sets are there. A part of them is left out, and the page says so.
        Interrupted: The same call goes on.
    """
    exhibits, engine = _exhibits(names), LocalEngine(workers)
    if scale not in SCALES:
        raise ConfigError(f"unknown scale {scale!r}: there are {', '.join(SCALES)}")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: {out} is a file, not a folder")
    wanted = replace(SCALES[scale].only(data, models), dial=dial)
    wanted = _without_missing(wanted.quickly() if quick else wanted, exhibits)
    possible = [e for e in exhibits if e.runs(wanted)]
    lost = {e: _lost(e, SCALES[scale], wanted) for e in exhibits}
    if not possible:
        raise DataError(f"nothing is left to reproduce: {next(iter(lost.values()))}")

    finished = FinishedRuns(out / "runs")
    specs = _with_classifier(_union(e.runs(wanted) for e in possible), wanted, finished, out / "classifiers")
    failures = run_sweep(specs, finished.folder, engine=engine).failures
    # What failed is not tried again now, but by the next call.
    specs = [spec for spec in specs if spec.name not in failures]
    specs = _union([specs, *(e.later_runs(wanted, finished) for e in possible)])
    failures |= run_sweep(specs, finished.folder, engine=engine).failures if specs else {}

    lines = [f"{e.name} is left out: {lost[e]}." for e in exhibits if e not in possible]
    for exhibit in possible:
        try:
            drawn = exhibit.draw(wanted, finished)
            notes = [f"Left out: {lost[exhibit]}."] if lost[exhibit] else []
            write_exhibit(exhibit, replace(drawn, notes=[*drawn.notes, *notes]), out, quick)
        except MissingRunError as error:
            lines.append(f"{exhibit.name} is left out: {error}.")
    lines += [f"{name} failed: {message}" for name, message in failures.items()]
    return Reproduced(write_page(list(EXHIBITS), out, lines), failures)


def _exhibits(names: Sequence[str]) -> list[Exhibit]:
    if not names:
        raise ConfigError(f"name at least one figure or table: there are {', '.join(EXHIBITS)}, all")
    for name in names:
        if name != "all" and name not in EXHIBITS:
            raise ConfigError(f"unknown figure or table {name!r}: there are {', '.join(EXHIBITS)}, all")
    return [e for e in EXHIBITS.values() if "all" in names or e.name in names]


def _without_missing(scale: Scale, exhibits: Sequence[Exhibit]) -> Scale:
    """The scale without the data sets, of those that are needed, whose files are not there."""
    needed = [spec.config.data for e in exhibits for spec in e.runs(scale)]
    missing = {}
    for source in scale.sources():
        if source.spec in needed:
            try:
                source_data(source).split("test")
            except DataError as error:
                log.warning("%s is left out: %s", source.name, error)
                missing[source.name] = str(error)
    return scale.without(missing)


def _lost(exhibit: Exhibit, full: Scale, left: Scale) -> str:
    """What a figure lacks of the full scale, and why; empty if nothing."""
    needed = [spec.config for spec in exhibit.runs(full)]
    data = [
        f"{source.name} ({left.left_out[source.name]})"
        for source in full.sources()
        if source.name in left.left_out and source.spec in [config.data for config in needed]
    ]
    models = dict.fromkeys(c.model.class_path.rpartition(".")[2] for c in needed)
    return "; ".join([*data, *(f"{model} (not asked for)" for model in models if model not in left.models)])


def _union(lists: Iterable[Sequence[RunSpec]]) -> list[RunSpec]:
    return list({spec.name: spec for specs in lists for spec in specs}.values())


def _with_classifier(specs: Sequence[RunSpec], scale: Scale, finished: FinishedRuns, folder: Path) -> list[RunSpec]:
    """The runs, those under FRE with the classifier that they look through: one of the data that stand for CIFAR-10, as
    in the paper, trained now unless it is there.

    All runs are looked at before, so that none is refused after the classifier's training. The folder of a run that
    has begun may have been moved with the classifier's; then it is told where that is now.

    Raises:
        BridleError: A run that cannot be trained as stated, or whose folder holds another one.
    """
    recorded = {
        s.name: _as_recorded(s, finished) for s in specs if _looks(s) and _folder(s, finished).config_file.exists()
    }
    same = {s.name for s in recorded.values() if not _folder(s, finished).holds_another(s.config)}
    refuse_misfits([s for s in specs if s.name not in same], finished.folder)
    if scale.cifar10 is None or not any(_looks(s) and not finished.has(s) for s in specs):
        return [recorded.get(s.name, s) for s in specs]
    folder = folder / scale.cifar10.name
    info = folder / "classifier.json"
    if not info.is_file() or json.loads(info.read_text())["steps"] != scale.classifier_steps:
        train_and_save(source_data(scale.cifar10), folder, steps=scale.classifier_steps)
    placed = []
    for spec in specs:
        if _looks(spec) and finished.has(spec):
            spec = recorded.get(spec.name, spec)
        elif _looks(spec):
            spec = _looking_through(spec, str(folder))
            if spec.name in recorded:
                _folder(spec, finished).write_config(spec.config)
        placed.append(spec)
    return placed


def _looks(spec: RunSpec) -> bool:
    return "fre" in spec.config.constraints.given()


def _looking_through(spec: RunSpec, classifier: str | None) -> RunSpec:
    return RunSpec(spec.name, replace(spec.config, fre=FeatureOptions(classifier=classifier)))


def _as_recorded(spec: RunSpec, finished: FinishedRuns) -> RunSpec:
    """A run that has begun, with the path of the classifier that its folder names."""
    return _looking_through(spec, _folder(spec, finished).read_config().fre.classifier)


def _folder(spec: RunSpec, finished: FinishedRuns) -> RunFolder:
    return RunFolder(finished.path(spec))
