"""The classifiers that a run keeps in its folder, so that it can be taken up wherever the folder is moved to.

::

    RUN/classifiers/fre/classifier.pt    of each constraint that looks through one, by the constraint's name
"""

from __future__ import annotations

from pathlib import Path

from bridle.classifiers import Classifier, load_classifier, save_classifier
from bridle.constraints import CLA, FRE, LPIPS
from bridle.errors import CheckpointError
from bridle.objectives import LagrangianObjective, Objective
from bridle.training.folder import RunFolder

__all__ = ["keep_classifiers", "kept_classifier"]


def keep_classifiers(objective: Objective, run: Path) -> None:
    """Writes the classifiers of an objective into a run's folder, each whole."""
    if isinstance(objective, LagrangianObjective):
        for term in objective.terms():
            if isinstance(term, FRE | LPIPS | CLA) and isinstance(network := term.frozen.network, Classifier):
                save_classifier(network, RunFolder(run).classifiers / term.name)


def kept_classifier(run: Path, name: str, given: str | None) -> Classifier:
    """The classifier of a run's constraint; another one would be refused with the run's checkpoint.

    Arguments:
        run: The run's folder.
        name: The constraint.
        given: The folder of the classifier that the run's settings name, for a run that keeps none.

    Raises:
        CheckpointError: It is in neither, or damaged.
    """
    kept = RunFolder(run).classifiers / name
    if kept.is_dir():
        return load_classifier(kept)
    if given is not None:
        return load_classifier(given)
    raise CheckpointError(f"{run} lacks the classifier that constraints.{name} looked through: put it into {kept}")
