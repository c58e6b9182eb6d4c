"""Importance-weighted likelihoods on a linear Gaussian model, whose likelihood is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import MultivariateNormal

from bridle.data import Digits, TensorSplit
from bridle.errors import ConfigError
from bridle.evaluation import importance_weighted
from bridle.likelihood import quantized_normal_nll
from bridle.models import ConvVAE, ImportanceSample, LatentModel, ModelOutput
from bridle.models.gaussian import gaussian_log_prob, standard_normal_log_prob

SIGMA = 0.1


class Linear(LatentModel):
    """z ~ N(0, 1), x ~ N(0.5 + w z, SIGMA^2): the exact posterior, or one wider by ``wide``."""

    def __init__(self, wide: float = 1.0) -> None:
        super().__init__((1, 8, 8))
        self.w = torch.nn.Parameter(0.05 * torch.randn(64, generator=Generator().manual_seed(0)))
        precision = 1 + self.w.detach().square().sum() / SIGMA**2
        self.std = wide * precision.rsqrt()
        self.gain = self.w.detach() / SIGMA**2 / precision

    def images(self, n: int) -> TensorSplit:
        noise = torch.randn(n, 65, generator=Generator().manual_seed(1))
        x = 0.5 + noise[:, :1] * self.w.detach() + SIGMA * noise[:, 1:]
        return TensorSplit((255 * x).round().clamp(0, 255).to(torch.uint8).view(n, 1, 8, 8))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Of images, as densities times the bins; a bin is small against SIGMA."""
        w = self.w.detach().double()
        covariance = torch.outer(w, w) + SIGMA**2 * torch.eye(64, dtype=torch.float64)
        density = MultivariateNormal(torch.full((64,), 0.5, dtype=torch.float64), covariance)
        return density.log_prob(x.double().flatten(1)) - 64 * math.log(255)

    def mean(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.gain[:, None]

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        z = self.encode(x, context, generator)
        return ModelOutput(self.decode(z), torch.zeros(len(x)), z)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return self.mean(x) + self.std * torch.randn(len(x), 1, generator=generator)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (0.5 + z * self.w).view(-1, 1, 8, 8)

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, 1, generator=generator)

    def importance(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> ImportanceSample:
        z = self.encode(x, context, generator)
        log_q = gaussian_log_prob(z, self.mean(x), self.std.log().expand(1, 1))
        return ImportanceSample(self.decode(z), log_q - standard_normal_log_prob(z))


@pytest.mark.parametrize("k", [1, 5])
def test_with_the_exact_posterior_the_bound_is_the_likelihood(k: int) -> None:
    model = Linear()
    split = model.images(300)
    exact = model.log_likelihood(split.batch(torch.arange(300)).x)
    found = importance_weighted(model, split, SIGMA, k)
    assert found.log_likelihood == pytest.approx(exact.mean().item(), abs=0.02)
    assert found.standard_error == pytest.approx(exact.std().item() / math.sqrt(300), rel=0.01)
    assert found.bits_per_dim == pytest.approx(-found.log_likelihood / (64 * math.log(2)))
    assert (found.n, found.k) == (300, k)


def test_with_another_posterior_it_rises_to_the_likelihood() -> None:
    model = Linear(wide=3.0)
    split = model.images(300)
    exact = model.log_likelihood(split.batch(torch.arange(300)).x).mean().item()
    bounds = [importance_weighted(model, split, SIGMA, k).log_likelihood for k in (1, 4, 64)]
    # With one sample the bound is off by KL(q || p(z | x)), whose mean here is (3^2 - 1)/2 - log 3.
    gap = 4 - math.log(3)
    assert exact - bounds[0] == pytest.approx(gap, abs=1.3)
    assert exact - gap < bounds[1] < bounds[2] < exact + 0.05
    assert bounds[2] > exact - 0.1


def test_against_all_weights_at_once() -> None:
    """In float64, and with the noise that was drawn: batches of 256, one sample of each image at a time."""
    torch.manual_seed(0)
    model, split = ConvVAE((1, 8, 8), latents=4, width=4, hidden=16).train(), Digits().split("test")
    found = importance_weighted(model, split, 0.3, k=7, images=100)
    assert model.training
    from bridle.evaluation.passes import SEED, random_points

    x, generator = split.batch(random_points(split, 100)).x, Generator().manual_seed(SEED)
    logs = []
    with torch.no_grad():
        for _ in range(7):
            sample = model.importance(x, generator=generator)
            nll = quantized_normal_nll(x.double(), sample.x_hat.double(), 0.3, split.bin).sum(dim=(1, 2, 3))
            logs.append(-nll - sample.log_ratio)
    bound = torch.stack(logs).logsumexp(dim=0) - math.log(7)
    assert found.n == 100
    assert found.log_likelihood == pytest.approx(bound.mean().item(), rel=1e-5)
    assert found.standard_error == pytest.approx(bound.std().item() / 10, rel=1e-4)


def test_what_it_refuses() -> None:
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        importance_weighted(Linear(), Linear().images(3), SIGMA, 0)

    class Silent(Linear):
        def importance(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> None:
            return None

    with pytest.raises(ConfigError, match=r"Silent does not weigh its samples: it has no importance\(\)"):
        importance_weighted(Silent(), Linear().images(3), SIGMA, 1)
    for n, images in ((1, 1000), (3, 1), (0, 1000)):
        with pytest.raises(ConfigError, match=f"needs at least 2 images, got {min(n, images)}"):
            importance_weighted(Linear(), Linear().images(n), SIGMA, 1, images)
