"""A run that begins with what another one learned."""

from __future__ import annotations

from pathlib import Path

from bridle.errors import CheckpointError, ConfigError
from bridle.models.dialled import Dialled
from bridle.objectives import ConstrainedObjective, DialledObjective
from bridle.training.load import chosen_kappas, load_run
from bridle.training.system import System

__all__ = ["begin_with"]


def begin_with(system: System, run: str | Path) -> None:
    """Takes over the weights of another run's model; and its multipliers, where both have the same constraints. Of a
    run with a dial it is those at the kappas that the new one states.

    Arguments:
        system: A new run's, without a dial.
        run: The other run's folder.

    Raises:
        CheckpointError: The folder holds no run.
        ConfigError: Its model is another one; its dial does not reach a kappa of the new run.
    """
    try:
        other = load_run(run).system
    except CheckpointError as error:
        raise ConfigError(f"init: {error}") from None
    kappas = None
    if isinstance(other.model, Dialled):
        stated = {stand.term.name: stand.term.kappa for stand in system.objective.stands()}
        wanted = {name: kappa for name, kappa in stated.items() if name in other.model.dial.ranges}
        kappas = chosen_kappas(run, other.model, wanted)
    model = other.at(kappas)[0]
    try:
        system.model.load_state_dict(model.state_dict())
    except RuntimeError:
        raise ConfigError(
            f"init: the model of {run} has other weights: leave out --model and --data, so that they are that run's"
        ) from None
    if isinstance(other.objective, DialledObjective):
        assert kappas is not None and isinstance(other.model, Dialled)
        multipliers = other.objective.geco.multipliers_at(other.model.ruler.place(kappas))
    elif isinstance(other.objective, ConstrainedObjective):
        multipliers = other.objective.geco.multipliers()
    else:
        return
    if isinstance(system.objective, ConstrainedObjective):
        state = system.objective.geco.state_dict()
        for stand in system.objective.stands():
            # A multiplier of the absolute constraint is another number: the paper's rule begins as it is printed.
            key, theirs = f"{stand.term.name}.log_multiplier", multipliers.get(stand.term.name)
            if stand.scale == "relative" and theirs is not None and theirs.numel() == state[key].numel():
                state[key] = theirs.log().reshape(-1)
        system.objective.geco.load_state_dict(state)
