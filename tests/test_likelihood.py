"""The likelihood of pixels against SciPy in float64, its three forms against each other, and its numerical range."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from bridle.data import Digits
from bridle.likelihood import GlobalSigma, QuantizedNormal, normal_nll, quantized_normal_nll, sigma_opt

BIN = 1 / 255
NATS_AT_8_BITS = 6.960


def exact(x: Tensor, mean: Tensor, sigma: float, bin: float, form: str = "bin") -> np.ndarray:
    """-log of the mass of the bin by SciPy in float64, on the side of the mean where its tail is small."""
    x, mean = x.double().numpy(), mean.double().numpy()
    upper, lower = (x + bin / 2 - mean) / sigma, (x - bin / 2 - mean) / sigma
    if form == "bin_tails":
        upper, lower = np.where(x > 1 - bin / 4, np.inf, upper), np.where(x < bin / 4, -np.inf, lower)
    flip = lower > 0
    upper, lower = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
    log_upper, log_lower = norm.logcdf(upper), norm.logcdf(lower)
    return -(log_upper + np.log(-np.expm1(log_lower - log_upper)))


def pixels(n: int = 400, bin: float = BIN) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    levels = round(1 / bin)
    x = torch.randint(0, levels + 1, (n,)).double() / levels
    x[:10], x[10:20] = 0, 1
    return x, torch.rand(n, dtype=torch.float64) * 1.2 - 0.1


@pytest.mark.parametrize("bin", [1 / 255, 1 / 16, 1.0])
@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("form", ["bin", "bin_tails"])
def test_against_scipy(form: QuantizedNormal, sigma: float, bin: float) -> None:
    x, mean = pixels(bin=bin)
    expected = torch.from_numpy(exact(x, mean, sigma, bin, form))
    double = quantized_normal_nll(x, mean, sigma, bin, form)
    assert torch.allclose(double, expected, rtol=1e-9, atol=1e-9)
    single = quantized_normal_nll(x.float(), mean.float(), sigma, bin, form)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), expected, rtol=1e-4, atol=1e-4)


def test_noise_form_against_torch() -> None:
    x, mean = pixels()
    sigma = torch.tensor(0.1, dtype=torch.float64)
    got = quantized_normal_nll(x, mean, sigma, BIN, "noise", torch.Generator().manual_seed(3))
    u = torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype) - 0.5
    expected = -torch.distributions.Normal(mean, sigma).log_prob(x + BIN * u) - math.log(BIN)
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_noise_is_an_upper_bound_and_averages_to_its_integral() -> None:
    """E[-log N(x + u) - log b] over the bin, integrated on a fine grid."""
    x, mean, sigma = torch.full((200_000,), 0.5).double(), torch.full((200_000,), 0.47).double(), 0.017
    u = (torch.arange(2001).double() / 2000 - 0.5) * BIN
    density = torch.distributions.Normal(0.47, sigma)
    integral = torch.trapezoid(-density.log_prob(0.5 + u), u) / BIN - math.log(BIN)
    got = quantized_normal_nll(x, mean, sigma, BIN, "noise", torch.Generator().manual_seed(0))
    assert got.mean().item() == pytest.approx(integral.item(), abs=4 * got.std().item() / math.sqrt(len(x)) + 1e-6)
    assert integral > quantized_normal_nll(x[:1], mean[:1], sigma, BIN)


def test_all_bins_sum_to_one_with_tails() -> None:
    for bin, sigma in ((1 / 255, 0.017), (1 / 255, 0.5), (1 / 16, 0.05), (1 / 16, 4.0), (1.0, 0.3)):
        x = torch.arange(round(1 / bin) + 1).double() * bin
        for mean in (-0.5, 0.0, 0.3, 1.0, 1.7):
            means = torch.full_like(x, mean)
            total = (-quantized_normal_nll(x, means, sigma, bin, "bin_tails")).exp().sum().item()
            assert total == pytest.approx(1, abs=1e-9)
            assert (-quantized_normal_nll(x, means, sigma, bin)).exp().sum().item() <= 1 + 1e-9


def test_bin_and_noise_agree_to_0_0023_nats_at_figure_4s_sigma() -> None:
    """For data that have this sigma, and better above it."""
    torch.manual_seed(0)
    for sigma, tolerance in ((0.017, 0.0023), (0.1, 0.0003)):
        # Antithetic errors and noise that covers each bin evenly, so that the average is exact to 1e-5.
        error = sigma * torch.from_numpy(norm.ppf((np.arange(2000) + 0.5) / 2000))
        mean = 0.5 + error
        x = torch.full_like(mean, 0.5)
        u = (torch.arange(500).double() + 0.5) / 500 - 0.5
        noise = normal_nll((x + BIN * u[:, None] - mean).square().mean(), torch.tensor(sigma).double().log(), BIN)
        bins = quantized_normal_nll(x, mean, sigma, BIN).mean()
        assert abs((noise - bins).item()) < tolerance


@pytest.mark.parametrize("form", get_args(QuantizedNormal))
@pytest.mark.parametrize("sigma", [0.002, 0.01, 0.03])
def test_30_standard_deviations_in_float32(form: QuantizedNormal, sigma: float) -> None:
    steps = torch.linspace(-30, 30, 241)
    for x_value in (0.0, 0.5, 1.0):
        mean = (x_value + sigma * steps).requires_grad_()
        log_sigma = torch.full_like(steps, math.log(sigma)).requires_grad_()
        x = torch.full_like(steps, x_value)
        nll = quantized_normal_nll(x, mean, log_sigma.exp(), BIN, form, torch.Generator().manual_seed(0))
        nll.sum().backward()
        assert nll.isfinite().all()
        assert mean.grad.isfinite().all()
        assert log_sigma.grad.isfinite().all()
        if form != "noise":
            expected = torch.from_numpy(exact(x, mean.detach(), sigma, BIN, form))
            assert torch.allclose(nll.double(), expected, rtol=3e-5, atol=1e-4)


@pytest.mark.parametrize("form", ["bin", "bin_tails"])
def test_gradients_in_float64(form: QuantizedNormal) -> None:
    x, mean = pixels(60)
    mean = (mean + 1e-3).requires_grad_()
    sigma = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: quantized_normal_nll(x, m, s, BIN, form), (mean, sigma))


def test_a_bin_much_wider_than_sigma_has_all_the_mass() -> None:
    x = torch.full((3,), 0.5, requires_grad=True)
    nll = quantized_normal_nll(x, torch.tensor([0.5, 0.5004, 0.51]), 1e-4, BIN)
    assert nll[:2].abs().max() < 1e-6
    assert nll[2] > 1000
    nll.sum().backward()
    assert x.grad.isfinite().all()


def test_digits_have_bins_of_a_sixteenth() -> None:
    split = Digits().split("test")
    x = split.batch(torch.arange(50)).x
    assert split.bin == 1 / 16
    assert torch.equal(x / split.bin, (x / split.bin).round())
    mean = torch.full_like(x, 0.3)
    expected = exact(x, mean, 0.2, 1 / 16)
    assert np.allclose(quantized_normal_nll(x, mean, 0.2, split.bin).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rmse", [0.06, 0.08, 0.1, 0.125, 0.175])
def test_nll_at_sigma_opt_is_a_function_of_the_error(rmse: float) -> None:
    """ln(RMSE) + 6.960 nats a dimension with 8 bits, whatever the distribution of the errors; sigma_opt is the best."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (1000, 1, 8, 8)) / 255
    for errors in (torch.randn(x.shape), torch.rand(x.shape) - 0.5, torch.randn(x.shape).sign()):
        x_hat = x + rmse * errors / errors.square().mean().sqrt()
        sigma = sigma_opt(x, x_hat)
        assert sigma.item() == pytest.approx(rmse, rel=1e-5)
        nll = quantized_normal_nll(x, x_hat, sigma, BIN).mean().item()
        assert nll == pytest.approx(math.log(rmse) + NATS_AT_8_BITS, abs=1e-3)
        smooth = normal_nll((x - x_hat).square().mean(), sigma.log(), BIN).item()
        assert smooth == pytest.approx(nll, abs=1e-3)
        for other in (0.98, 1.02):
            assert quantized_normal_nll(x, x_hat, other * sigma, BIN).mean().item() > nll


def test_sigma_opt_is_over_all_images_and_dimensions() -> None:
    x = torch.zeros(2, 1, 1, 2)
    x_hat = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(2, 1, 1, 2)
    assert sigma_opt(x, x_hat).item() == pytest.approx(math.sqrt(0.3 / 4))


def fit(sigma: GlobalSigma, mse: float, steps: int, lr: float = 0.05) -> float:
    optimizer = torch.optim.Adam(sigma.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        normal_nll(torch.tensor(mse), sigma(), BIN).backward()
        optimizer.step()
    return sigma().exp().item()


def test_global_sigma_finds_the_rmse() -> None:
    assert fit(GlobalSigma(BIN), mse=0.017**2, steps=600, lr=0.02) == pytest.approx(0.017, rel=1e-3)
    assert fit(GlobalSigma(BIN, initial=0.1), mse=0.04, steps=600) == pytest.approx(0.2, rel=1e-3)


def test_global_sigma_has_a_floor_and_comes_back_from_it() -> None:
    floor = BIN / math.sqrt(12)
    sigma = GlobalSigma(BIN)
    assert fit(sigma, mse=0.0, steps=300) == pytest.approx(floor, rel=1e-5)
    assert fit(sigma, mse=0.003**2, steps=300) == pytest.approx(0.003, rel=1e-2)


def test_global_sigmas_gradient_is_that_of_the_likelihood_except_downwards_at_the_floor() -> None:
    for log_sigma, mse in ((-2.0, 0.04), (-2.0, 0.001), (-20.0, 0.04), (-20.0, 0.0)):
        module = GlobalSigma(BIN)
        with torch.no_grad():
            module.log_sigma.fill_(log_sigma)
        used = module().detach().requires_grad_()
        normal_nll(torch.tensor(mse), used, BIN).backward()
        normal_nll(torch.tensor(mse), module(), BIN).backward()
        blocked = log_sigma < module.least and used.grad > 0
        assert module.log_sigma.grad.item() == pytest.approx(0.0 if blocked else used.grad.item())
