"""Modules that follow a dial: at one kappa they are ordinary modules, with other weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bridle.dial import HASTE, Dial
from bridle.models import NVPVAE, ConvDRAW, ConvVAE, LatentModel
from bridle.models.dialled import Dialled

DIAL = Dial({"re": (0.05, 0.25)}, margin=0)
IMAGES = (1, 8, 8)
MODELS: dict[str, tuple[type[LatentModel], dict[str, Any]]] = {
    "ConvVAE": (ConvVAE, {"latents": 6, "width": 4, "hidden": 16}),
    "ConvDRAW": (ConvDRAW, {"steps": 3, "channels": 6, "latent_channels": 2, "scale": 2}),
    "ConvDRAW, weights of each step": (
        ConvDRAW,
        {"steps": 2, "channels": 6, "latent_channels": 2, "scale": 2, "shared": False},
    ),
    "NVPVAE": (NVPVAE, {"latents": 5, "width": 4, "hidden": 16, "couplings": 3, "flow_hidden": 8}),
}
CASES = pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
NAMES = pytest.mark.parametrize("name", MODELS)


def model_of(name: str, conditional: bool) -> LatentModel:
    torch.manual_seed(0)
    kind, settings = MODELS[name]
    return kind(IMAGES, IMAGES if conditional else None, **settings)


def dialled(name: str, conditional: bool, dial: Dial = DIAL) -> Dialled[LatentModel]:
    """With a condition that does something, as after training."""
    model = Dialled(model_of(name, conditional), dial)
    nn.init.normal_(model.modulation, std=0.05)
    return model


def images(conditional: bool, n: int = 5) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x, context = torch.rand(2, n, *IMAGES, generator=generator)
    return x, context if conditional else None


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@NAMES
@CASES
def test_it_starts_as_the_module_that_it_was_given(name: str, conditional: bool) -> None:
    x, context = images(conditional)
    plain = model_of(name, conditional)(x, context, noise())
    start = Dialled(model_of(name, conditional), DIAL)(DIAL.draw(len(x)), x, context, noise())
    for ours, its in zip(start, plain, strict=True):
        torch.testing.assert_close(ours, its)


@NAMES
@CASES
def test_at_a_kappa_it_is_a_model_of_its_own_class(name: str, conditional: bool) -> None:
    """With the weights folded in, it gives what the dialled one gives there, by every method of the protocol."""
    model, (x, context) = dialled(name, conditional), images(conditional)
    position = DIAL.position({"re": 0.08})
    at = model.at(0.08)
    assert type(at) is type(model.module)
    assert at.state_dict().keys() == model.module.state_dict().keys()
    expected = model(position, x, context, noise())
    for one in (position, position.expand(len(x), 1)):
        for ours, its in zip(model(one, x, context, noise()), at(x, context, noise()), strict=True):
            torch.testing.assert_close(ours, its, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(at.decode(expected.z, context), expected.x_hat, rtol=1e-4, atol=1e-5)
    assert at.sample(5, context, noise()).shape == (5, *IMAGES)
    elsewhere = model.at(0.2)(x, context, noise())
    assert not torch.allclose(elsewhere.x_hat, expected.x_hat, atol=1e-3), "the dial does nothing: this shows nothing"


@NAMES
def test_each_image_has_its_own_place(name: str) -> None:
    """A batch of several places is each place's own result."""
    model, (x, _) = dialled(name, conditional=False), images(conditional=False)
    position = torch.linspace(0, 1, len(x)).unsqueeze(1)
    together = model(position, x, None, noise())
    kappas = DIAL.kappas(position)["re"].clamp(0.05, 0.25).tolist()
    for i, kappa in enumerate(kappas):
        alone = model.at(kappa)(x, None, noise())
        torch.testing.assert_close(together.x_hat[i], alone.x_hat[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.kl[i], alone.kl[i], rtol=1e-4, atol=1e-4)


@NAMES
def test_every_weight_learns(name: str) -> None:
    model, (x, _) = dialled(name, conditional=False), images(conditional=False)
    out = model(DIAL.draw(len(x)), x)
    (out.kl.sum() + (x - out.x_hat).square().sum()).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@CASES
@pytest.mark.parametrize("places", [1, 2, 6], ids=lambda places: f"places={places}")
@pytest.mark.parametrize("name", ["ConvVAE", "NVPVAE", "ConvDRAW"])
def test_a_decoder_learns_from_all_kappas_alike(name: str, places: int, conditional: bool) -> None:
    """Each image's gradient times how loose its kappa is in the decoder, and as it is everywhere else. (ConvDRAW's
    decoder feeds its encoder: there it is as it is.)"""
    x, context = images(conditional, n=6)
    weights = torch.linspace(0.5, 2, 6)
    position = DIAL.even(places)

    def gradients(model: nn.Module, by: Tensor, *place: Tensor) -> dict[str, Tensor]:
        out = model(*place, x, context, noise())
        (weights * (by * (x - out.x_hat).square().flatten(1).sum(dim=1) + out.kl)).sum().backward()
        return {key.removeprefix("module."): p.grad for key, p in model.named_parameters() if p.grad is not None}

    ones = torch.ones(6)
    loose = DIAL.looseness(position).repeat_interleave(6 // places)
    ours = gradients(Dialled(model_of(name, conditional), DIAL), ones, position)
    plain = gradients(model_of(name, conditional), ones)
    weighed = gradients(model_of(name, conditional), loose)
    assert "modulation" in ours and ours.keys() - plain.keys() == {"modulation"}
    for key, its in plain.items():
        balanced = key.startswith("decoder.")
        torch.testing.assert_close(ours[key], weighed[key] if balanced else its, rtol=1e-4, atol=1e-5)
        assert places == 1 or not balanced or not torch.allclose(weighed[key], its, rtol=1e-2)


def test_the_module_by_itself_is_as_it_was() -> None:
    model, (x, _) = dialled("ConvVAE", conditional=False), images(conditional=False)
    plain = model_of("ConvVAE", conditional=False)(x, None, noise())
    model(DIAL.draw(len(x)), x)
    model.at(0.1)
    torch.testing.assert_close(model.module(x, None, noise()), plain)


def test_the_place_is_forgotten_when_a_call_fails() -> None:
    model, (x, _) = dialled("ConvVAE", conditional=False), images(conditional=False)
    plain = model_of("ConvVAE", conditional=False)(x, None, noise())
    with pytest.raises(RuntimeError):
        model(DIAL.draw(3), x)
    torch.testing.assert_close(model.module(x, None, noise()), plain)


def test_what_is_taken_out_is_a_copy() -> None:
    model, (x, _) = dialled("ConvVAE", conditional=False), images(conditional=False)
    model.eval()
    at = model.at(0.1)
    assert not at.training
    before = at(x, None, noise()).x_hat
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert torch.equal(at(x, None, noise()).x_hat, before)


def test_a_copy_follows_its_own_dial() -> None:
    model, (x, _) = dialled("ConvVAE", conditional=False), images(conditional=False)
    position = DIAL.draw(len(x))
    expected = model(position, x, None, noise()).x_hat
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.modulation.zero_()
    torch.testing.assert_close(twin(position, x, None, noise()).x_hat, expected)
    fresh = Dialled(model_of("ConvVAE", conditional=False), DIAL)
    fresh.load_state_dict(twin.state_dict())
    torch.testing.assert_close(fresh(position, x, None, noise()).x_hat, expected)


def test_layers_of_every_kind_fold() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
            self.up = nn.ConvTranspose2d(6, 5, 2, 2, bias=False)
            self.grouped_up = nn.ConvTranspose2d(5, 5, 2, 2, groups=5)  # which is left as it is
            self.norm = nn.GroupNorm(1, 5)
            self.linear = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.norm(self.grouped_up(self.up(self.conv(x).tanh()).tanh())))

    torch.manual_seed(0)
    dial = Dial({"a": (0.1, 1.0), "b": (2.0, 3.0)})
    model = Dialled(Layers(), dial)
    nn.init.normal_(model.modulation, std=0.1)
    x, kappas = torch.rand(2, 4, 3, 3), {"a": 0.5, "b": 2.2}
    torch.testing.assert_close(model(dial.position(kappas), x), model.at(**kappas)(x))
    assert not torch.allclose(model.at(**kappas)(x), model.module(x))


def test_a_linear_layer_of_a_sequence_has_the_place_of_its_image() -> None:
    """As many elements as images: what was scaled along the wrong dimension would not be noticed by its shape."""
    torch.manual_seed(0)
    model = Dialled(nn.Linear(3, 4), DIAL)
    nn.init.normal_(model.modulation, std=0.1)
    position, x = torch.tensor([[0.0], [1.0]]), torch.rand(2, 2, 3)
    expected = torch.stack([model.at(0.05)(x[0]), model.at(0.25)(x[1])])
    torch.testing.assert_close(model(position, x), expected)
    assert not torch.allclose(expected[0], model.at(0.25)(x[0]))


def test_it_compiles_without_a_break() -> None:
    model, (x, _) = dialled("ConvVAE", conditional=False), images(conditional=False)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    position = DIAL.draw(len(x))
    torch.testing.assert_close(compiled(position, x, None, None).kl, model(position, x).kl)


@pytest.mark.parametrize(
    ("dial", "asked", "message"),
    [
        (DIAL, {"kappa": 0.3}, "kappa of re must lie in 0.05 to 0.25, got 0.3"),
        (DIAL, {}, r"a kappa for each of its ranges \(re\), got none"),
        (DIAL, {"kappa": 0.1, "re": 0.1}, "a kappa by name for each of re"),
        (Dial({"re": (0.1, 0.2), "l1": (0.1, 0.2)}), {"kappa": 0.1}, "a kappa by name for each of re, l1"),
    ],
)
def test_a_kappa_that_it_does_not_have_is_refused(dial: Dial, asked: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dialled("ConvVAE", False, dial).at(**asked)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_copy_follows_by_itself(copied: Callable[[nn.Module], nn.Module]) -> None:
    model, (x, _) = dialled("ConvVAE", conditional=False), images(conditional=False, n=6)
    position = DIAL.even(6)
    before = model(position, x, None, noise()).x_hat
    other = copied(model)
    torch.testing.assert_close(other(position, x, None, noise()).x_hat, before, rtol=0, atol=0)
    nn.init.normal_(other.modulation)  # type: ignore[arg-type]
    torch.testing.assert_close(model(position, x, None, noise()).x_hat, before, rtol=0, atol=0)
    assert not torch.allclose(other(position, x, None, noise()).x_hat, before)


def test_a_layer_with_a_forward_of_its_own_keeps_it() -> None:
    layer = nn.Linear(3, 3)
    layer.forward = lambda x: 2 * x  # type: ignore[method-assign, assignment]
    model = Dialled(nn.Sequential(layer), DIAL, {layer: "scale"})
    nn.init.normal_(model.modulation, std=0.1)
    position, x = DIAL.position({"re": 0.1}), torch.rand(1, 3)
    scale = model(position, torch.ones(1, 3)) / 2
    torch.testing.assert_close(model(position, x), 2 * x * scale)
    torch.testing.assert_close(model.module(x), 2 * x)
    torch.testing.assert_close(model.at(0.1)(x), 2 * x)


def test_a_module_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="GroupNorm has no linear layer and no convolution"):
        Dialled(nn.GroupNorm(1, 2), DIAL)


def test_layers_follow_as_they_are_told() -> None:
    """Each in its manner, the others not at all; a layer without a bias has nothing that a shift could be added to."""
    layers = nn.Sequential(*(nn.Linear(3, 3, bias=i != 4) for i in range(5)))
    kinds = dict(zip(list(layers)[1:], ("scale", "shift", "both", "shift"), strict=True))
    model = Dialled(layers, DIAL, kinds)  # type: ignore[arg-type]
    nn.init.normal_(model.modulation, std=0.1)
    at, plain = model.at(0.1), model.module
    ratio = [a.weight / b.weight for a, b in zip(at, plain, strict=True)]
    for rows in ratio:
        torch.testing.assert_close(rows, rows[:, :1].expand(3, 3))
    scaled = [not torch.allclose(rows, torch.ones(3, 3)) for rows in ratio]
    assert scaled == [False, True, False, True, True]
    shift = [a.bias - r[:, 0] * b.bias for a, b, r in zip(at[:4], plain[:4], ratio[:4], strict=True)]
    assert [not torch.allclose(by, torch.zeros(3), atol=1e-6) for by in shift] == [False, False, True, True]
    assert at[4].bias is None
    x = torch.rand(5, 3)
    for position in (DIAL.position({"re": 0.1}), DIAL.position({"re": 0.1}).expand(5, 1)):
        torch.testing.assert_close(model(position, x), at(x))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(4, 3), (4,)),
        (nn.Linear(4, 3, bias=False), (4,)),
        (nn.Linear(4, 3), (4, 4)),
        (nn.Conv1d(4, 4, 3), (4, 5)),
        (nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
        (nn.ConvTranspose2d(4, 3, 2), (4, 4, 4)),
    ],
    ids=lambda value: str(value)[:24],
)
def test_the_inputs_of_a_layer_have_gains_of_their_own(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """What a gain of zero takes away is as if that input were not there: at one end of the dial, not at the other."""
    torch.manual_seed(0)
    model = Dialled(nn.Sequential(layer), DIAL, {layer: "gains"})
    outputs = layer.weight.shape[1 if isinstance(layer, nn.ConvTranspose2d) else 0]  # type: ignore[union-attr]
    assert model.modulation.shape[1] == 4 + (0 if layer.bias is None else outputs)
    x = torch.rand(2, *shape)
    plain = layer(x)
    with torch.no_grad():
        model.modulation[-1, 2] = -1 / (0.5 * HASTE)  # of the last point, the third input's gain
    without = x.clone()
    dim = -1 if isinstance(layer, nn.Linear) else 1
    without.select(dim, 2).zero_()
    tight, loose = DIAL.position({"re": 0.05}), DIAL.position({"re": 0.25})
    torch.testing.assert_close(model(loose, x), layer(without))
    torch.testing.assert_close(model(tight, x), plain)
    torch.testing.assert_close(model(torch.cat((tight, loose)), x), torch.stack((plain[0], layer(without)[1])))
    assert not torch.allclose(layer(without), plain)
    for follow in ("gains", "all"):
        model = Dialled(nn.Sequential(layer), DIAL, {layer: follow})  # type: ignore[dict-item]
        nn.init.normal_(model.modulation, std=0.1)
        torch.testing.assert_close(model(DIAL.position({"re": 0.1}), x), model.at(0.1)(x))


def test_a_position_for_several_images_is_that_of_each() -> None:
    for name in ("ConvVAE", "ConvDRAW"):
        model, (x, _) = dialled(name, conditional=False), images(conditional=False, n=6)
        position = DIAL.even(2)
        shared = model(position, x, None, noise())
        own = model(position.repeat_interleave(3, dim=0), x, None, noise())
        torch.testing.assert_close(shared.x_hat, own.x_hat)


def test_a_layer_of_something_else_is_refused() -> None:
    for other in (nn.Linear(3, 3), nn.GroupNorm(1, 3)):
        with pytest.raises(ValueError, match="must be linear layers and convolutions of the module"):
            Dialled(nn.Sequential(nn.Linear(3, 3)), DIAL, {other: "both"})


def test_layers_that_share_a_weight_are_refused() -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    for layers in (None, {tied[0]: "both"}):  # what is left as it is would be changed with the other
        with pytest.raises(ValueError, match="two layers of Sequential share a weight"):
            Dialled(tied, DIAL, layers)  # type: ignore[arg-type]


def test_a_module_that_recomputes_is_refused() -> None:
    model = ConvDRAW((1, 8, 8), steps=2, channels=4, latent_channels=2, scale=2, recompute=True)
    for module in (model, nn.ModuleList([model])):
        with pytest.raises(ValueError, match=f"a {type(module).__name__} with recompute cannot follow a dial"):
            Dialled(module, DIAL)


def test_what_all_points_share_changes_evenly_along_each_range() -> None:
    """At the middle of both ranges the weight is as it was, and at a corner all of both is added."""
    torch.manual_seed(0)
    dial = Dial({"re": (0.1, 0.4), "l1": (0.1, 0.4)}, margin=0)
    model = Dialled(nn.Linear(3, 4), dial)
    with torch.no_grad():
        model.modulation[:2, :4] = torch.rand(2, 4)
    weight = model.module.weight
    re, l1 = (model.at(**at).weight - weight for at in ({"re": 0.4, "l1": 0.2}, {"re": 0.2, "l1": 0.4}))
    assert bool((re != 0).all()) and not torch.allclose(re, l1)
    torch.testing.assert_close(model.at(re=0.2, l1=0.2).weight, weight)
    torch.testing.assert_close(model.at(re=0.4, l1=0.1).weight, weight + re - l1)
    torch.testing.assert_close(model.at(re=0.2 * 2**0.5, l1=0.2).weight, weight + re / 2)


def test_a_change_is_free_at_each_point_and_linear_between_them() -> None:
    torch.manual_seed(0)
    dial = Dial({"re": (0.1, 0.4)}, points=3, margin=0)
    model = Dialled(nn.Linear(3, 4), dial)
    plain = model.module.weight
    with torch.no_grad():
        model.modulation[-1, :4] = 0.1  # the last point's scales
    at = [model.at(kappa).weight for kappa in (0.1, 0.2, 0.2 * 2**0.5, 0.4)]
    for weight in at[:2]:
        torch.testing.assert_close(weight, plain)
    torch.testing.assert_close(at[2], (plain + at[3]) / 2)
    assert not torch.allclose(at[3], plain)
