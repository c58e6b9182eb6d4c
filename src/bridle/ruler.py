"""Where on a dial each kappa is to be had, by what a trained model was measured to give.

Multipliers move by averages of few images, and between two points of the dial's grid a model's error is what comes out:
it is a few percent off kappa here and there. By how much can be measured once training is over, and then a kappa is
looked up where it is met.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bridle.dial import Dial

__all__ = ["Ruler"]

# Times that each of several coordinates is looked up, with the others where they are. One follows from the others only
# where two constraints measure nearly the same.
_ROUNDS = 4


class Ruler(nn.Module):
    """What kappa a model on a dial reaches at each of many places, and so the place for a kappa.

    The places are the points of the dial's grid and one half-way between any two of them, or three where there is a
    single range; what comes in between is taken to be linear. A kappa's place is the loosest at which it is met; where
    it is met nowhere, the place that comes nearest. Before anything is measured it is that at which the kappa is aimed
    at: :meth:`bridle.Dial.position`.

    Arguments:
        dial: The ranges.

    Example:
        >>> ruler = Ruler(Dial({"re": (0.1, 0.4)}, points=2, margin=0))
        >>> ruler.dial.kappas(ruler.places())["re"]
        tensor([0.1000, 0.1414, 0.2000, 0.2828, 0.4000])
        >>> ruler.read(re=torch.tensor([0.1, 0.1414, 0.21, 0.2828, 0.4]))  # one error is 5% too high
        >>> place = ruler.place({"re": 0.2})
        >>> round(ruler.dial.kappas(place)["re"].item(), 4)      # so something tighter has to be aimed at
        0.1916
    """

    off: Tensor
    """What a coordinate turned out to be at each place, less what it is there: shape ``(places, ranges)``, in shares of
    the range, above zero where kappa came out greater than it was aimed at."""

    def __init__(self, dial: Dial) -> None:
        super().__init__()
        self.dial = dial
        # Two neighbouring points may have multipliers that differ by ten times, and errors that are then no straight
        # line from one to the other. Over a surface as many would take as long as training.
        self._fine = dial.refined(4 if len(dial.ranges) == 1 else 2)
        self.register_buffer("off", torch.zeros(self._fine.size, len(dial.ranges)))

    def places(self) -> Tensor:
        """Where to measure, shape ``(places, ranges)``."""
        return self._fine.grid()

    @torch.no_grad()
    def read(self, **found: Tensor) -> None:
        """Takes down what was measured.

        Arguments:
            found: For each range by name what the model reaches at the :meth:`places`, in kappa's units, shape
                ``(places,)``.

        Raises:
            ValueError: A range is missing or unknown, or has another number of places; NaN.
        """
        if found.keys() != self.dial.ranges.keys():
            asked, given = ", ".join(self.dial.ranges), ", ".join(found) or "none"
            raise ValueError(f"the ruler needs what was found for each of the dial's ranges ({asked}), got {given}")
        places = self.places().double()
        for i, (name, aimed) in enumerate(zip(self.dial.ranges, places.unbind(dim=1), strict=True)):
            if found[name].shape != aimed.shape:
                shape = tuple(found[name].shape)
                raise ValueError(f"{name!r} needs {len(aimed)} values, one a place, got shape {shape}")
            # Further off than by the whole range is no better known, and a perfect reconstruction is infinitely far.
            reached = self.dial.coordinate(name, found[name].double().cpu()).clamp(-1, 2)
            if bool(reached.isnan().any()):
                raise ValueError(f"what was found of {name!r} must be numbers, got NaN")
            self.off[:, i] = (reached - aimed).to(self.off)

    def forget(self) -> None:
        """Takes back all that was read: a model that is trained further gives something else."""
        self.off.zero_()

    @torch.no_grad()
    def place(self, kappas: Mapping[str, float]) -> Tensor:
        """Where one kappa for each range is met, shape ``(1, ranges)``, on the CPU.

        Raises:
            ValueError: A kappa that is missing, unknown, or outside of its range.
        """
        asked = self.dial.position(kappas).double()
        place, rounds = asked.clone(), 1 if len(kappas) == 1 else _ROUNDS
        for _ in range(rounds):
            for i, name in enumerate(self.dial.ranges):
                reached, target = self._along(place, i), asked[0, i]
                if name in self.dial.similarities:  # the looser, the less
                    place[0, i] = 1 - _loosest(1 - reached.flip(0), 1 - target)
                else:
                    place[0, i] = _loosest(reached, target)
        return place.float()

    def _along(self, place: Tensor, i: int) -> Tensor:
        """What one coordinate turns out to be along itself, the others as they are, shape ``(points,)``."""
        line = place.repeat(self._fine.points, 1)
        line[:, i] = torch.linspace(0, 1, self._fine.points, dtype=place.dtype)
        return line[:, i] + self._fine.shares(line) @ self.off[:, i].to(line)


def _loosest(reached: Tensor, target: Tensor) -> float:
    """The last place in [0, 1] at which ``reached``, given at even distances and linear in between, is at most
    ``target``; that of its least value if there is none."""
    met = (reached <= target).nonzero()
    last = int(met[-1]) if len(met) else int(reached.argmin())
    place = float(last)
    if len(met) and last + 1 < len(reached):
        place += float((target - reached[last]) / (reached[last + 1] - reached[last]))
    return place / (len(reached) - 1)
