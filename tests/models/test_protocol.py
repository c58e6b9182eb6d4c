"""What evaluation asks of every model: the weight of a sample, and the Gaussians of the latents."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from bridle.models import NVPVAE, ConvDRAW, ConvVAE, ImageShape, LatentModel, ModelOutput
from bridle.models.gaussian import gaussian_kl, gaussian_log_prob

SHAPE = (1, 8, 8)
Build = Callable[[ImageShape | None], LatentModel]


def conv_vae(context: ImageShape | None) -> LatentModel:
    model = ConvVAE(SHAPE, context, latents=4, width=4, hidden=16)
    torch.nn.init.normal_(model.head.weight, std=1.0)
    return model


def nvp_vae(context: ImageShape | None) -> LatentModel:
    model = NVPVAE(SHAPE, context, latents=4, width=4, hidden=16, couplings=2, flow_hidden=8)
    for coupling in model.flow.couplings:
        torch.nn.init.normal_(coupling.rest[-1].weight, std=0.3)
        torch.nn.init.normal_(coupling.rest[-1].bias, std=0.3)
    return model


def conv_draw(context: ImageShape | None) -> LatentModel:
    model = ConvDRAW(SHAPE, context, steps=3, channels=8, latent_channels=2, scale=4)
    for core in model.cores:
        torch.nn.init.normal_(core.posterior_head.weight, std=0.3)
        torch.nn.init.normal_(core.prior_head.weight, std=0.3)
    return model


def built(build: Build, context: ImageShape | None = None) -> LatentModel:
    torch.manual_seed(0)
    return build(context).double()


def images(n: int, conditional: bool = False) -> tuple[Tensor, Tensor | None]:
    x = torch.rand(2 * n, *SHAPE, dtype=torch.float64, generator=Generator().manual_seed(1))
    return x[:n], x[n:] if conditional else None


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("build", [conv_vae, nvp_vae, conv_draw])
@pytest.mark.parametrize("conditional", [False, True])
def test_the_mean_log_ratio_is_the_kl(build: Build, conditional: bool) -> None:
    model = built(build, SHAPE if conditional else None)
    x, context = images(3, conditional)
    many = 1000
    repeated = x.repeat_interleave(many, dim=0)
    given = None if context is None else context.repeat_interleave(many, dim=0)
    with torch.no_grad():
        sample = model.importance(repeated, given, seeded())
        assert sample is not None
        ratio = sample.log_ratio.view(3, many)
        # Other noise, so that a KL of one sample is independent of the ratios.
        kl = model(repeated, given, seeded(1)).kl.view(3, many)
    assert kl.mean() > 0.05, "a posterior equal to the prior proves nothing"
    error = ((ratio.var(dim=1) + kl.var(dim=1)) / many).sqrt()
    assert ((ratio.mean(dim=1) - kl.mean(dim=1)).abs() < 4 * error).all()


@pytest.mark.parametrize("build", [conv_vae, nvp_vae, conv_draw])
def test_the_weight_belongs_to_the_z_that_was_decoded(build: Build) -> None:
    model, (x, _) = built(build), images(5)
    sample, out = model.importance(x, generator=seeded()), model(x, generator=seeded())
    assert sample is not None
    assert torch.equal(sample.x_hat, out.x_hat)
    if isinstance(model, ConvDRAW):
        known = model.latent_gaussians(x, generator=seeded())
        q, p = ([t.flatten(1) for t in pair] for pair in known)
        expected = gaussian_log_prob(out.z.flatten(1), *q) - gaussian_log_prob(out.z.flatten(1), *p)
    else:
        log_p = torch.distributions.Normal(0, 1).log_prob(out.z).sum(dim=1)
        expected = model.log_posterior(out.z, model.posterior(x)) - log_p
    assert torch.allclose(sample.log_ratio, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("build", [conv_vae, conv_draw])
@pytest.mark.parametrize("conditional", [False, True])
def test_the_kl_of_the_latents_is_the_rate(build: Build, conditional: bool) -> None:
    model = built(build, SHAPE if conditional else None)
    x, context = images(5, conditional)
    known, out = model.latent_gaussians(x, context, seeded()), model(x, context, seeded())
    assert known is not None
    assert {t.shape for pair in known for t in pair} == {out.z.shape}
    assert torch.allclose(gaussian_kl(*known.posterior, known.prior), out.kl, rtol=1e-12)
    # And z is drawn from them.
    (mean, log_std), _ = known
    assert ((out.z - mean) * torch.exp(-log_std)).abs().max() < 6
    assert ((out.z - mean) * torch.exp(-log_std)).std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * mean.numel()))


def test_a_flow_s_kl_is_no_sum_over_latents() -> None:
    assert built(nvp_vae).latent_gaussians(*images(2)) is None


class Plain(LatentModel):
    """Only what the protocol demands."""

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        return ModelOutput(x, x.sum(dim=(1, 2, 3)), x)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return torch.zeros(n, *SHAPE)


def test_a_model_of_the_users_own_need_not_tell() -> None:
    x, _ = images(2)
    assert Plain(SHAPE).importance(x) is None
    assert Plain(SHAPE).latent_gaussians(x) is None
