"""All measurements together: each is what its own function gives, and what a model cannot give is left out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from bridle.constraints import RE
from bridle.data import Digits
from bridle.errors import ConfigError
from bridle.evaluation import (
    evaluate,
    importance_weighted,
    marginal_kl,
    measure,
    measure_latents,
    prior_holes,
    sample_distance,
)
from bridle.models import ConvDRAW, ConvVAE, ImportanceSample, LatentModel, ModelOutput


def small() -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE((1, 8, 8), latents=4, width=4, hidden=16)


def test_each_part_is_what_its_own_function_gives() -> None:
    model, data, constraints = small(), Digits(), [RE(0.1)]
    found = evaluate(model, data, constraints, importance=3, samples=20)
    assert found.measurements == measure(model, data, constraints)
    assert found.latents == measure_latents(model, data.split("test"))
    assert found.holes == prior_holes(model, data.split("train"))
    assert found.samples == sample_distance(model, data.split("train"))
    assert found.importance == importance_weighted(model, data.split("test"), found.measurements.sigma_opt, 3)
    marginal = marginal_kl(model, data.split("train"), 20)
    assert asdict(found.marginal) | {"seconds": 0} == asdict(marginal) | {"seconds": 0}
    assert found.skipped == {}
    assert json.loads(json.dumps(asdict(found)))["marginal"]["n"] == len(data.split("train"))


def test_quick_and_none() -> None:
    model, data = small(), Digits()
    quick = evaluate(model, data, importance=0, mixture="quick", samples=20)
    assert quick.marginal is not None and "256 of" in quick.marginal.estimator
    assert quick.importance is None
    assert quick.skipped == {"importance-weighted likelihood": "not asked for"}
    assert evaluate(model, data, importance=0, mixture="none").skipped["marginal KL"] == "not asked for"


class Plain(LatentModel):
    """Only what the protocol demands."""

    def __init__(self) -> None:
        super().__init__((1, 8, 8))
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        return ModelOutput(self.weight * x, x.mean(dim=(1, 2, 3)), x)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.weight * z

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return torch.rand(n, 1, 8, 8, generator=generator)


def test_a_plain_model_is_measured_as_far_as_it_tells() -> None:
    found = evaluate(Plain(), Digits())
    assert found.importance is None and found.marginal is None and found.latents.kl is None
    assert found.skipped == {
        "KL of each latent": "the KL of Plain is no sum over latents",
        "importance-weighted likelihood": "Plain does not weigh its samples: it has no importance()",
        "marginal KL": "Plain has no posterior density that can be evaluated at any z",
    }


def test_of_a_chain_there_is_all_of_it() -> None:
    """By the full mixture, where that is no more than a million passes of the encoder; asked for, at any number."""
    torch.manual_seed(0)
    model, data = ConvDRAW((1, 8, 8), steps=1, channels=4, latent_channels=1, scale=4), Digits()
    found = evaluate(model, data, importance=1, samples=2)
    assert found.importance is not None and found.latents.kl is not None and found.skipped == {}
    assert found.marginal is not None and found.marginal.components == len(data.split("train"))


def test_a_mixture_that_takes_long_is_the_quick_one_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    chain, data = ConvDRAW((1, 8, 8), steps=1, channels=4, latent_channels=1, scale=4), Digits()
    n = len(data.split("train"))
    monkeypatch.setattr(sys.modules[evaluate.__module__], "_MOST_ENCODED", 2 * n - 1)

    def components(model: LatentModel, **settings: Any) -> int:
        marginal = evaluate(model, data, importance=0, samples=2, **settings).marginal
        assert marginal is not None
        return marginal.components

    assert components(chain) == 256
    assert components(chain, mixture="full") == n
    assert components(small()) == n
    monkeypatch.setattr(sys.modules[evaluate.__module__], "_MOST_ENCODED", 2 * n)
    assert components(chain) == n


class Failing(ConvVAE):
    """Fails in the middle: no more than one image is weighed, and no density found."""

    def importance(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> ImportanceSample:
        if len(x) > 1:
            raise ConfigError("no weights")
        return super().importance(x, context, generator)

    def log_posterior_pairs(self, z: Tensor, params: Tensor, block: int = 2048) -> Tensor:
        raise ConfigError("no densities")


@pytest.mark.parametrize(("importance", "message"), [(1, "no weights"), (0, "no densities")])
def test_an_error_in_a_measurement_is_not_taken_for_something_left_out(importance: int, message: str) -> None:
    model = Failing((1, 8, 8), latents=4, width=4, hidden=16)
    with pytest.raises(ConfigError, match=message):
        evaluate(model, Digits(), importance=importance, samples=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"importance": -1}, "importance must be 0 or more, got -1"),
        ({"samples": 1}, "the marginal KL needs at least 2 samples, got 1"),
        ({"precision": "fp16"}, "precision: 'fp16' is unknown: there are fp32, bf16"),
        ({"mixture": "half"}, "mixture: 'half' is unknown: there are full, quick, none"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    model = small()
    model.forward = None  # type: ignore[method-assign, assignment]
    with pytest.raises(ConfigError, match=message):
        evaluate(model, Digits(), **settings)


def test_settings_of_what_is_not_asked_for_are_not_looked_at() -> None:
    assert evaluate(small(), Digits(), importance=0, mixture="none", samples=1).marginal is None
