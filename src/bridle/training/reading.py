"""What a dialled model gives at each place of its dial, measured when its training is over."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from bridle.constraints import ImageConstraint
from bridle.data import Split
from bridle.evaluation import measure_split
from bridle.models.base import LatentModel
from bridle.models.dialled import Dialled

__all__ = ["read_dial"]

# At all places together, and at least so many at each. By 3,300 images an error is known to half a percent, as images
# differ in how well they are reconstructed; a smaller split is measured several times, with another z each time.
_IMAGES, _LEAST = 150_000, 1000


def read_dial(model: Dialled[LatentModel], constraints: Iterable[ImageConstraint], split: Split) -> None:
    """Measures constraints at all places of a model's :class:`bridle.ruler.Ruler`, and hands it what they are: from
    then on a kappa is had where it is met.

    Arguments:
        model: On the device to measure on.
        constraints: Those of the dial's ranges, each at any kappa; others are left alone.
        split: Which images, on the same device; some 3,300 of them where there is one range.
    """
    terms = [term for term in constraints if term.name in model.dial.ranges]
    places = model.ruler.places()
    most = max(_LEAST, _IMAGES // len(places))
    times = max(1, round(most / len(split)))
    found = [measure_split(model.at_position(place.unsqueeze(0)), split, terms, most, times).values for place in places]
    model.ruler.read(**{name: torch.tensor([values[name] for values in found]) for name in model.dial.ranges})
