"""VAE + NVP as a latent model: its KL and posterior density against integration, its determinism, its training."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from bridle.errors import ConfigError
from bridle.models.base import HasPosteriorDensity
from bridle.models.nvpvae import NVPVAE

SHAPE = (1, 8, 8)
TINY = {"latents": 4, "width": 4, "hidden": 16, "couplings": 4, "flow_hidden": 16}


def build(
    shape: tuple[int, int, int] = SHAPE,
    context: tuple[int, int, int] | None = None,
    spread: float = 0.3,
    **settings: int,
) -> NVPVAE:
    """A small model whose posterior depends on the image, as it does after some training."""
    torch.manual_seed(0)
    model = NVPVAE(shape, context, **{**TINY, **settings})
    for coupling in model.flow.couplings:
        torch.nn.init.normal_(coupling.rest[-1].weight, std=spread)
        torch.nn.init.normal_(coupling.rest[-1].bias, std=spread)
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (4, 9, 13), (1, 28, 28), (3, 64, 64), (1, 8, 128)])
def test_shapes(shape: tuple[int, int, int]) -> None:
    model = build(shape)
    out = model(torch.rand(3, *shape))
    assert out.x_hat.shape == (3, *shape)
    assert out.kl.shape == (3,)
    assert out.z.shape == (3, 4)
    assert model.sample(5).shape == (5, *shape)


def test_the_posterior_starts_as_the_prior() -> None:
    torch.manual_seed(0)
    model = NVPVAE(SHAPE, **TINY)
    out = model(torch.rand(3, *SHAPE), generator=seeded())
    assert torch.equal(out.kl, torch.zeros(3))
    assert torch.equal(out.z, torch.randn(3, 4, generator=seeded()))


def test_kl_is_unbiased() -> None:
    """In two dimensions KL(q || p) can be integrated on a grid, with no samples at all."""
    model = build(latents=2).double()
    images = torch.rand(2, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        many = images.repeat_interleave(20_000, dim=0)
        kl = model(many, generator=seeded()).kl.view(2, -1)
        z = model.encode(many, generator=seeded(1)).view(2, -1, 2)
        params = model.posterior(images)
        for n in range(2):
            low, high = z[n].min(dim=0).values, z[n].max(dim=0).values
            low, high = low - 0.5 * (high - low), high + 0.5 * (high - low)
            axes = [torch.linspace(a, b, 250, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
            grid = torch.cartesian_prod(*axes)
            cell = torch.stack([axis[1] - axis[0] for axis in axes]).prod()
            log_q = model.log_posterior(grid, params[n])
            log_p = torch.distributions.Normal(0, 1).log_prob(grid).sum(dim=1)
            exact = (log_q.exp() * (log_q - log_p)).sum() * cell
            error = kl[n].std() / math.sqrt(kl.shape[1])
            assert exact > 0.05, "a posterior equal to the prior proves nothing"
            assert (kl[n].mean() - exact).abs() < 4 * error + 2e-3


def test_kl_is_log_q_minus_log_p_at_the_z_that_is_decoded() -> None:
    model = build().double()
    x = torch.rand(6, *SHAPE, dtype=torch.float64)
    out = model(x, generator=seeded())
    log_p = torch.distributions.Normal(0, 1).log_prob(out.z).sum(dim=1)
    assert torch.allclose(out.kl, model.log_posterior(out.z, model.posterior(x)) - log_p, rtol=0, atol=1e-9)
    assert torch.equal(out.x_hat, model.decode(out.z))


def test_log_posterior_broadcasts() -> None:
    model = build().double()
    assert isinstance(model, HasPosteriorDensity)
    x, z = torch.rand(5, *SHAPE, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    params = model.posterior(x)
    loop = torch.stack([torch.cat([model.log_posterior(v[None], model.posterior(i[None])) for i in x]) for v in z])
    assert loop.shape == (7, 5)
    assert torch.allclose(model.log_posterior(z[:, None], params), loop, rtol=1e-10, atol=1e-10)
    assert torch.allclose(model.log_posterior(z[:5], params), loop.diagonal(), rtol=1e-10, atol=1e-10)
    for block in (1, 6, 12, 1000):
        assert torch.allclose(model.log_posterior_pairs(z, params, block), loop, rtol=1e-10, atol=1e-10)


def test_float64_agrees_with_float32() -> None:
    model = build()
    x, z = torch.rand(5, *SHAPE), torch.randn(5, 4)
    single = model.log_posterior(z, model.posterior(x))
    double = copy.deepcopy(model).double()
    exact = double.log_posterior(z.double(), double.posterior(x.double()))
    assert (single.dtype, exact.dtype) == (torch.float32, torch.float64)
    assert torch.allclose(single.double(), exact, rtol=1e-4, atol=1e-3)
    assert {t.dtype for t in double(x.double())} == {torch.float64}
    assert double.sample(2).dtype == torch.float64


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
    assert torch.equal(model.decode(model.encode(x, generator=seeded())), model(x, generator=seeded()).x_hat)


def test_state_dict_round_trip() -> None:
    model, x = build(), torch.rand(3, *SHAPE)
    other = NVPVAE(SHAPE, **TINY)
    other.load_state_dict(model.state_dict())
    for a, b in zip(model(x, generator=seeded()), other(x, generator=seeded()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_short_training_lowers_the_loss(conditional: bool) -> None:
    torch.manual_seed(0)
    model = NVPVAE(SHAPE, SHAPE if conditional else None, **TINY)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x = (torch.rand(64, 1, 1, 1) * torch.linspace(0, 1, 8).view(8, 1)).expand(-1, 1, 8, 8).contiguous()
    context = x.flip(2) if conditional else None
    losses, generator = [], seeded()
    for _ in range(150):
        out = model(x, context, generator)
        loss = (out.x_hat - x).square().flatten(1).sum(dim=1).mean() / (2 * 0.1**2) + out.kl.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_conditional_model_depends_on_its_context() -> None:
    context_shape = (3, 8, 12)
    model = build(context=context_shape)
    x = torch.rand(4, *SHAPE)
    one, two = torch.rand(4, *context_shape), torch.rand(4, *context_shape)
    a, b = model(x, one, seeded()), model(x, two, seeded())
    assert not torch.allclose(a.z, b.z)
    assert torch.equal(a.x_hat, model.decode(a.z, one))
    assert not torch.allclose(a.x_hat, model.decode(a.z, two))
    assert not torch.allclose(model.sample(4, one, seeded()), model.sample(4, two, seeded()))
    assert not torch.allclose(model.posterior(x, one), model.posterior(x, two))


def test_a_missing_or_stray_context_is_refused_in_one_line() -> None:
    x: Tensor = torch.rand(2, *SHAPE)
    with pytest.raises(ConfigError, match="this NVPVAE is conditional: give it context images"):
        build(context=SHAPE)(x)
    with pytest.raises(ConfigError, match="this NVPVAE is unconditional: leave out the context"):
        build()(x, x)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((1, 7, 28), {}, "NVPVAE takes images of 8 to 128 pixels a side, not 7x28"),
        ((1, 28, 129), {}, "NVPVAE takes images of 8 to 128 pixels a side, not 28x129"),
        (SHAPE, {"latents": 1}, "NVPVAE: a flow needs 2 dimensions and 2 couplings or more, got 1 and 8"),
        (SHAPE, {"couplings": 1}, "2 couplings or more, got 64 and 1"),
        (SHAPE, {"flow_hidden": 0}, "must be at least 1"),
        (SHAPE, {"width": 0}, "latents, width and hidden must be at least 1, got 64, 0, 256"),
    ],
)
def test_what_it_refuses(shape: tuple[int, int, int], settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        NVPVAE(shape, **settings)
    assert "\n" not in str(error.value)
