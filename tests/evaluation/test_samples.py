"""The energy distance against its closed forms, and of models whose samples are right, wrong, and few."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from torch import Generator, Tensor

from bridle.data import Digits, TensorSplit
from bridle.errors import ConfigError
from bridle.evaluation import energy_distance, sample_distance
from bridle.models import ConvVAE, LatentModel, ModelOutput


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


class Painter(LatentModel):
    """Reconstructs images as they are but for some brightness; samples are grey, each from 0 to 1 evenly."""

    def __init__(self, brighter: float = 0.0, grey: float = 1.0) -> None:
        super().__init__((1, 8, 8))
        self.brighter = torch.nn.Parameter(torch.tensor(brighter))
        self.grey = grey

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        return ModelOutput(x + self.brighter, x.mean(dim=(1, 2, 3)), x)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return x + self.brighter

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return (self.grey * torch.rand(n, 1, 1, 1, generator=generator)).expand(n, 1, 8, 8)


def grey(n: int) -> TensorSplit:
    """Images of one brightness each, evenly from 0 to 255."""
    images = torch.randint(0, 256, (n, 1, 1, 1), generator=seeded(7), dtype=torch.uint8)
    return TensorSplit(images.expand(n, 1, 8, 8).contiguous())


def test_of_normals_in_one_dimension() -> None:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of N(0, 1) and N(1, 1): |X - Y| is folded normal, of variance 2."""
    n = 2000
    x, y = torch.randn(n, 1, generator=seeded()), 1 + torch.randn(n, 1, generator=seeded(1))

    def folded(mean: float) -> float:
        return 2 / math.sqrt(math.pi) * math.exp(-(mean**2) / 4) + mean * math.erf(mean / 2)

    distance, error = energy_distance(x, y)
    assert abs(distance - 2 * (folded(1) - folded(0))) < 4 * error
    assert 0 < error < 0.1 * distance


def test_it_is_a_sum_over_pairs_of_different_places() -> None:
    x, y = torch.rand(6, 3, 2, 2, generator=seeded()), torch.rand(6, 3, 2, 2, generator=seeded(1))
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]

    def mean(a: Tensor, b: Tensor) -> float:
        return sum((a[i] - b[j]).square().mean().sqrt().item() for i, j in pairs) / len(pairs)

    assert energy_distance(x, y)[0] == pytest.approx(2 * mean(x, y) - mean(x, x) - mean(y, y), abs=1e-6)


def test_it_is_unbiased_and_its_error_is_the_spread_between_draws() -> None:
    """Of one distribution it is 0 in the mean; of two, the standard error is what draws of both differ by."""

    def draw(n: int, seed: int) -> Tensor:
        return torch.rand(n, 4, generator=seeded(seed))

    same = [energy_distance(draw(20, i), draw(20, 1000 + i))[0] for i in range(300)]
    mean = torch.tensor(same).mean().item()
    assert abs(mean) < 4 * torch.tensor(same).std().item() / math.sqrt(300)
    assert min(same) < 0
    ends = [energy_distance(draw(50, i), 0.4 + draw(50, 1000 + i)) for i in range(300)]
    distances, errors = torch.tensor(ends).T
    assert distances.std().item() == pytest.approx(errors.square().mean().sqrt().item(), rel=0.15)


def test_what_is_right_has_no_distance() -> None:
    found = sample_distance(Painter(), grey(500))
    assert found.n == 500
    assert abs(found.prior) < 4 * found.prior_standard_error
    assert abs(found.data) < 4 * found.data_standard_error + 1e-6


def test_samples_and_reconstructions_are_told_apart() -> None:
    found = sample_distance(Painter(grey=0.5), grey(2000))
    # E|X - Y| of uniforms on [0, a] and [0, a] is a / 3; on [0, 1/2] and [0, 1] it is half of that on [0, 1/2] and half
    # of the 1/2 between that and [1/2, 1].
    assert found.prior == pytest.approx(2 * (1 / 6 + 1 / 2) / 2 - 1 / 6 - 1 / 3, abs=4 * found.prior_standard_error)
    assert abs(found.data) < 4 * found.data_standard_error + 1e-6
    found = sample_distance(Painter(brighter=0.1), grey(2000))
    assert found.data > 0.005 > abs(found.prior)


def test_pictures_are_clipped() -> None:
    bright = TensorSplit(torch.full((10, 1, 8, 8), 255, dtype=torch.uint8))
    assert sample_distance(Painter(brighter=5.0), bright).data == 0


def test_of_a_real_model_it_repeats_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model, split = ConvVAE((1, 8, 8), latents=4, width=4, hidden=16).train(), Digits().split("train")
    before = torch.get_rng_state()
    found = sample_distance(model, split)
    assert asdict(found) == asdict(sample_distance(model, split))
    assert found.n == len(split) and model.training
    assert sample_distance(model, split, images=100).n == 100
    assert torch.equal(before, torch.get_rng_state())


def test_a_conditional_model_takes_the_images_contexts() -> None:
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=seeded())
    split = TensorSplit(images, contexts=images.flip(2))
    assert sample_distance(ConvVAE((1, 8, 8), (1, 8, 8), latents=4, width=4, hidden=16), split).n == 30


def test_one_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="the distance of samples needs at least 2 images, got 1"):
        sample_distance(Painter(), grey(1))
