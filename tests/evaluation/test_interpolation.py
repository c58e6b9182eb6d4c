"""Pictures between pictures."""

from __future__ import annotations

import pytest
import torch

from bridle.errors import ConfigError
from bridle.evaluation import interpolate
from bridle.evaluation.passes import SEED
from bridle.models import ConvDRAW, ConvVAE, LatentModel


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", [ConvVAE, ConvDRAW])
def test_the_ends_are_reconstructions_and_the_rest_lies_on_the_line(kind: type[LatentModel], conditional: bool) -> None:
    torch.manual_seed(0)
    model = kind((1, 8, 8), (1, 8, 8) if conditional else None).train()
    start, end = torch.rand(2, 3, 1, 8, 8)
    context = torch.rand(3, 1, 8, 8) if conditional else None
    before = torch.get_rng_state()
    found = interpolate(model, start, end, steps=5, context=context)
    assert found.shape == (3, 5, 1, 8, 8) and not found.requires_grad
    assert model.training and torch.equal(before, torch.get_rng_state())

    generator = torch.Generator().manual_seed(SEED)
    a, b = (model.eval().encode(x, context, generator) for x in (start, end))
    for i, weight in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        expected = model.decode((1 - weight) * a + weight * b, context)
        assert torch.allclose(found[:, i], expected, atol=1e-5)


def test_fewer_than_two_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs 2 steps or more, got 1"):
        interpolate(ConvVAE((1, 8, 8)), torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8), steps=1)
