"""The baselines: a negative log-likelihood plus a weighted KL, with the weight one, constant, or annealed by hand."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bridle.constraints.base import Reconstruction
from bridle.errors import ConfigError
from bridle.likelihood import GlobalSigma, normal_nll
from bridle.models.base import ImageShape
from bridle.objectives.base import Objective

__all__ = ["ELBO", "AnnealedELBO", "BetaELBO"]


class BetaELBO(Objective):
    """beta-VAE: negative log-likelihood plus ``beta`` times the KL, in nats per image, with one learned sigma.

    Arguments:
        image_shape: Channels, height, width.
        bin: The data's quantisation in pixel units.
        beta: Weight of the KL, above zero.
    """

    name = "beta"

    def __init__(self, image_shape: ImageShape, bin: float, beta: float = 1.0) -> None:
        super().__init__()
        if not 0 < beta < float("inf"):
            raise ConfigError(f"beta must be positive and finite, got {beta:g}")
        self.dimensions = image_shape[0] * image_shape[1] * image_shape[2]
        self.bin = bin
        self.beta = beta
        self.sigma = GlobalSigma(bin)

    def loss(
        self, r: Reconstruction, kl: Tensor, mse: Tensor, held_out: Reconstruction | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        nll = self.dimensions * normal_nll(mse, self.log_sigma(), self.bin)
        return nll + self.kl_weight() * kl, {"nll": nll.detach() / self.dimensions}

    def log_sigma(self) -> Tensor:
        """Logarithm of the standard deviation of the likelihood, pixel units, 0-dimensional."""
        return self.sigma()

    def kl_weight(self) -> Tensor:
        """Weight of the KL at this step, 0-dimensional."""
        return torch.full_like(self.sigma.log_sigma, self.beta)

    def columns(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        sigma = self.log_sigma().detach().exp()
        return {**super().columns(means), "beta": self.kl_weight(), "sigma": sigma}


class ELBO(BetaELBO):
    """The evidence lower bound (equation 1), with one learned sigma: a beta-VAE with beta one."""

    name = "elbo"

    def __init__(self, image_shape: ImageShape, bin: float) -> None:
        super().__init__(image_shape, bin, beta=1.0)


class AnnealedELBO(BetaELBO):
    """The hand-annealed baseline: a schedule from 2.0 down to 0.7 over the first tenth of the run.

    The paper's captions speak of beta in [2.0, 0.7]; the public ports of the work it cites anneal the standard
    deviation of the pixels between the same two numbers. Both are offered.

    Arguments:
        image_shape: Channels, height, width.
        bin: The data's quantisation in pixel units.
        steps: Steps of the whole run.
        reading: ``kl_weight``: the weight of the KL is annealed, sigma is learned. ``pixel_std``: sigma itself is
            annealed, in pixel units, and the KL has weight one (equivalent to a weight of sigma squared, 4.0 to
            0.49, on the squared error).
    """

    name = "annealed"

    def __init__(
        self,
        image_shape: ImageShape,
        bin: float,
        steps: int,
        reading: Literal["kl_weight", "pixel_std"] = "kl_weight",
    ) -> None:
        super().__init__(image_shape, bin)
        self.reading = reading
        self.span = max(1, steps // 10)
        self.register_buffer("steps", torch.zeros(()))
        self.steps: Tensor
        if reading == "pixel_std":
            self.sigma.log_sigma.requires_grad_(False)

    def scheduled(self) -> Tensor:
        """The annealed number at this step: 2.0 falling linearly to 0.7."""
        return 2.0 + (0.7 - 2.0) * (self.steps / self.span).clamp(max=1)

    def log_sigma(self) -> Tensor:
        return self.scheduled().log() if self.reading == "pixel_std" else super().log_sigma()

    def kl_weight(self) -> Tensor:
        return self.scheduled() if self.reading == "kl_weight" else super().kl_weight()

    def step(self, skip: bool | Tensor | None = None) -> None:
        if self.training:
            self.steps.add_(1 if skip is None else 1 - torch.as_tensor(skip, device=self.steps.device).bool().float())
