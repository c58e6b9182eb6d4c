"""Classifiers, through whose features and verdicts constraints look."""

from bridle.classifiers.network import Classifier
from bridle.classifiers.store import (
    default_classifier,
    load_classifier,
    save_classifier,
    train_and_save,
    untrained_classifier,
)
from bridle.classifiers.training import accuracy, train_classifier

__all__ = [
    "Classifier",
    "accuracy",
    "default_classifier",
    "load_classifier",
    "save_classifier",
    "train_and_save",
    "train_classifier",
    "untrained_classifier",
]
