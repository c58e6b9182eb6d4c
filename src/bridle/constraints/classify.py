"""A constraint on what a classifier says of reconstructions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bridle.constraints.base import START, Reconstruction, Similarity
from bridle.constraints.frozen import Frozen
from bridle.errors import ConfigError

__all__ = ["CLA"]


class CLA(Similarity):
    r"""Classification (table 1): the mean over images of the probability that a frozen classifier gives the true class
    of x when it sees :math:`\hat x` is at least :math:`\kappa`, so :math:`\kappa - E[l(x)^T c(\hat x)] \le 0`. The
    paper's table prints the sign the other way round, :math:`l(x)^T c(g(z)) - \kappa`, which would bound the
    probability of the true class from above; a lower bound is meant.

    kappa is a probability, in (0, 1); sensible values lie between 0.5 and 0.99, and not above what the classifier
    gives the data themselves.

    The multiplier is that of ``(1 - cla) / (1 - kappa) - 1``. A relative unit of it costs a code that carries the class
    alone, and is right with probability kappa, (1 - kappa) log(kappa (K - 1) / (1 - kappa)) nats, K the number of
    classes. A code of images can do no better, so the multiplier starts there, and at no less than 0.1. Its price, an
    upper estimate as those of the other constraints, is taken as 32 times that.

    Arguments:
        kappa: The bound.
        network: Any module that takes images ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``. It is frozen.
        image_shape: Channels, height and width of the images.

    Raises:
        ConfigError: The network cannot take such images; data without labels (from :meth:`similarity`).

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> cla = CLA(0.9, network, image_shape=(1, 8, 8))
        >>> x, label = torch.rand(4, 1, 8, 8), torch.tensor([3, 1, 4, 1])
        >>> bool(0 < cla.similarity(Reconstruction(x, x, torch.zeros(4), label)).mean() < 1)
        True
        >>> round(cla.bound((1, 8, 8)).initial, 2)
        0.44
    """

    name = "cla"

    def __init__(self, kappa: float, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
        super().__init__(kappa)
        self.frozen = Frozen(network)
        self.classes = self.frozen.try_out(image_shape).shape[1]

    def similarity(self, r: Reconstruction) -> Tensor:
        if r.label is None:
            raise ConfigError("constraints.cla needs data with labels")
        probabilities = torch.softmax(self.frozen(r.x_hat).float(), dim=1)
        return probabilities.gather(1, r.label.unsqueeze(1)).squeeze(1)

    def price(self, image_shape: tuple[int, int, int]) -> float:
        odds = self.kappa * max(1, self.classes - 1) / (1 - self.kappa)
        return max(0.1, (1 - self.kappa) * math.log(odds)) / START
