"""What is minimised: GECO and the paper's baselines, behind one interface."""

from bridle.objectives.base import Objective, ObjectiveOutput
from bridle.objectives.constrained import ConstrainedObjective
from bridle.objectives.weighted import ELBO, AnnealedELBO, BetaELBO

__all__ = ["ELBO", "AnnealedELBO", "BetaELBO", "ConstrainedObjective", "Objective", "ObjectiveOutput"]
