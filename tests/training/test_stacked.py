"""Stacked models give what each of them gives by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from bridle.data import Batch
from bridle.errors import ConfigError
from bridle.models import NVPVAE, ConvDRAW, ConvVAE
from bridle.models.base import LatentModel, ModelOutput
from bridle.training.stacked import Pass, StackedModel

IMAGE, CONTEXT = (1, 8, 8), (2, 8, 8)
MODELS: dict[str, tuple[type[LatentModel], dict[str, object]]] = {
    "ConvVAE": (ConvVAE, {"latents": 4, "width": 4, "hidden": 16}),
    "NVPVAE": (NVPVAE, {"latents": 4, "width": 4, "hidden": 16, "couplings": 2, "flow_hidden": 8}),
    "ConvDRAW": (ConvDRAW, {"steps": 2, "channels": 4, "latent_channels": 2, "scale": 2}),
    "ConvDRAW, unshared": (ConvDRAW, {"steps": 2, "channels": 4, "latent_channels": 2, "scale": 2, "shared": False}),
}


class Plain(LatentModel):
    """The least that a model of a user may be."""

    def __init__(self, image_shape: tuple[int, int, int], context_shape: None = None) -> None:
        super().__init__(image_shape, context_shape)
        self.weight = nn.Parameter(torch.randn(image_shape))

    def forward(self, x: Tensor, context: Tensor | None = None, generator: object = None) -> ModelOutput:
        z = x * self.weight + torch.randn_like(x)
        return ModelOutput(z, z.square().flatten(1).sum(dim=1), z)

    encode = decode = prior = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def three(family: str, context: tuple[int, int, int] | None) -> list[LatentModel]:
    torch.manual_seed(0)
    model, settings = MODELS[family]
    models = [model(IMAGE, context, **settings) for _ in range(3)]
    for weight in (w for model in models for w in model.parameters()):
        nn.init.normal_(weight, std=0.3)  # a flow starts as the identity: nothing of it would be seen
    return models


def batch_of(context: tuple[int, int, int] | None) -> Batch:
    return Batch(torch.rand(5, *IMAGE), None, None if context is None else torch.rand(5, *context))


@pytest.mark.parametrize("shared", [False, True], ids=["own batches", "one batch"])
@pytest.mark.parametrize("context", [None, CONTEXT], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("family", MODELS)
def test_outputs_and_gradients_are_those_of_each_model(
    family: str, context: tuple[int, int, int] | None, shared: bool
) -> None:
    models = three(family, context)
    batches = [batch_of(context)] * 3 if shared else [batch_of(context) for _ in models]
    seeds = [5, 5, 5] if shared else [5, 6, 7]
    losses, expected = [], []
    for model, batch, seed in zip(models, batches, seeds, strict=True):
        torch.manual_seed(seed)
        out = model(batch.x, batch.context)
        losses.append(out.kl.mean() + 10 * (out.x_hat - batch.x).square().mean())
        expected.append((out.x_hat.detach(), out.kl.detach()))
        losses[-1].backward()
    gradients = [[p.grad for p in model.parameters()] for model in models]
    for model in models:
        model.zero_grad()

    stack = StackedModel(models, batch=5)
    passes = {}
    for batch, seed in zip(batches, seeds, strict=True):
        torch.manual_seed(seed)
        passes[seed] = Pass(batch, stack.noise())
    outputs = stack([passes[seed] for seed in seeds])
    # Summed with weights, so that a gradient that went to another model would show.
    sum((i + 1) * (r.kl.mean() + 10 * (r.x_hat - r.x).square().mean()) for i, r in enumerate(outputs)).backward()  # type: ignore[union-attr]
    for i, (r, (x_hat, kl)) in enumerate(zip(outputs, expected, strict=True)):
        torch.testing.assert_close(r.x_hat, x_hat, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(r.kl, kl, rtol=1e-9, atol=1e-11)
        for weight, gradient in zip(models[i].parameters(), gradients[i], strict=True):
            assert weight.grad is not None and gradient is not None
            torch.testing.assert_close(weight.grad, (i + 1) * gradient, rtol=1e-8, atol=1e-9)


def test_a_model_with_infinite_weights_leaves_the_others_alone() -> None:
    models = three("ConvVAE", None)
    stack = StackedModel(models, batch=5)
    one = Pass(batch_of(None), stack.noise())
    before = [r.x_hat.detach() for r in stack([one] * 3)]
    with torch.no_grad():
        next(models[1].parameters()).fill_(float("nan"))
    outputs = stack([one] * 3)
    sum(r.x_hat.sum() for r in outputs).backward()  # type: ignore[union-attr]
    assert outputs[1].x_hat.isnan().all()
    for i in (0, 2):
        assert torch.equal(outputs[i].x_hat, before[i])
        assert all(w.grad is not None and w.grad.isfinite().all() for w in models[i].parameters())


def test_evaluation_sees_eval_mode_and_leaves_training_mode() -> None:
    class Switched(Plain):
        def forward(self, x: Tensor, context: Tensor | None = None, generator: object = None) -> ModelOutput:
            out = super().forward(x, context)
            return out if self.training else out._replace(x_hat=-out.x_hat)

    models: list[LatentModel] = [Switched(IMAGE), Switched(IMAGE)]
    stack = StackedModel(models, batch=5)
    passes = [Pass(batch_of(None), stack.noise())] * 2
    trained, evaluated = stack(passes), stack.evaluate(passes)
    assert all(torch.equal(a.x_hat, -b.x_hat) for a, b in zip(trained, evaluated, strict=True))
    assert all(model.training for model in models) and not evaluated[0].x_hat.requires_grad


class Buffered(Plain):
    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        self.register_buffer("offset", torch.zeros(()))


class Dropping(Plain):
    def forward(self, x: Tensor, context: Tensor | None = None, generator: object = None) -> ModelOutput:
        return super().forward(nn.functional.dropout(x))


@pytest.mark.parametrize(("model", "reason"), [(Buffered, "Buffered has buffers"), (Dropping, "Dropping cannot be")])
def test_models_that_cannot_be_stacked_are_refused_in_one_line(model: type[Plain], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{reason}.*one by one") as caught:
        StackedModel([model(IMAGE), model(IMAGE)], batch=5)
    assert "\n" not in str(caught.value)
