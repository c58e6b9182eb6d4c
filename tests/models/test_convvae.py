"""ConvVAE: shapes, the exact KL and density against torch.distributions, determinism, contexts."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from bridle.errors import ConfigError
from bridle.models.base import HasPosteriorDensity
from bridle.models.convvae import ConvVAE
from bridle.models.gaussian import gaussian_kl, gaussian_log_prob

SHAPE = (1, 8, 8)
TINY = {"latents": 4, "width": 4, "hidden": 16}


def build(shape: tuple[int, int, int] = SHAPE, context: tuple[int, int, int] | None = None, **settings: int) -> ConvVAE:
    """A small model whose posterior is away from the prior and differs between images."""
    torch.manual_seed(0)
    model = ConvVAE(shape, context, **{**TINY, **settings})
    torch.nn.init.normal_(model.head.weight, std=1.0)
    torch.nn.init.normal_(model.head.bias, std=0.5)
    return model


def posterior(model: ConvVAE, x: torch.Tensor) -> Independent:
    mean, log_std = model.posterior(x).chunk(2, dim=1)
    return Independent(Normal(mean, log_std.exp()), 1)


def prior(model: ConvVAE) -> Independent:
    return Independent(Normal(torch.zeros(model.latents), torch.ones(model.latents)), 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "sides", [(8, 8), (8, 64), (9, 9), (13, 10), (16, 15), (17, 31), (28, 28), (32, 33), (47, 21), (64, 64), (65, 8)]
)
def test_shapes(channels: int, sides: tuple[int, int]) -> None:
    shape = (channels, *sides)
    model = ConvVAE(shape, **TINY)
    out = model(torch.rand(2, *shape))
    assert (out.x_hat.shape, out.kl.shape, out.z.shape) == ((2, *shape), (2,), (2, 4))
    out.x_hat.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.sample(3).shape == (3, *shape)


def test_every_pixel_can_be_reached() -> None:
    """Cropping and padding leave no row or column of an odd image without a gradient to the latents."""
    model = ConvVAE((1, 13, 9), **TINY)
    z = torch.randn(1, 4)
    jacobian = torch.autograd.functional.jacobian(model.decode, z)
    assert (jacobian.abs().flatten(4).sum(dim=-1) > 0).all()


@pytest.mark.parametrize("sides", [(7, 8), (8, 7), (4, 4), (129, 64), (64, 200)])
def test_sizes_it_refuses(sides: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as error:
        ConvVAE((1, *sides))
    assert str(error.value) == f"ConvVAE takes images of 8 to 128 pixels a side, not {sides[0]}x{sides[1]}"


@pytest.mark.parametrize("setting", ["latents", "width", "hidden"])
def test_settings_it_refuses(setting: str) -> None:
    with pytest.raises(ConfigError, match="latents, width and hidden must be at least 1") as error:
        ConvVAE(SHAPE, **{setting: 0})
    assert "\n" not in str(error.value)


def test_kl_against_torch_and_monte_carlo() -> None:
    model, x = build(), torch.rand(3, *SHAPE)
    with torch.no_grad():
        kl, q, p = model(x).kl, posterior(model, x), prior(model)
        assert (kl > 0.1).all(), "a posterior equal to the prior proves nothing"
        assert torch.allclose(kl, kl_divergence(q, p), rtol=1e-5)
        z = model.encode(x.repeat_interleave(20_000, dim=0), generator=seeded()).view(3, -1, 4).transpose(0, 1)
        samples = q.log_prob(z) - p.log_prob(z)
    error = samples.std(dim=0) / math.sqrt(len(samples))
    assert ((samples.mean(dim=0) - kl).abs() < 4 * error).all()


def test_kl_is_accurate_near_zero_and_far_out() -> None:
    """Near the prior the KL is a difference of nearly equal numbers; far out, the variance is large."""
    for mean, log_std in ((0.0, 1e-4), (1e-3, -1e-3), (3.0, -7.0), (50.0, 5.0)):
        exact = kl_divergence(
            Normal(torch.tensor(mean).double(), torch.tensor(log_std).double().exp()),
            Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double()),
        ).item()
        got = gaussian_kl(torch.full((1, 1), mean), torch.full((1, 1), log_std)).item()
        assert got == pytest.approx(exact, rel=1e-3, abs=1e-10)


def test_log_posterior_against_torch() -> None:
    model = build().double()
    assert isinstance(model, HasPosteriorDensity)
    x, z = torch.rand(5, *SHAPE, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    params, q = model.posterior(x), posterior(model, x)
    table = q.log_prob(z[:, None])
    assert table.shape == (7, 5)
    assert torch.allclose(model.log_posterior(z[:, None], params), table, rtol=1e-12, atol=1e-10)
    assert torch.allclose(model.log_posterior(z[:5], params), q.log_prob(z[:5]), rtol=1e-12, atol=1e-10)
    for block in (1, 3, 10, 1000):
        assert torch.allclose(model.log_posterior_pairs(z, params, block), table, rtol=1e-12, atol=1e-10)


def test_log_density_of_a_narrow_normal_is_accurate_in_float32() -> None:
    mean, log_std = torch.tensor([[0.5]]), torch.tensor([[-7.0]])
    z = mean + 3 * log_std.exp()
    exact = Normal(mean.double(), log_std.double().exp()).log_prob(z.double()).item()
    assert gaussian_log_prob(z, mean, log_std).item() == pytest.approx(exact, abs=1e-3)


def test_all_of_it_in_float64() -> None:
    model = build().double()
    out = model(torch.rand(2, *SHAPE, dtype=torch.float64))
    assert {t.dtype for t in out} == {torch.float64}
    assert model.sample(2).dtype == torch.float64


def test_under_bfloat16_autocast_rate_and_pixels_are_float32() -> None:
    model, x = build(), torch.rand(4, *SHAPE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x, generator=seeded())
    assert {t.dtype for t in out} == {torch.float32}
    assert torch.allclose(out.kl, model(x, generator=seeded()).kl, rtol=0.1, atol=0.1)


def test_a_generator_decides_all_noise() -> None:
    model, x = build(), torch.rand(3, *SHAPE)
    for sample in (
        lambda g: model(x, generator=g).x_hat,
        lambda g: model.encode(x, generator=g),
        lambda g: model.reconstruct(x, generator=g),
        lambda g: model.prior(3, generator=g),
        lambda g: model.sample(3, generator=g),
    ):
        before = torch.random.get_rng_state()
        a, b, c = sample(seeded()), sample(seeded()), sample(seeded(1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert torch.equal(before, torch.random.get_rng_state())


def test_forward_is_encode_and_decode() -> None:
    model, x = build(), torch.rand(3, *SHAPE)
    out = model(x, generator=seeded())
    assert torch.equal(model.encode(x, generator=seeded()), out.z)
    assert torch.equal(model.decode(out.z), out.x_hat)
    assert torch.equal(model.reconstruct(x, generator=seeded()), out.x_hat)
    assert torch.equal(model.sample(3, generator=seeded()), model.decode(model.prior(3, generator=seeded())))


def test_state_dict_round_trip() -> None:
    model, x = build(), torch.rand(3, *SHAPE)
    other = ConvVAE(SHAPE, **TINY)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(x, generator=seeded()).x_hat, other(x, generator=seeded()).x_hat)


def test_the_conditional_model_depends_on_its_context() -> None:
    context_shape = (3, 8, 12)
    model = build(context=context_shape)
    x = torch.rand(4, *SHAPE)
    one, two = torch.rand(4, *context_shape), torch.rand(4, *context_shape)
    a = model(x, one, seeded())
    assert torch.equal(a.x_hat, model.decode(a.z, one))
    assert not torch.allclose(a.x_hat, model.decode(a.z, two))
    assert not torch.allclose(model.posterior(x, one), model.posterior(x, two))
    assert not torch.allclose(model.sample(4, one, seeded()), model.sample(4, two, seeded()))


def test_a_missing_or_stray_context_is_refused_in_one_line() -> None:
    x = torch.rand(2, *SHAPE)
    with pytest.raises(ConfigError, match="this ConvVAE is conditional: give it context images"):
        build(context=SHAPE)(x)
    with pytest.raises(ConfigError, match="this ConvVAE is unconditional: leave out the context"):
        build()(x, x)
