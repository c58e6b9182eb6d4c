"""Prior holes: a model that has them, one that has none, and the numbers by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import Generator, Tensor

from bridle.data import Digits, TensorSplit
from bridle.evaluation import prior_holes
from bridle.models import ConvVAE, LatentModel, ModelOutput


class Halves(LatentModel):
    """Latents are images. The posterior is sure of dark ones, and off by ``error`` for bright ones, which are what the
    prior makes: half of its mass has seen no image if the data are dark."""

    def __init__(self, error: float) -> None:
        super().__init__((1, 8, 8))
        self.error = torch.nn.Parameter(torch.tensor(error))

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        z = self.encode(x, context, generator)
        return ModelOutput(self.decode(z), x.mean(dim=(1, 2, 3)), z)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        bright = x.mean(dim=(1, 2, 3), keepdim=True) > 0.5
        size = torch.where(bright, self.error, torch.tensor(0.02))
        return x + size * torch.randn(x.shape, generator=generator)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        z = torch.full((n, 1, 8, 8), 0.3)
        z[::2] = 0.7
        return z


def dark(n: int) -> TensorSplit:
    return TensorSplit(torch.full((n, 1, 8, 8), 76, dtype=torch.uint8))


def test_a_prior_with_holes() -> None:
    found = prior_holes(Halves(error=0.1), dark(500))
    assert found.n == 500
    assert found.data == pytest.approx(0.02, rel=0.02)
    assert found.prior == pytest.approx(math.sqrt((0.02**2 + 0.1**2) / 2), rel=0.02)
    assert found.ratio == pytest.approx(found.prior / found.data)


def test_the_standard_error_is_what_the_ratio_differs_by_between_splits() -> None:
    """Halves of an image's pixels are off, so that errors of pictures spread."""

    class Fickle(Halves):
        def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
            size = torch.rand(len(x), 1, 1, 1, generator=generator)
            return x + 0.1 * size * torch.randn(x.shape, generator=generator)

    model = Fickle(error=0.1)
    ends = []
    for n in range(40, 140):  # each number of pictures takes other noise
        found = prior_holes(model, dark(n))
        assert found.ratio is not None and found.ratio_standard_error is not None
        ends.append((found.ratio, found.ratio_standard_error))
    ratios, errors = torch.tensor(ends).T
    assert ratios.mean().item() == pytest.approx(1, abs=0.03)
    assert ratios.std().item() == pytest.approx(errors.square().mean().sqrt().item(), rel=0.3)


def test_several_pictures_of_each_image() -> None:
    found = prior_holes(Halves(error=0.1), dark(50), times=20)
    assert found.n == 1000
    assert found.data == pytest.approx(0.02, rel=0.02)


def test_another_model_may_be_the_judge() -> None:
    """Whoever made the pictures, one that knows only dark ones sees the holes, and one that knows all does not."""
    strict, mild = Halves(error=0.1), Halves(error=0.02)
    ratios = {
        (name, whose): prior_holes(model, dark(500), judge=judge).ratio
        for name, judge in (("strict", strict), ("mild", mild))
        for whose, model in (("strict's", strict), ("mild's", mild))
    }
    assert ratios["strict", "strict's"] == ratios["strict", "mild's"] == prior_holes(strict, dark(500)).ratio
    assert ratios["mild", "strict's"] == pytest.approx(1, abs=0.02)
    assert ratios["strict", "mild's"] > 3


def test_without_holes_the_ratio_is_one() -> None:
    assert prior_holes(Halves(error=0.02), dark(500)).ratio == pytest.approx(1, abs=0.02)


def test_where_nothing_is_lost_there_is_no_ratio() -> None:
    class Constant(Halves):
        def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
            return torch.full((len(z), 1, 8, 8), 0.5)

    found = prior_holes(Constant(error=0.1), dark(20))
    assert (found.prior, found.data, found.ratio, found.ratio_standard_error) == (0, 0, None, None)
    assert "NaN" not in json.dumps(asdict(found))


def test_pictures_are_clipped_before_they_are_encoded() -> None:
    class Blinding(Halves):
        def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
            return z + 7

        def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
            assert x.min() >= 0 and x.max() <= 1
            return x - 7

    assert prior_holes(Blinding(error=0.1), dark(20)).prior == pytest.approx(0, abs=1e-6)


def test_of_a_real_model_it_repeats_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model, split = ConvVAE((1, 8, 8), latents=4, width=4, hidden=16).train(), Digits().split("train")
    before = torch.get_rng_state()
    found = prior_holes(model, split)
    assert found == prior_holes(model, split)
    assert found.n == 1000 and model.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_conditional_model_takes_the_images_contexts() -> None:
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=Generator().manual_seed(0))
    split = TensorSplit(images, contexts=images.flip(2))
    model = ConvVAE((1, 8, 8), (1, 8, 8), latents=4, width=4, hidden=16)
    assert prior_holes(model, split).n == 30
