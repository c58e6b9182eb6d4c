"""What is minimised: GECO and the paper's baselines, behind one interface."""

from bridle.objectives.base import Objective, ObjectiveOutput, Stand
from bridle.objectives.constrained import ConstrainedObjective
from bridle.objectives.dialled import DialledObjective
from bridle.objectives.lagrangian import LagrangianObjective
from bridle.objectives.weighted import ELBO, AnnealedELBO, BetaELBO

__all__ = [
    "ELBO",
    "AnnealedELBO",
    "BetaELBO",
    "ConstrainedObjective",
    "DialledObjective",
    "LagrangianObjective",
    "Objective",
    "ObjectiveOutput",
    "Stand",
]
