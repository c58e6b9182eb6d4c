"""ConvDRAW against a slow and obvious second writing of it, and against what its definition promises."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from bridle.errors import ConfigError
from bridle.models import convdraw
from bridle.models.convdraw import ConvDRAW, Core

SMALL = {"steps": 3, "channels": 6, "latent_channels": 2, "scale": 2}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(shape=(1, 8, 8), context=None, dtype=torch.float64, spread: float = 1.0, **settings) -> ConvDRAW:
    """A small model with fixed weights; ``spread`` scales those of the heads, so that q and p differ visibly."""
    torch.manual_seed(1)
    model = ConvDRAW(shape, context, **{**SMALL, **settings}).to(dtype)
    with torch.no_grad():
        for core in model.cores:
            core.posterior_head.weight.mul_(spread)
            core.prior_head.weight.mul_(spread)
            core.output.weight.mul_(spread)
    return model


def images(n: int = 4, shape=(1, 8, 8), dtype=torch.float64, seed: int = 2) -> Tensor:
    return torch.rand(n, *shape, generator=seeded(seed), dtype=dtype)


def conv(x: Tensor, *layers: torch.nn.Conv2d) -> Tensor:
    """One convolution whose weights are those of the layers side by side."""
    weight = torch.cat([layer.weight for layer in layers], dim=1)
    return F.conv2d(x, weight, layers[-1].bias, padding=weight.shape[-1] // 2)


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    n = cell.shape[1]
    i, f, o, g = gates[:, :n], gates[:, n : 2 * n], gates[:, 2 * n : 3 * n], gates[:, 3 * n :]
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def normal(stats: Tensor) -> Normal:
    n = stats.shape[1] // 2
    return Normal(stats[:, :n], stats[:, n:].clamp(-7, 5).exp())


def reference(
    model: ConvDRAW, x: Tensor, context: Tensor | None, generator: torch.Generator, given: Tensor | None = None
):
    """The recurrence step by step: the canvas an image, nothing computed ahead, everything concatenated.

    Gives x_hat, the KL of every step (B, T), and log q(z|x) and log p(z) of the whole chain (B,): of the latents
    ``given`` (B, T, c, h, w), or else of those that the generator draws.
    """
    side = model.scale
    grid = [math.ceil(s / side) for s in x.shape[2:]]
    padded = torch.zeros(*x.shape[:2], *(g * side for g in grid), dtype=x.dtype)
    padded[:, :, : x.shape[2], : x.shape[3]] = x
    channels = model.cores[0].output.weight.shape[1]
    h_d, c_d, h_e, c_e = (torch.zeros(len(x), channels, *grid, dtype=x.dtype) for _ in range(4))
    extra = []
    if context is not None:
        tower = model.context_tower
        wide = torch.zeros(len(x), context.shape[1], *padded.shape[2:], dtype=x.dtype)
        wide[:, :, : x.shape[2], : x.shape[3]] = context
        extra = [tower.tower(F.pixel_unshuffle(wide, side))]
        state = tower.state(extra[0])
        h_d, c_d = state[:, :channels].tanh(), state[:, channels:]
    canvas = torch.zeros_like(padded)
    kls, log_q, log_p = [], 0.0, 0.0
    for t in range(model.steps):
        core = model.cores[t if len(model.cores) > 1 else 0]
        assert isinstance(core, Core)
        small_x, small_eps, small_canvas = (F.pixel_unshuffle(v, side) for v in (padded, padded - canvas, canvas))
        prior = normal(conv(h_d, core.prior_head))
        gates = conv(torch.cat([small_x, *extra, small_eps, h_d, h_e], 1), core.encoder_constant, core.encoder)
        h_e, c_e = lstm(gates, c_e)
        posterior = normal(conv(h_e, core.posterior_head))
        noise = torch.randn(posterior.mean.shape, generator=generator, dtype=x.dtype)
        z = posterior.mean + posterior.stddev * noise if given is None else given[:, t]
        kls.append(kl_divergence(posterior, prior).sum(dim=(1, 2, 3)))
        log_q = log_q + posterior.log_prob(z).sum(dim=(1, 2, 3))
        log_p = log_p + prior.log_prob(z).sum(dim=(1, 2, 3))
        layers = [core.decoder_constant, core.decoder] if extra else [core.decoder]
        h_d, c_d = lstm(conv(torch.cat([*extra, z, small_canvas, h_d], 1), *layers), c_d)
        canvas = canvas + F.pixel_shuffle(conv(h_d, core.output), side)
    return canvas[:, :, : x.shape[2], : x.shape[3]], torch.stack(kls, dim=1), log_q, log_p


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("context", [None, (2, 9, 8)])
def test_equals_the_recurrence_written_out(shared: bool, context: tuple[int, int, int] | None) -> None:
    """Hoisted convolutions, the canvas on the grid and the stacked KL change nothing, gradients included."""
    model = build((3, 9, 8), context, shared=shared, spread=4.0, kernel=5)
    x = images(shape=(3, 9, 8))
    c = None if context is None else images(shape=context)
    out = model(x, c, seeded())
    x_hat, kls, *_ = reference(model, x, c, seeded())
    torch.testing.assert_close(out.x_hat, x_hat)
    torch.testing.assert_close(out.kl, kls.sum(dim=1))
    parameters = list(model.parameters())
    weights = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    fast = torch.autograd.grad((weights * out.x_hat).sum() + out.kl.sum(), parameters)
    slow = torch.autograd.grad((weights * x_hat).sum() + kls.sum(), parameters)
    torch.testing.assert_close(fast, slow)


def test_the_kl_of_the_chain_is_its_monte_carlo_estimate() -> None:
    model = build(spread=4.0)
    x = images(1).expand(4000, -1, -1, -1)
    with torch.no_grad():
        kl = model(x, generator=seeded(3)).kl
        *_, log_q, log_p = reference(model, x, None, seeded(4))
        log_ratio = log_q - log_p
    error = math.sqrt((log_ratio.var() + kl.var()).item() / len(x))
    assert kl.mean().item() > 50 * error, "too small a KL for the comparison to mean anything"
    assert abs(kl.mean() - log_ratio.mean()).item() < 4 * error


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("context", [None, (2, 9, 8)])
def test_the_posterior_density_is_that_of_the_recurrence_written_out(shared: bool, context) -> None:
    """Of any latents under any image: those of the image itself, of other images, and of the prior."""
    model = build((3, 9, 8), context, shared=shared, spread=4.0, kernel=5)
    x = images(4, (3, 9, 8))
    c = None if context is None else images(4, context)
    with torch.no_grad():
        z = torch.cat([model.encode(x, c, seeded()), model.prior(3, None if c is None else c[:3], seeded(1))])
        params = model.posterior(x, c)
        expected = torch.stack([reference(model, x, c, seeded(), one.expand(4, -1, -1, -1, -1))[2] for one in z])
        assert expected.std() > 10
        flat = z.flatten(1)
        torch.testing.assert_close(model.log_posterior(flat[:, None], params), expected)
        torch.testing.assert_close(model.log_posterior(flat[:4], params), expected[:4].diagonal())
        torch.testing.assert_close(model.log_posterior(flat[0], params[0]), expected[0, 0])
        for block in (1, 6, 12, 1000):
            torch.testing.assert_close(model.log_posterior_pairs(flat, params, block), expected)


@pytest.mark.parametrize("context", [None, (1, 8, 8)])
def test_the_prior_of_a_step_sees_only_the_latents_before_it(monkeypatch: pytest.MonkeyPatch, context) -> None:
    """With every z a leaf, the prior of step t has a gradient in z_s for s < t, and none in x or in later ones."""
    model = build(context=context)
    latents: list[Tensor] = []
    priors: list[Tensor] = []

    def leaf(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
        latents.append((mean + log_std.exp()).detach().requires_grad_())
        return latents[-1]

    monkeypatch.setattr(convdraw, "gaussian_at", leaf)
    model.cores[0].prior_head.register_forward_hook(lambda _, inputs, output: priors.append(output))
    x = images().requires_grad_()
    c = None if context is None else images(seed=5).requires_grad_()
    out = model(x, c)
    assert len(latents) == len(priors) == model.steps
    for t, prior in enumerate(priors):
        targets = [x, *latents] + ([] if c is None else [c])
        by_x, *rest = torch.autograd.grad(prior.sum(), targets, allow_unused=True, retain_graph=True)
        assert by_x is None
        for s in range(model.steps):
            assert (rest[s] is not None and bool(rest[s].any())) == (s < t), (s, t)
        if c is not None:
            assert bool(rest[-1].any()), "the prior must depend on the context, the first one too"
    by_x, first = torch.autograd.grad(out.x_hat.sum(), [x, latents[0]], allow_unused=True)
    assert by_x is None, "x may reach the reconstruction through z only"
    assert bool(first.any())


def test_conditional_samples_follow_the_context() -> None:
    model = build((1, 8, 8), (2, 8, 8))
    one, other = images(3, (2, 8, 8), seed=1), images(3, (2, 8, 8), seed=2)
    first = model.sample(3, one, seeded())
    assert torch.equal(first, model.sample(3, one, seeded()))
    assert not torch.allclose(first, model.sample(3, other, seeded()))
    assert not torch.allclose(model.prior(3, one, seeded())[:, 0], model.prior(3, other, seeded())[:, 0])
    assert not torch.allclose(model.decode(z := model.prior(3, one, seeded()), one), model.decode(z, other))


def test_a_context_that_is_missing_superfluous_or_of_another_number_is_refused() -> None:
    conditional, unconditional = build(context=(2, 8, 8)), build()
    with pytest.raises(ConfigError, match="unconditional"):
        unconditional.sample(3, images(3))
    with pytest.raises(ConfigError, match="need 3 context images, got none"):
        conditional.sample(3)
    with pytest.raises(ConfigError, match="need 3 context images, got 2"):
        conditional(images(3), images(2, (2, 8, 8)))
    with pytest.raises(ConfigError, match="need 3 context images, got none"):
        conditional.posterior(images(3))


@pytest.mark.parametrize(
    ("shape", "context", "scale", "grid"),
    [
        ((1, 8, 8), None, 2, (4, 4)),
        ((1, 8, 8), (2, 8, 8), 4, (2, 2)),
        ((3, 28, 28), (1, 28, 28), 4, (7, 7)),
        ((2, 30, 33), (3, 30, 33), 4, (8, 9)),
        ((5, 9, 13), None, 3, (3, 5)),
        ((3, 64, 64), None, 4, (16, 16)),
        ((1, 128, 128), None, 8, (16, 16)),
        ((1, 8, 128), None, 1, (8, 128)),
    ],
)
def test_shapes(shape, context, scale: int, grid: tuple[int, int]) -> None:
    model = build(shape, context, torch.float32, scale=scale, steps=2)
    x = images(2, shape, torch.float32)
    c = None if context is None else images(2, context, torch.float32)
    out = model(x, c)
    z_shape = (2, 2, SMALL["latent_channels"], *grid)
    assert out.x_hat.shape == x.shape
    assert out.kl.shape == (2,)
    assert bool((out.kl > 0).all())
    assert out.z.shape == model.encode(x, c).shape == model.prior(2, c).shape == z_shape
    assert model.decode(out.z, c).shape == model.sample(2, c).shape == model.reconstruct(x, c).shape == x.shape
    assert out.x_hat.dtype == out.kl.dtype == out.z.dtype == torch.float32


@pytest.mark.parametrize("context", [None, (2, 8, 8)])
@pytest.mark.parametrize("shared", [True, False])
def test_the_ways_through_the_model_agree_under_one_seed(context, shared: bool) -> None:
    model = build(context=context, shared=shared)
    x, c = images(), None if context is None else images(shape=context)
    out = model(x, c, seeded(7))
    z = model.encode(x, c, seeded(7))
    torch.testing.assert_close(z, out.z, rtol=0, atol=0)
    torch.testing.assert_close(model.decode(z, c), out.x_hat)
    torch.testing.assert_close(model.reconstruct(x, c, seeded(7)), out.x_hat, rtol=0, atol=0)
    torch.testing.assert_close(model.decode(model.prior(4, c, seeded(7)), c), model.sample(4, c, seeded(7)))
    assert not torch.equal(model(x, c, seeded(8)).z, out.z)


@pytest.mark.parametrize("shared", [True, False])
def test_fewer_steps_are_the_first_ones_of_the_full_run(shared: bool) -> None:
    model = build(shared=shared)
    x, (z, z_prior) = images(), (model.encode(images(), generator=seeded()), model.prior(4, generator=seeded()))
    for k in range(1, model.steps + 1):
        torch.testing.assert_close(model.reconstruct(x, generator=seeded(), steps=k), model.decode(z, steps=k))
        torch.testing.assert_close(model.decode(z[:, :k]), model.decode(z, steps=k))
        torch.testing.assert_close(model.prior(4, generator=seeded(), steps=k), z_prior[:, :k])
        torch.testing.assert_close(model.sample(4, generator=seeded(), steps=k), model.decode(z_prior, steps=k))
    assert not torch.allclose(model.decode(z, steps=1), model.decode(z))


def test_the_canvas_is_the_sum_of_what_the_steps_wrote() -> None:
    """A latent changes the canvas of its own step and of later ones, never of an earlier one."""
    model = build()
    z = model.prior(2, generator=seeded())
    changed = z.clone()
    changed[:, 1] += 1
    assert torch.equal(model.decode(changed, steps=1), model.decode(z, steps=1))
    assert not torch.allclose(model.decode(changed, steps=2), model.decode(z, steps=2))


@pytest.mark.parametrize("steps", [0, 4, -1])
def test_steps_outside_of_the_model_are_refused(steps: int) -> None:
    model = build()
    with pytest.raises(ConfigError, match="steps must lie in 1 to 3"):
        model.sample(1, steps=steps)
    with pytest.raises(ConfigError, match="steps must lie in 1 to 3"):
        model.decode(model.prior(1), steps=steps)
    with pytest.raises(ConfigError, match="steps must lie in 1 to 3"):
        model.reconstruct(images(), steps=steps)


def test_latents_of_too_many_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps must lie in 1 to 3"):
        build().decode(torch.zeros(1, 5, 2, 4, 4, dtype=torch.float64))


def test_unshared_cores_have_a_set_of_weights_for_every_step() -> None:
    def count(model: ConvDRAW) -> int:
        return sum(p.numel() for p in model.cores.parameters())

    shared, unshared = build(shared=True), build(shared=False)
    assert count(unshared) == shared.steps * count(shared)
    out = unshared(images())
    (out.x_hat.sum() + out.kl.sum()).backward()
    for t, core in enumerate(unshared.cores):
        assert all(p.grad is not None and (t == 0 or p.grad.any()) for p in core.parameters()), t


@pytest.mark.parametrize(
    ("shape", "context", "settings", "message"),
    [
        ((1, 7, 8), None, {}, "8 to 128 pixels a side, not 7x8"),
        ((1, 64, 129), None, {}, "8 to 128 pixels a side, not 64x129"),
        ((1, 28, 28), (1, 28, 27), {}, "context images of the images' size 28x28, not 28x27"),
        ((1, 8, 8), None, {"scale": 5}, "scale must lie in 1 to 4 for 8x8, got 5"),
        ((1, 8, 8), None, {"scale": 0}, "scale must lie in 1 to 4 for 8x8, got 0"),
        ((1, 8, 8), None, {"kernel": 4}, "kernel must be odd and positive, got 4"),
        ((1, 8, 8), None, {"kernel": -1}, "kernel must be odd and positive, got -1"),
        ((1, 8, 8), None, {"steps": 0}, "steps must be at least 1, got 0"),
        ((1, 8, 8), None, {"channels": 0}, "channels must be at least 1, got 0"),
        ((1, 8, 8), None, {"latent_channels": 0}, "latent_channels must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(shape, context, settings, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ConvDRAW(shape, context, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_copies_and_state_dicts_give_the_same_numbers() -> None:
    model = build(context=(2, 8, 8), shared=False)
    x, c = images(), images(shape=(2, 8, 8))
    out = model(x, c, seeded())
    loaded = ConvDRAW((1, 8, 8), (2, 8, 8), **SMALL, shared=False).double()
    loaded.load_state_dict(model.state_dict())
    for other in (copy.deepcopy(model), loaded):
        torch.testing.assert_close(other(x, c, seeded()), out, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 3, 13])
@pytest.mark.parametrize("context", [None, (2, 8, 8)], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "unshared"])
def test_recomputation_changes_nothing(shared: bool, context, steps: int) -> None:
    """Neither by torch's own generator nor by one that is given, whose noise must not be drawn twice."""
    plain = build(context=context, shared=shared, steps=steps, spread=3.0)
    other = build(context=context, shared=shared, steps=steps, spread=3.0, recompute=True)
    x, c = images(), None if context is None else images(shape=context)
    for given in (seeded(5), None):
        outputs = []
        for model in (plain, other):
            torch.manual_seed(5)
            out = model(x, c, None if given is None else seeded(5))
            (out.kl.mean() + 30 * (out.x_hat - x).square().mean()).backward()
            outputs.append(out)
        torch.testing.assert_close(*outputs, rtol=0, atol=0)
    for (name, p), q in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_recomputation_holds_the_root_of_the_steps() -> None:
    """Four times the steps take twice the memory, and without recomputation four times."""
    program = """
import re, torch
from bridle.models import ConvDRAW

def peak(steps, recompute):
    model = ConvDRAW((1, 32, 32), steps=steps, channels=16, latent_channels=1, scale=2, recompute=recompute)
    out = model(torch.rand(16, 1, 32, 32))
    (out.kl.mean() + out.x_hat.square().mean()).backward()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])

torch.set_num_threads(1)
start = peak(1, True)
print(*(peak(*of) - start for of in ((8, True), (32, True), (32, False))))
"""
    # Every tensor in pages of its own, so that the peak is what is held and not how the heap is split up.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", program]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    less, more, plain = map(float, out.split())
    assert 1.5 < more / less < 3, out
    assert plain > 3 * more, out


def test_bfloat16_autocast_gives_float32_and_nearly_the_same() -> None:
    model = build(context=(2, 8, 8), dtype=torch.float32)
    x, c = images(dtype=torch.float32), images(shape=(2, 8, 8), dtype=torch.float32)
    exact = model(x, c, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x, c, seeded())
    assert {t.dtype for t in out} == {torch.float32}
    torch.testing.assert_close(out.x_hat, exact.x_hat, rtol=0.05, atol=0.02)
    torch.testing.assert_close(out.kl, exact.kl, rtol=0.05, atol=0.1)


def test_extreme_inputs_give_finite_numbers_and_gradients() -> None:
    model = build(dtype=torch.float32, spread=1000.0)
    out = model(1e3 * images(dtype=torch.float32))
    (out.x_hat.sum() + out.kl.sum()).backward()
    assert all(bool(torch.isfinite(t).all()) for t in out)
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("context", [None, (1, 8, 8)])
def test_a_short_training_lowers_the_loss(context) -> None:
    model = build(context=context, dtype=torch.float32, channels=16)
    square = torch.zeros(16, 1, 8, 8)
    for i in range(16):
        square[i, :, i % 4 : i % 4 + 4, i // 4 : i // 4 + 4] = 1.0
    c = None if context is None else square.flip(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        out = model(square, c, seeded(step))
        loss = out.kl.mean() + 1000 * (out.x_hat - square).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
