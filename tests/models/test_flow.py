"""The flow against autograd's Jacobian, against zuko with the same weights, and against numerical integration."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import zuko
from torch import Tensor

from bridle.models.flow import ConditionalRealNVP

DIM, CONTEXT, HIDDEN = 5, 3, (16, 12)


def random_flow(
    dim: int = DIM, context: int = CONTEXT, couplings: int = 8, hidden: tuple[int, ...] = HIDDEN, scale: float = 1.0
) -> ConditionalRealNVP:
    """A flow in float64 that is far from the identity: at ``scale`` 1 its log-scales are of the order of one."""
    torch.manual_seed(0)
    flow = ConditionalRealNVP(dim, context, couplings, hidden).double()
    for last in (coupling.rest[-1] for coupling in flow.couplings):
        torch.nn.init.normal_(last.weight, std=scale)
        torch.nn.init.normal_(last.bias, std=scale)
    torch.nn.init.normal_(flow.context.weight[-2 * dim :], std=0.3 * scale)
    torch.nn.init.normal_(flow.context.bias[-2 * dim :], std=0.3 * scale)
    return flow


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def rows_of(flow: ConditionalRealNVP, coupling: int) -> slice:
    """Which rows of the context's weight belong to a coupling."""
    width = flow.couplings[0].first.out_features
    return slice(coupling * width, (coupling + 1) * width)


def zuko_density(flow: ConditionalRealNVP, context: Tensor) -> zuko.distributions.NormalizingFlow:
    """zuko's RealNVP with the same weights.

    zuko feeds the concatenation of half of z and the context to each network, picks the halves by a mask, and has
    the shift and the log-scale of a dimension side by side in the last layer, where ours has all shifts first.
    """
    first_half = torch.arange(flow.dim) < flow.halves[0]
    transforms = []
    for i, coupling in enumerate(flow.couplings):
        ours = [m for m in coupling.rest if hasattr(m, "weight")]
        layer = zuko.flows.coupling.GeneralCouplingTransform(
            flow.dim,
            context.shape[1],
            mask=first_half if i % 2 == 0 else ~first_half,
            univariate=partial(zuko.transforms.MonotonicAffineTransform, slope=math.exp(-3)),
            hidden_features=[m.in_features for m in ours],
        ).double()
        first, *rest = [m for m in layer.hyper if hasattr(m, "weight")]
        rows = rows_of(flow, i)
        with torch.no_grad():
            first.weight.copy_(torch.cat((coupling.first.weight, flow.context.weight[rows]), dim=1))
            first.bias.copy_(flow.context.bias[rows])
            for theirs, mine in zip(rest, ours, strict=True):
                order = torch.arange(len(mine.weight))
                if mine is ours[-1]:
                    order = order.view(2, -1).T.flatten()
                theirs.weight.copy_(mine.weight[order])
                theirs.bias.copy_(mine.bias[order])
        transforms.append(layer(context))
    weight, bias = flow.context.weight[-2 * flow.dim :], flow.context.bias[-2 * flow.dim :]
    mean, raw = torch.nn.functional.linear(context, weight, bias).chunk(2, dim=1)
    base = zuko.distributions.DiagNormal(mean, torch.exp(7 * torch.nn.functional.softsign(raw / 7)))
    # zuko's transforms lead from z to the noise, ours from the noise to z.
    return zuko.distributions.NormalizingFlow(zuko.transforms.ComposedTransform(*transforms).inv, base)


@pytest.mark.parametrize("couplings", [2, 3, 8])
@pytest.mark.parametrize("dim", [2, 5, 64])
def test_inverse_in_float64(dim: int, couplings: int) -> None:
    flow = random_flow(dim, couplings=couplings, scale=0.3)
    share = flow.context_share(randn(50, CONTEXT))
    noise = randn(50, dim)
    z, log_det = flow(noise, share)
    back, inverse_log_det = flow.inverse(z, share)
    assert (back - noise).abs().max() < 1e-10
    assert (log_det + inverse_log_det).abs().max() < 1e-10
    assert (flow(flow.inverse(noise, share)[0], share)[0] - noise).abs().max() < 1e-10
    assert (z - noise).abs().mean() > 0.1, "a flow that does nothing proves nothing"


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_determinant_is_that_of_autograds_jacobian(direction: str) -> None:
    flow = random_flow(scale=0.5)
    share = flow.context_share(randn(4, CONTEXT))
    for row, point in zip(share, randn(4, DIM), strict=True):
        map_ = partial(getattr(flow, direction), share=row)
        jacobian = torch.autograd.functional.jacobian(lambda v, map_=map_: map_(v)[0], point)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        assert torch.allclose(map_(point)[1], expected, rtol=0, atol=1e-9)
        assert (jacobian != 0).all(), "with eight couplings every output depends on every input"


@pytest.mark.parametrize("dim", [2, 5, 8])
@pytest.mark.parametrize("hidden", [(16,), (16, 12)])
def test_log_densities_against_zuko(dim: int, hidden: tuple[int, ...]) -> None:
    flow = random_flow(dim, hidden=hidden, couplings=5, scale=0.5)
    context, z = randn(20, CONTEXT), 2 * randn(20, dim)
    reference = zuko_density(flow, context)
    share = flow.context_share(context)
    assert torch.allclose(flow.log_prob(z, share), reference.log_prob(z), rtol=1e-10, atol=1e-9)
    sample, log_prob = flow.sample_and_log_prob(z, share)
    assert torch.allclose(log_prob, reference.log_prob(sample), rtol=1e-9, atol=1e-8)
    base = reference.base.base_dist
    noise = (reference.transform(sample) - base.loc) / base.scale
    assert torch.allclose(noise, z, rtol=1e-8, atol=1e-8)


def test_gradients_against_zuko() -> None:
    flow = random_flow(scale=0.5)
    context, z = randn(20, CONTEXT), randn(20, DIM)
    pairs = []
    for ours in (True, False):
        c, v = context.clone().requires_grad_(), z.clone().requires_grad_()
        log_prob = flow.log_prob(v, flow.context_share(c)) if ours else zuko_density(flow, c).log_prob(v)
        log_prob.sum().backward()
        pairs.append((c.grad, v.grad))
    for mine, theirs in zip(*pairs, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-8, atol=1e-8)


def test_a_density_in_two_dimensions_integrates_to_one() -> None:
    flow = random_flow(dim=2, couplings=4, hidden=(8, 8), scale=0.3)
    with torch.no_grad():
        share = flow.context_share(randn(2, CONTEXT))
        # The grid reaches well beyond all of 2,000 samples.
        samples = flow(randn(2000, 1, 2), share)[0]
        for i in range(2):
            low, high = samples[:, i].min(dim=0).values, samples[:, i].max(dim=0).values
            low, high = low - (high - low), high + (high - low)
            axes = [torch.linspace(a, b, 250, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
            grid = torch.cartesian_prod(*axes)
            cell = torch.stack([axis[1] - axis[0] for axis in axes]).prod()
            total = (flow.log_prob(grid, share[i]).exp().sum() * cell).item()
            assert total == pytest.approx(1, abs=2e-3)


def test_samples_have_the_density() -> None:
    """Cross-entropy of the samples under a kernel-free identity: E[exp(log p - log q)] = 1 for any density p."""
    flow = random_flow(dim=2, couplings=2, hidden=(8, 8), scale=0.1)
    with torch.no_grad():
        z, log_q = flow.sample_and_log_prob(randn(40_000, 2), flow.context_share(randn(1, CONTEXT)))
        narrow = torch.distributions.Normal(z.mean(dim=0), 0.5 * z.std(dim=0))
        weights = (narrow.log_prob(z).sum(dim=1) - log_q).exp()
    assert weights.mean().item() == pytest.approx(1, abs=5 * weights.std().item() / 200)


def test_the_shared_first_layer_equals_the_naive_concatenation() -> None:
    flow = random_flow()
    context, half = randn(7, CONTEXT), randn(7, flow.halves[0])
    coupling = flow.couplings[2]
    rows = rows_of(flow, 2)
    weight = torch.cat((coupling.first.weight, flow.context.weight[rows]), dim=1)
    naive = torch.nn.functional.linear(torch.cat((half, context), dim=1), weight, flow.context.bias[rows])
    shift, raw = coupling.rest(naive).chunk(2, dim=1)
    expected = shift, 3 * torch.nn.functional.softsign(raw / 3)
    actual = coupling(half, flow.context_share(context)[:, rows])
    for a, b in zip(actual, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_leading_dimensions_broadcast() -> None:
    flow = random_flow(scale=0.3)
    share, z = flow.context_share(randn(4, CONTEXT)), randn(6, DIM)
    table = flow.log_prob(z[:, None], share)
    assert table.shape == (6, 4)
    for s in range(6):
        for n in range(4):
            assert torch.allclose(table[s, n], flow.log_prob(z[s], share[n]), rtol=1e-10, atol=1e-10)
    samples, log_prob = flow.sample_and_log_prob(z[:, None], share)
    assert samples.shape == (6, 4, DIM)
    assert torch.allclose(flow.log_prob(samples, share), log_prob, rtol=1e-9, atol=1e-9)


def test_it_starts_as_the_identity_and_learns() -> None:
    torch.manual_seed(0)
    flow = ConditionalRealNVP(DIM, CONTEXT, hidden=HIDDEN)
    share, noise = flow.context_share(torch.randn(9, CONTEXT)), torch.randn(9, DIM)
    z, log_prob = flow.sample_and_log_prob(noise, share)
    assert torch.equal(z, noise)
    assert torch.allclose(log_prob, torch.distributions.Normal(0, 1).log_prob(noise).sum(dim=1))
    log_prob.sum().backward()
    for coupling in flow.couplings:
        assert coupling.rest[-1].weight.grad.abs().sum() > 0
    assert (flow.context.weight.grad[-DIM:].abs().sum(dim=1) > 0).all()


def test_log_scales_are_bounded_softly() -> None:
    """Weights a thousand times too large give finite numbers and gradients, and |log-scale| < 3 in each coupling."""
    flow = random_flow(scale=1000.0).float()
    share = flow.context_share(torch.randn(9, CONTEXT))
    share.retain_grad()
    _, log_scale = flow.couplings[0](torch.randn(9, flow.halves[0]), share[:, rows_of(flow, 0)])
    assert (log_scale.abs() <= 3).all()
    log_scale.sum().backward()
    assert share.grad.isfinite().all()
    assert share.grad.abs().sum() > 0


def test_bfloat16_autocast_keeps_the_density_in_float32() -> None:
    flow = random_flow(dim=64, scale=0.02).float()
    context, z = torch.randn(20, CONTEXT), torch.randn(20, 64)
    exact = flow.log_prob(z, flow.context_share(context))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = flow.log_prob(z, flow.context_share(context))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.5
    assert (rough - exact).abs().max() > 0


@pytest.mark.parametrize("settings", [{"dim": 1}, {"couplings": 1}, {"context": 0}, {"hidden": ()}, {"hidden": (8, 0)}])
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at least 1|2 dimensions"):
        ConditionalRealNVP(**{"dim": 2, "context": 1, **settings})
