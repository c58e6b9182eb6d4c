"""The marginal KL where it is known: by quadrature, at both bounds, and from a loop over single densities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from bridle.data import Digits, TensorSplit
from bridle.errors import ConfigError
from bridle.evaluation import marginal_kl
from bridle.evaluation.marginal import Precision, _part, _parts, _uniform
from bridle.models import NVPVAE, ConvDRAW, ConvVAE, HasPosteriorDensity, LatentModel, ModelOutput
from bridle.models.gaussian import gaussian_kl, gaussian_log_prob, gaussian_sample, standard_normal_log_prob


class Tabled(LatentModel, HasPosteriorDensity):
    """Posteriors are looked up: the first two pixels of an image say which it is. ``exact``: its KL, or one sample."""

    def __init__(self, mean: Tensor, log_std: Tensor, exact: bool = True) -> None:
        super().__init__((1, 8, 8))
        self.mean, self.log_std = torch.nn.Parameter(mean.double()), torch.nn.Parameter(log_std.double())
        self.exact = exact
        self.drawn: list[Tensor] = []
        self.asked: list[tuple[int, int]] = []

    def split(self) -> TensorSplit:
        images = torch.zeros(len(self.mean), 1, 8, 8, dtype=torch.uint8)
        index = torch.arange(len(self.mean))
        images[:, 0, 0, 0], images[:, 0, 0, 1] = index // 256, index % 256
        return TensorSplit(images)

    def which(self, x: Tensor) -> Tensor:
        high, low = (x[:, 0, 0, :2] * 255).round().long().unbind(dim=1)
        return 256 * high + low

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        mean, log_std = self.posterior(x).chunk(2, dim=1)
        z = gaussian_sample(mean, log_std, generator)
        kl = gaussian_log_prob(z, mean, log_std) - standard_normal_log_prob(z)
        return ModelOutput(x, gaussian_kl(mean, log_std) if self.exact else kl, z)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        z = gaussian_sample(*self.posterior(x).chunk(2, dim=1), generator)
        self.drawn.append(torch.cat((self.which(x)[:, None].double(), z), dim=1))
        return z

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.zeros(len(z), 1, 8, 8)

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, self.mean.shape[1], generator=generator)

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        index = self.which(x)
        return torch.cat((self.mean[index], self.log_std[index]), dim=1)

    def log_posterior(self, z: Tensor, params: Tensor) -> Tensor:
        return gaussian_log_prob(z, *params.chunk(2, dim=-1))

    def log_posterior_pairs(self, z: Tensor, params: Tensor, block: int = 2048) -> Tensor:
        self.asked.append((len(z), len(params)))
        return super().log_posterior_pairs(z, params, block)


def mixture(n: int, dim: int, spread: float = 1.0, exact: bool = True) -> Tabled:
    torch.manual_seed(0)
    return Tabled(spread * torch.randn(n, dim), -0.5 + 0.3 * torch.randn(n, dim), exact)


def by_quadrature(model: Tabled) -> float:
    """KL(q(z) || p(z)) on a grid, in one or two dimensions."""
    dim = model.mean.shape[1]
    axis = torch.linspace(-9, 9, {1: 20_001, 2: 801}[dim], dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * dim).view(-1, dim)
    with torch.no_grad():
        parts = Normal(model.mean, model.log_std.exp()).log_prob(z[:, None]).sum(dim=2)
        log_q = parts.logsumexp(dim=1) - math.log(len(model.mean))
        log_p = standard_normal_log_prob(z)
        return ((log_q - log_p) * log_q.exp()).sum().item() * (axis[1] - axis[0]).item() ** dim


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("n", "dim"), [(5, 1), (40, 1), (12, 2)])
def test_a_mixture_of_gaussians_against_quadrature(n: int, dim: int, exact: bool) -> None:
    model = mixture(n, dim, exact=exact)
    expected = by_quadrature(model)
    result = marginal_kl(model, model.split(), samples=20_000 - 20_000 % n)
    assert expected > 0.01
    assert abs(result.marginal_kl - expected) < 4 * result.standard_error
    # So few images have a KL that is hardly known from one sample each; with the exact one the test is sharp.
    assert not exact or result.standard_error < 0.01
    assert result.within_bounds and result.estimator == f"full mixture of {n}"


def test_the_standard_error_is_that_of_repetitions() -> None:
    """Ten estimates with other images and noise scatter about the truth as their standard errors say."""
    model = mixture(300, 1, spread=0.5)
    expected = by_quadrature(model)
    deviations = []
    for seed in range(10):
        torch.manual_seed(seed)
        order = torch.randperm(300)
        shuffled = Tabled(model.mean.detach()[order], model.log_std.detach()[order])
        result = marginal_kl(shuffled, shuffled.split(), samples=100)
        deviations.append((result.marginal_kl - expected) / result.standard_error)
    assert 0.4 < math.sqrt(sum(d * d for d in deviations) / 10) < 1.7


@pytest.mark.parametrize("components", [None, 5])
def test_posteriors_equal_to_the_prior_give_zero(components: int | None) -> None:
    model = Tabled(torch.zeros(20, 3), torch.zeros(20, 3))
    result = marginal_kl(model, model.split(), samples=50, components=components)
    assert result.marginal_kl == pytest.approx(0, abs=1e-12)
    assert (result.average_kl, result.lower_bound) == (0, 0)
    assert result.within_bounds


@pytest.mark.parametrize("components", [None, 10])
def test_disjoint_posteriors_give_the_average_less_log_n(components: int | None) -> None:
    """In both modes, and exactly: what is left out of the mixture is nothing."""
    n = 300
    model = Tabled(100.0 * torch.arange(n)[:, None].expand(n, 2), torch.full((n, 2), -1.0))
    result = marginal_kl(model, model.split(), samples=70, components=components)
    assert result.information == math.log(n)
    assert result.marginal_kl == result.average_kl - math.log(n) == result.lower_bound
    assert result.average_kl == pytest.approx(gaussian_kl(model.mean, model.log_std).mean().item(), rel=1e-12)
    assert result.within_bounds
    assert result.standard_error < 1e-12


@pytest.mark.parametrize("samples", [30, 700])
def test_against_a_loop_over_single_densities(samples: int) -> None:
    """More samples than images, too: then every image is drawn twice before any is drawn a third time."""
    n = 300
    model = mixture(n, 2)
    result = marginal_kl(model, model.split(), samples)
    drawn = torch.cat(model.drawn)
    terms = []
    with torch.no_grad():
        for row in drawn.tolist()[:60]:
            own, z = int(row[0]), torch.tensor(row[1:], dtype=torch.float64)
            logs = [
                Normal(model.mean[i], model.log_std[i].exp()).log_prob(z).sum().item() for i in range(len(model.mean))
            ]
            terms.append(logs[own] - math.log(math.fsum(math.exp(v) for v in logs) / n))
        parts = Normal(model.mean, model.log_std.exp()).log_prob(drawn[:, None, 1:]).sum(dim=2)
        all_terms = parts.gather(1, drawn[:, :1].long())[:, 0] - parts.logsumexp(dim=1) + math.log(n)
    assert len(drawn) == samples
    assert torch.allclose(all_terms[:60], torch.tensor(terms, dtype=torch.float64)[:samples], rtol=1e-10)
    assert result.information == pytest.approx(all_terms.mean().item(), rel=1e-10)
    assert result.information_standard_error == pytest.approx(all_terms.std().item() / math.sqrt(samples), rel=1e-9)
    assert result.average_kl == pytest.approx(gaussian_kl(model.mean, model.log_std).mean().item(), rel=1e-10)
    assert result.average_kl_standard_error == 0, "the KL is exact, and all images are there"


def test_the_average_s_standard_error_is_that_of_its_noise() -> None:
    model = mixture(4000, 2, spread=3.0, exact=False)
    result = marginal_kl(model, model.split(), samples=2)
    exact = gaussian_kl(model.mean, model.log_std)
    # Var of log q - log p under q: half the squares of (1 - s^2), and (m s)^2, summed over dimensions.
    variance = model.log_std.mul(2).exp()
    noise = (0.5 * (1 - variance).square() + model.mean.square() * variance).sum(dim=1).mean().sqrt().item()
    assert result.average_kl_standard_error == pytest.approx(noise / math.sqrt(4000), rel=0.1)
    assert abs(result.average_kl - exact.mean().item()) < 4 * result.average_kl_standard_error


def test_each_image_is_drawn_as_often_as_any_other() -> None:
    for n, samples in ((10, 3), (10, 10), (10, 37)):
        counts = torch.bincount(_uniform(n, samples, Generator().manual_seed(0)), minlength=n)
        assert counts.sum() == samples and counts.max() - counts.min() <= 1


def test_memory_is_bounded_whatever_the_number_of_images_and_samples() -> None:
    """Never more than 4,096 z under 256 images at a time; and every z under every image once."""
    model = mixture(1000, 1)
    marginal_kl(model, model.split(), samples=5000)
    assert max(rows for rows, _ in model.asked) == 4096
    assert max(columns for _, columns in model.asked) == 256
    assert sum(rows * columns for rows, columns in model.asked) == 1000 * 5000


def test_the_quick_mode_s_mixture_is_unbiased() -> None:
    """The density at one z, averaged over every choice of the other components, is the full mixture's."""
    model = mixture(7, 2)
    split, own = model.split(), torch.tensor([3])

    def density(others: tuple[int, ...]) -> float:
        """q(z) / q(z | x) at the same z each time."""
        noise = Generator().manual_seed(0)
        term, _ = _part(model, model, split, own, torch.tensor(others), "fp32", noise, lambda: None)
        return math.exp(-term.item())

    with torch.no_grad():
        full = density(tuple(range(7)))
        rest = [i for i in range(7) if i != 3]
        choices = [density(c) for c in itertools.combinations(rest, 2)]
        assert max(choices) > 1.2 * full > 1.2 * 1.2 * min(choices), "one choice is as good as another here"
        assert sum(choices) / len(choices) == pytest.approx(full, rel=1e-12)
        # Its own image among the others counts once.
        assert density((*rest[:2], 3)) == pytest.approx(density(tuple(rest[:2])), rel=1e-12)


def test_the_quick_mode_shares_out_samples_and_images() -> None:
    own = _uniform(1000, 50, Generator().manual_seed(0))
    parts = list(_parts(own, 1000, 101, Generator().manual_seed(1)))
    assert torch.equal(torch.cat([part for part, _ in parts]).sort().values, own.sort().values)
    assert [len(part) for part, _ in parts] == [5] * 10
    images = torch.cat([others for _, others in parts])
    assert len(images) == len(images.unique()) == 1000


def test_the_quick_mode_is_low_and_says_so() -> None:
    model = mixture(400, 2, spread=0.7)
    full = marginal_kl(model, model.split(), samples=4000)
    quick = marginal_kl(model, model.split(), samples=4000, components=8)
    assert quick.estimator == "quick: stratified, 8 of 400 components, biased low"
    assert quick.marginal_kl < full.marginal_kl - 4 * full.standard_error
    assert quick.marginal_kl >= quick.average_kl - math.log(400)
    assert not quick.within_bounds, "below zero by more than its noise"
    assert marginal_kl(model, model.split(), samples=100, components=400).estimator == "full mixture of 400"


def build_flow(**settings: int) -> NVPVAE:
    """A flow whose posteriors differ between images and overlap."""
    torch.manual_seed(0)
    model = NVPVAE((1, 8, 8), None, **{"latents": 6, "width": 4, "hidden": 16, "flow_hidden": 32, **settings})
    for coupling in model.flow.couplings:
        torch.nn.init.normal_(coupling.rest[-1].weight, std=0.1)
    torch.nn.init.normal_(model.flow.context.weight[-12:-6], std=3.0)
    torch.nn.init.constant_(model.flow.context.bias[-6:], -2.5)
    return model


def build_gaussian() -> ConvVAE:
    torch.manual_seed(0)
    model = ConvVAE((1, 8, 8), latents=3, width=4, hidden=16)
    torch.nn.init.normal_(model.head.weight, std=10.0)
    return model


@pytest.mark.parametrize("build", [build_flow, build_gaussian])
def test_within_the_bounds_repeatable_and_without_a_trace(build: Callable[[], LatentModel]) -> None:
    model = build().train()
    split = Digits().split("test")
    before = torch.get_rng_state()
    result, again = (marginal_kl(model, split, samples=100) for _ in range(2))
    assert result.within_bounds and result.lower_bound < result.marginal_kl < result.average_kl - 0.5
    assert result.marginal_kl == again.marginal_kl and result.standard_error == again.standard_error
    assert torch.equal(before, torch.get_rng_state()) and model.training
    assert all(p.grad is None for p in model.parameters())


def test_bfloat16_costs_a_hundredth_of_a_nat() -> None:
    """Single log-densities are off by far more, as the test below shows; but the one that matters most is exact."""
    model, split = build_flow(), Digits().split("test")
    exact, rough = (marginal_kl(model, split, samples=200, precision=precision) for precision in ("fp32", "bf16"))
    double = marginal_kl(model.double(), Doubled(split), samples=200)
    assert rough.marginal_kl != exact.marginal_kl
    assert rough.average_kl == exact.average_kl
    assert [r.precision for r in (exact, rough, double)] == ["fp32", "bf16", "fp64"]
    assert 1 < exact.information < math.log(len(split)) - 1, "posteriors that overlap, but not wholly"
    assert abs(rough.marginal_kl - exact.marginal_kl) < 0.01 < exact.standard_error
    # Noise in float64 is other noise, so that here the two agree as two estimates do.
    assert abs(double.marginal_kl - exact.marginal_kl) < 4 * math.hypot(double.standard_error, exact.standard_error)


class Doubled:
    """A split in float64."""

    def __init__(self, split: TensorSplit) -> None:
        self.split, self.image_shape, self.context_shape, self.bin = split, split.image_shape, None, split.bin

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Tensor):  # type: ignore[no-untyped-def]
        return self.split.batch(index)._replace(x=self.split.batch(index).x.double())


def test_float32_densities_of_a_flow_against_float64() -> None:
    model = build_flow()
    x, z = Digits().split("test").batch(torch.arange(50)).x, torch.randn(40, 6)
    with torch.no_grad():
        single = model.log_posterior_pairs(z, model.posterior(x))
        with torch.autocast("cpu", torch.bfloat16):
            half = model.log_posterior_pairs(z, model.posterior(x))
        model.double()
        exact = model.log_posterior_pairs(z.double(), model.posterior(x.double()))
    assert (single / exact - 1).abs().max() < 1e-4 < (half / exact - 1).abs().max() < 0.1
    assert (half - exact).abs().mean() > 0.1


def test_gaussian_pairs_are_exact_where_the_posterior_is_narrowest() -> None:
    """The matrix products cancel terms of 1e7; precision fp32 or bf16 has no say in them."""
    torch.manual_seed(0)
    model = ConvVAE((1, 8, 8), latents=5, width=4, hidden=16)
    mean, log_std = 3 * torch.randn(40, 5), torch.empty(40, 5).uniform_(-7, 5)
    log_std[:5] = -7
    z = gaussian_sample(mean, log_std)
    params = torch.cat((mean, log_std), dim=1)
    expected = Normal(mean.double(), log_std.double().exp()).log_prob(z.double()[:, None]).sum(dim=2)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            pairs = model.log_posterior_pairs(z, params)
        assert pairs.dtype == torch.float64
        assert torch.allclose(pairs, expected, rtol=1e-12, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_is_the_one_that_was_used(precision: Precision) -> None:
    assert marginal_kl(build_gaussian(), Digits().split("test"), samples=2, precision=precision).precision == "fp64"


def chain() -> ConvDRAW:
    torch.manual_seed(0)
    return ConvDRAW((1, 8, 8), steps=3, channels=6, latent_channels=2, scale=4)


def test_of_a_chain_it_is_the_mixture_written_out() -> None:
    """ConvDRAW: every z, step by step, under every image."""
    model, split = chain(), Digits().split("test")
    with torch.no_grad():
        for core in model.cores:
            core.posterior_head.weight.mul_(8)
    images = TensorSplit((split.batch(torch.arange(12)).x * 255).byte())
    found = marginal_kl(model, images, samples=24)
    assert (found.components, found.precision, found.within_bounds) == (12, "fp32", True)
    with torch.no_grad():
        x = images.batch(torch.arange(12)).x
        z = model.encode(x.repeat(200, 1, 1, 1), generator=Generator().manual_seed(1)).flatten(1)
        log_q = model.log_posterior(z[:, None], model.posterior(x)).double()
        own = log_q.gather(1, torch.arange(12).repeat(200)[:, None]).squeeze(1)
        information = own - (log_q.logsumexp(dim=1) - math.log(12))
    assert 0.2 < found.information < math.log(12) - 0.2
    error = math.hypot(found.information_standard_error, information.std().item() / math.sqrt(2400))
    assert abs(found.information - information.mean().item()) < 4 * error


def test_a_chain_that_does_not_look_tells_nothing() -> None:
    model = chain()
    with torch.no_grad():
        for core in model.cores:
            core.encoder_constant.weight.zero_()
            core.encoder.weight[:, :16].zero_()
    found = marginal_kl(model, Digits().split("test"), samples=10)
    assert abs(found.information) < 1e-3 < found.average_kl
    assert found.marginal_kl == pytest.approx(found.average_kl, abs=1e-3)


def test_what_it_refuses() -> None:
    split = Digits().split("test")
    small = {"width": 4, "hidden": 16, "latents": 4}
    cases = [
        (ConvVAE((1, 8, 8), (1, 8, 8), **small), {}, r"this ConvVAE is conditional: .* against p\(z \| context\)"),
        (ConvVAE((1, 8, 8), **small), {"samples": 1}, "needs at least 2 samples, got 1"),
        (ConvVAE((1, 8, 8), **small), {"components": 2}, "needs at least 3 components, got 2"),
        (ConvVAE((1, 8, 8), **small), {"precision": "fp16"}, "precision: 'fp16' is unknown: there are fp32, bf16"),
    ]
    for model, settings, message in cases:
        with pytest.raises(ConfigError, match=message) as error:
            marginal_kl(model, split, **settings)
        assert "\n" not in str(error.value)
    alone = Tabled(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="needs at least 2 images, got 1"):
        marginal_kl(alone, alone.split())
