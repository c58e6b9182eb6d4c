"""summary.json: what a finished run achieved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from bridle.data import DataSet, SplitName
from bridle.evaluation import Measurements, measure, measure_split
from bridle.models.dialled import Dialled
from bridle.training.curve import curve
from bridle.training.system import System

__all__ = ["remarks", "summarize"]


def summarize(
    system: System,
    data: DataSet,
    constrain_on: SplitName,
    step: int,
    seconds: float,
    kappas: Mapping[str, float] | None = None,
    measured: Measurements | None = None,
) -> dict[str, Any]:
    """Measures a model as it is.

    Arguments:
        system: The model and what it was trained by, on the device to measure on.
        data: The data set, whose training and test splits are used whole.
        constrain_on: The split whose error moved the multipliers.
        step: Steps it was trained for.
        seconds: Seconds that took.
        kappas: Where a model on a dial is measured, see :meth:`bridle.training.system.System.at`. Where they are not
            given, it is the middle, and ``dial`` is told beside that: the ``ranges``, and the ``curve`` over them.
        measured: What :func:`bridle.evaluation.measure` gave for this model and its constraints, where it is at hand.

    Returns:
        ``kl`` (nats per image) with ``kl_standard_error`` and ``rmse`` (pixel units) on the test split, ``kl_train``,
        ``kl_train_standard_error`` and ``rmse_train`` on the training split, ``sigma_opt``, ``nll`` (nats per
        dimension) and ``nll_bits`` on 1,000 training points, ``nll_held_out`` and ``bits_per_dim`` on the test split,
        and for each constraint its ``value`` on the training split (``value_held_out`` on the test split) in the units
        of ``kappa`` (of a vector constraint the worst element's, with all of them, on the training split, as
        ``values``), whether it is ``satisfied`` on the split that moved the multipliers (whose value
        ``value_validation`` is, where it is that one), and what :class:`bridle.Judge` says of the training: its
        ``state`` and ``settled_at``, a step or null.
    """
    model, stands = system.at(kappas)
    terms = [stand.term for stand in stands]
    measured = measure(model, data, terms) if measured is None else measured
    constraints: dict[str, dict[str, Any]] = {}
    validation = None
    if stands and constrain_on == "validation":
        device = next(model.parameters()).device
        validation = measure_split(model, data.split("validation").to(device), terms).values
    for term, multiplier, scale, verdict in stands:
        value = measured.train.values[term.name]
        constraints[term.name] = {
            "kappa": term.kappa,
            "value": value,
            "value_held_out": measured.held_out.values[term.name],
            **({} if validation is None else {"value_validation": validation[term.name]}),
            **({"values": vector} if (vector := measured.train.vectors.get(term.name)) else {}),
            **verdict._asdict(),
            "satisfied": term.satisfied(value if validation is None else validation[term.name]),
            "multiplier": multiplier,
            "scale": scale,
        }
    dialled = isinstance(system.model, Dialled) and kappas is None
    return {
        "objective": system.objective.name,
        "kl": measured.held_out.kl,
        "kl_standard_error": measured.held_out.kl_standard_error,
        "rmse": measured.held_out.rmse,
        "kl_train": measured.train.kl,
        "kl_train_standard_error": measured.train.kl_standard_error,
        "rmse_train": measured.train.rmse,
        "sigma_opt": measured.sigma_opt,
        "nll": measured.nll,
        "nll_bits": measured.nll / math.log(2),
        "nll_held_out": measured.nll_held_out,
        "bits_per_dim": measured.bits_per_dim,
        "constraints": constraints,
        "steps": step,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "image_shape": list(model.image_shape),
        "context_shape": None if model.context_shape is None else list(model.context_shape),
        "bin": data.split("train").bin,
        **({"dial": curve(system, data)} if dialled else {}),
    }


def remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    """One line on each constraint that does not do what its kappa asks, and what to try.

    Arguments:
        summary: Of :func:`summarize`.

    Example:
        >>> re = {"kappa": 0.02, "value": 0.0512, "state": "cannot be met"}
        >>> print(*remarks({"constraints": {"re": re}}))
        constraints.re: 0.02 cannot be met: at 0.0512 a greater multiplier changes nothing; a looser kappa, a larger
        model, a lower learning rate or more steps may help
    """
    for name, c in summary["constraints"].items():
        if c["state"] == "cannot be met":
            yield (
                f"constraints.{name}: {c['kappa']:g} cannot be met: at {c['value']:.4g} a greater multiplier changes "
                "nothing; a looser kappa, a larger model, a lower learning rate or more steps may help"
            )
        elif c["state"] == "slack":
            yield (
                f"constraints.{name}: {c['kappa']:g} is slack: it is met by {c['value']:.4g} at no cost in rate; a "
                "tighter kappa would make a difference"
            )
