"""Active units and the KL of each latent, where the posterior is known and where it is sampled."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from bridle.data import TensorSplit
from bridle.errors import ConfigError
from bridle.evaluation import measure_latents, measure_split
from bridle.models import NVPVAE, ConvDRAW, ConvVAE, LatentGaussians, LatentModel, ModelOutput

SCALES = (1.0, 0.3, 0.0)
"""Of three latents: their means' standard deviation over images. The last is not used."""


class Known(LatentModel):
    """z = scale * (something of the image) + noise, of a variance that makes the whole 1 at most. ``tells``: whether
    it states its Gaussians; the prior's are then those of the noise, moved and stretched."""

    def __init__(self, tells: bool) -> None:
        super().__init__((1, 8, 8))
        self.scale = torch.nn.Parameter(torch.tensor(SCALES))
        self.tells = tells

    def mean(self, x: Tensor) -> Tensor:
        return self.scale * (x[:, 0, 0, :3] - 0.5) * 12**0.5  # uniform pixels have variance 1/12

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        return ModelOutput(x, x.mean(dim=(1, 2, 3)), self.encode(x, context, generator))

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return self.mean(x) + torch.randn(len(x), 3, generator=generator)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.zeros(len(z), 1, 8, 8)

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, 3, generator=generator)

    def latent_gaussians(
        self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None
    ) -> LatentGaussians | None:
        if not self.tells:
            return None
        mean, shift = self.mean(x), x[:, 1, 1, :1] if x.shape[1] > 1 else x[:, 0, 1, :1]
        # Two times as wide and moved with the image: only what the posterior adds to its prior counts.
        log_2 = torch.full_like(mean, 2.0).log()
        return LatentGaussians((shift + 2 * mean, log_2 - 1), (shift.expand_as(mean), log_2))


def noise_images(n: int) -> TensorSplit:
    return TensorSplit(torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=Generator().manual_seed(0)))


def test_the_variance_of_known_means_in_units_of_the_prior() -> None:
    split = noise_images(3000)
    found = measure_latents(Known(tells=True), split)
    means = Known(tells=True).mean(split.batch(torch.arange(3000)).x).double()
    assert found.variance == pytest.approx(means.var(dim=0).tolist(), rel=1e-5)
    assert (found.n, found.samples, found.dimensions, found.active) == (3000, 0, 3, 2)
    # KL of N(m, exp(-1)) from N(0, 1), m the mean in the prior's units.
    expected = 0.5 * (means.square().mean(dim=0) + torch.tensor(-2.0).double().exp() - 1) + 1
    assert found.kl == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_variance_of_means_that_are_not_known() -> None:
    """By samples, whose own variance is a hundred thousand times what an unused latent's mean has."""
    found = measure_latents(Known(tells=False), noise_images(3000))
    assert (found.n, found.samples, found.dimensions, found.active, found.kl) == (2000, 16, 3, 2, None)
    # The standard error of a variance v of means, each of them known to 1/16: sqrt(2/n) (v + 1/16), about.
    for value, scale in zip(found.variance, SCALES, strict=True):
        assert abs(value - scale**2) < 4 * (2 / 2000) ** 0.5 * (scale**2 + 1 / 16)
    assert abs(found.variance[2]) < 0.01


def drawing(shape: tuple[int, int, int] = (1, 8, 8)) -> ConvDRAW:
    """Two steps, the second of which depends on what was drawn in the first."""
    torch.manual_seed(0)
    model = ConvDRAW(shape, steps=2, channels=8, latent_channels=2, scale=4)
    for core in model.cores:
        torch.nn.init.normal_(core.posterior_head.weight, std=0.5)
        torch.nn.init.normal_(core.prior_head.weight, std=0.5)
    return model


def test_of_equal_images_no_latent_is_active() -> None:
    """Their posteriors' means differ in the later steps, but by the noise of the earlier ones alone."""
    model, split = drawing(), TensorSplit(noise_images(1).images.expand(1000, -1, -1, -1))
    found = measure_latents(model, split)
    assert (found.active, found.dimensions) == (0, 16)
    with torch.no_grad():
        (q_mean, _), (p_mean, p_log_std) = model.latent_gaussians(split.batch(torch.arange(1000)).x)
    noise = ((q_mean - p_mean) / p_log_std.exp()).var(dim=0)
    assert (noise[1] > 0.01).any(), "noise that could not be taken for activity proves nothing"


def test_the_variance_of_means_that_depend_on_earlier_steps() -> None:
    """Against the variance of averages over a hundred draws for each image, which have a hundredth of the noise."""
    model, split, many = drawing(), noise_images(1000), 100
    found = torch.tensor(measure_latents(model, split).variance)
    x, total = split.batch(torch.arange(1000)).x, torch.zeros(1000, *found.shape)
    torch.manual_seed(1)
    with torch.no_grad():
        for _ in range(many):
            (q_mean, _), (p_mean, p_log_std) = model.latent_gaussians(x)
            total += (q_mean - p_mean) / p_log_std.exp()
    expected = (total / many).var(dim=0)
    assert expected[1].max() > 0.01
    assert (found - expected).abs().max() < 0.1 * expected.max()


@pytest.mark.parametrize(
    "model",
    [
        lambda: ConvVAE((1, 8, 8), latents=4, width=4, hidden=16),
        lambda: ConvDRAW((1, 8, 8), steps=2, channels=8, latent_channels=2, scale=4),
    ],
)
def test_the_latents_kl_adds_up_to_the_rate(model) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model, split = model().train(), noise_images(300)  # more than a batch
    found = measure_latents(model, split)
    assert model.training
    each = torch.tensor(found.kl)
    assert each.sum().item() == pytest.approx(measure_split(model, split).kl, rel=1e-5)
    shape = model.encode(split.batch(torch.arange(1)).x).shape[1:]
    assert each.shape == torch.tensor(found.variance).shape == shape
    assert found.n == len(split) and found.dimensions == each.numel()
    assert (each >= 0).all()
    assert measure_latents(model, split) == found


@pytest.mark.parametrize("n", [0, 1])
def test_a_variance_needs_two_images(n: int) -> None:
    with pytest.raises(ConfigError, match=f"needs at least 2 images, got {n}"):
        measure_latents(Known(tells=True), noise_images(n))


def test_an_untrained_flow_uses_no_latent() -> None:
    model = NVPVAE((1, 8, 8), latents=16, width=4, hidden=16, flow_hidden=16)
    class_of_2000 = noise_images(2000)
    found = measure_latents(model, class_of_2000)
    assert (found.active, found.dimensions, found.kl) == (0, 16, None)
