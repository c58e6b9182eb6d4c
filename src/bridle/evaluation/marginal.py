r"""The marginal KL of the paper's table 2: how far all posteriors together are from the prior.

With :math:`q(z) = \frac1N \sum_n q(z|x_n)` over the training set,

.. math:: \mathrm{KL}(q(z)\,\|\,p(z)) = \underbrace{\frac1N\sum_n \mathrm{KL}(q(z|x_n)\,\|\,p(z))}_{\text{average KL}}
    - \underbrace{\mathbb E_{n,\,z\sim q(z|x_n)}\big[\log q(z|x_n) - \log q(z)\big]}_{\text{information}}

(Hoffman and Johnson, 2016). The information is the one that z has of which image it came from, between 0 and log N.
The first term is measured on the whole training set, the second on S samples with each image's whole mixture. A term
of the second is never above log N, because :math:`q(z) \ge q(z|x_n) / N`; so the estimate is never below the average
KL less log N. It also varies less than one of log q(z) - log p(z) directly: the KLs of different images can be far
apart, and their mean is known.

References:
    | ELBO surgery: yet another way to carve up the variational evidence lower bound (Hoffman and Johnson, 2016)
    | Distribution Matching in Variational Inference (Rosca et al., 2018), https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from bridle.data import Split
from bridle.errors import ConfigError
from bridle.evaluation.passes import BATCH, SEED, batches, measuring, number_of_batches, progress, random_points
from bridle.models.base import HasPosteriorDensity, LatentModel

__all__ = ["MarginalKL", "Precision", "check_settings", "marginal_kl", "marginal_refusal"]

Precision = Literal["fp32", "bf16"]

# The densities of so many z under 256 images are in memory at a time: 8 MiB in float64, and a few copies.
_SLAB = 4096
_TWICE = 1000
# What rounding may add to a bound that is checked to four standard errors, in nats: all else can be exact.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class MarginalKL:
    """An estimate of the marginal KL, in nats, and what it is made of.

    ``marginal_kl`` is ``average_kl - information``. ``n``: images of the mixture; ``samples``: z it was estimated
    with; ``components``: images whose posteriors were evaluated at each z; ``estimator``: the same in words, with
    "biased low" for the quick mode; ``precision``: what the densities were evaluated in, fp64 where the model knows
    better than what was asked for. ``lower_bound`` is max(0, average_kl - log n), and ``average_kl`` is the upper
    bound; ``within_bounds`` says whether the estimate keeps to the bound of log n exactly, and to 0 and the average KL
    within four standard errors. ``seconds``: what it took.
    """

    marginal_kl: float
    standard_error: float
    lower_bound: float
    average_kl: float
    average_kl_standard_error: float
    information: float
    information_standard_error: float
    within_bounds: bool
    estimator: str
    n: int
    samples: int
    components: int
    precision: Literal["fp64", "fp32", "bf16"]
    seconds: float


def marginal_kl(
    model: LatentModel,
    split: Split,
    samples: int = 1000,
    components: int | None = None,
    precision: Precision = "fp32",
) -> MarginalKL:
    """Estimates the marginal KL of a model over a split.

    The images that z are drawn from are different ones, chosen at random, as long as there are enough, so that each
    image is as likely as any other. The logarithm of q(z) runs along in float64 while the posteriors of the images go
    by, 256 at a time. Beside the model and the split, memory is bounded whatever their number: 4,096 x 256 densities,
    the parameters of 256 posteriors, one block of the density's network; a further 8 bytes for each sample.

    The quick mode replaces the other N - 1 images of the mixture by ``components - 1`` of them, taken at random and
    weighted by (N - 1) / (components - 1). The image of z itself stays in with weight 1, so that the bound of log N
    holds here, too. Where it is among the others as well, it counts once, and the one fewer that are left weigh
    (N - 1) / (components - 2) each. The mean of such densities is right and that of their logarithms too low, so the
    result is biased low, except where posteriors do not overlap. The standard error is that of the noise alone: it
    excludes this bias.

    Arguments:
        model: Unconditional, with a posterior density; on the device to measure on. Its training mode is left as it
            was.
        split: On the same device; the training split.
        samples: S, how many z, at least 2.
        components: None for the full mixture; at least 3 for the quick mode, which is the full mixture from N on.
        precision: Of the density of z under other images than its own, by autocast. A density that knows better, such
            as a Gaussian one, is float64 whatever is stated here, and the result says so.

    Raises:
        ConfigError: A model without a posterior density, a conditional one, fewer than 2 images or samples, fewer than
            3 components, or an unknown precision.

    Example:
        >>> from bridle.data import Digits
        >>> from bridle.models import NVPVAE
        >>> untrained = NVPVAE((1, 8, 8), latents=4, flow_hidden=16)    # whose posteriors start as the prior
        >>> result = marginal_kl(untrained, Digits().split("test"), samples=10)
        >>> abs(result.marginal_kl) < 1e-5, result.within_bounds
        (True, True)
    """
    began = time.monotonic()
    check_settings(samples, components, precision)
    if reason := marginal_refusal(model, split):
        raise ConfigError(reason)
    assert isinstance(model, HasPosteriorDensity)
    n = len(split)
    components = n if components is None else min(components, n)
    with measuring(model) as generator:
        average, average_error = _average_kl(model, split, generator)
        terms, double = _information(model, model, split, samples, components, precision, generator)
    information = min(terms.mean().item(), math.log(n))  # the mean of equal numbers can be rounded above them
    information_error = terms.std().item() / math.sqrt(samples)
    estimate, error = average - information, math.hypot(average_error, information_error)
    room = 4 * error + _ROUNDING
    return MarginalKL(
        marginal_kl=estimate,
        standard_error=error,
        lower_bound=max(0.0, average - math.log(n)),
        average_kl=average,
        average_kl_standard_error=average_error,
        information=information,
        information_standard_error=information_error,
        within_bounds=estimate >= average - math.log(n) and -room <= estimate <= average + room,
        estimator=f"full mixture of {n:,}"
        if components == n
        else f"quick: stratified, {components:,} of {n:,} components, biased low",
        n=n,
        samples=samples,
        components=components,
        precision="fp64" if double else precision,
        seconds=time.monotonic() - began,
    )


def check_settings(samples: int, components: int | None, precision: Precision) -> None:
    """Raises ConfigError for settings of :func:`marginal_kl` that are out of range, whatever the model."""
    for name, value, least in (("samples", samples, 2), ("components", components, 3)):
        if value is not None and value < least:
            raise ConfigError(f"the marginal KL needs at least {least} {name}, got {value}")
    if precision not in get_args(Precision):
        raise ConfigError(f"precision: {precision!r} is unknown: there are {', '.join(get_args(Precision))}")


def marginal_refusal(model: LatentModel, split: Split) -> str | None:
    """Why there is no marginal KL of this model on this split, in one line; None if there is."""
    name = type(model).__name__
    if not isinstance(model, HasPosteriorDensity):
        return f"{name} has no posterior density that can be evaluated at any z"
    if model.context_shape is not None:
        return f"this {name} is conditional: the paper defines no marginal KL against p(z | context)"
    if len(split) < 2:
        return f"the marginal KL needs at least 2 images, got {len(split)}"
    return None


def _average_kl(model: LatentModel, split: Split, generator: Generator) -> tuple[float, float]:
    """The average KL and its standard error, which comes from the noise alone, since the images are all there are.

    How much noise a model's KL has is seen from 1,000 images that are taken twice: none at all if it is exact.
    """
    total = 0.0
    with progress("average KL", number_of_batches(len(split))) as advance:
        for batch in batches(model, split):
            total += model(batch.x, batch.context, generator).kl.sum(dtype=torch.float64).item()
            advance()
    differences = torch.cat(
        [
            model(batch.x, None, generator).kl.double() - model(batch.x, None, generator).kl.double()
            for batch in batches(model, split, random_points(split, _TWICE))
        ]
    )
    return total / len(split), math.sqrt(differences.square().mean().item() / 2 / len(split))


def _information(
    model: LatentModel,
    density: HasPosteriorDensity,
    split: Split,
    samples: int,
    components: int,
    precision: Precision,
    generator: Generator,
) -> tuple[Tensor, bool]:
    """log q(z | x) - log q(z) for each of ``samples`` z of the posteriors, shape (samples,), float64, CPU; and whether
    their densities under other images were float64, too."""
    chance = Generator().manual_seed(SEED)
    own = _uniform(len(split), samples, chance)
    parts = list(_parts(own, len(split), components, chance))
    with progress("marginal KL", sum(number_of_batches(len(others)) for _, others in parts)) as advance:
        done = [_part(model, density, split, part, others, precision, generator, advance) for part, others in parts]
    return torch.cat([terms for terms, _ in done]), all(double for _, double in done)


def _uniform(n: int, samples: int, chance: Generator) -> Tensor:
    """Indices below n, each as likely as any other: all of them as often as they fit, the rest different ones."""
    rounds = [torch.randperm(n, generator=chance) for _ in range(math.ceil(samples / n))]
    return torch.cat(rounds)[:samples]


def _parts(own: Tensor, n: int, components: int, chance: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples that are done together, as the images they are of, and the images that make up the rest of the mixture.

    In the quick mode the images are cut into groups, each the rest of the mixture for a few samples: no image is
    encoded twice for it, and few samples share their components.
    """
    if components == n:
        for part in own.split(_SLAB):
            yield part, torch.arange(n)
        return
    size = components - 1
    groups = torch.randperm(n, generator=chance)[: n // size * size].split(size)
    for i, group in enumerate(groups[: len(own)]):
        for part in own[i :: len(groups)].split(_SLAB):
            yield part, group


def _part(
    model: LatentModel,
    density: HasPosteriorDensity,
    split: Split,
    own: Tensor,
    others: Tensor,
    precision: Precision,
    generator: Generator,
    advance: Callable[[], None],
) -> tuple[Tensor, bool]:
    """The terms of the samples of the images ``own``, and whether their densities under ``others`` were float64; calls
    ``advance`` after each batch of ``others``."""
    z_parts, log_own_parts = [], []
    for batch in batches(model, split, own):
        z_parts.append(model.encode(batch.x, None, generator).flatten(1))
        # Never in low precision: a narrow posterior that is evaluated beside itself would lose its own sample.
        log_own_parts.append(density.log_posterior(z_parts[-1], density.posterior(batch.x)).double())
    z, log_own = torch.cat(z_parts), torch.cat(log_own_parts)
    own = own.to(z.device)

    # q(z) is its own image's share and (N - 1) / N of the mean of all others, of which those in `others` are a sample.
    log_rest = torch.full_like(log_own, -torch.inf)
    low = torch.autocast(z.device.type, torch.bfloat16, enabled=precision == "bf16")
    count = len(others) - torch.isin(own, others.to(z.device)).double()
    double = True
    for batch, index in zip(batches(model, split, others), others.to(z.device).split(BATCH), strict=True):
        params = density.posterior(batch.x)
        with low:
            pairs = density.log_posterior_pairs(z, params)
        double = double and pairs.dtype == torch.float64
        pairs = pairs.double().masked_fill_(own[:, None] == index, -torch.inf)
        log_rest = torch.logaddexp(log_rest, pairs.logsumexp(dim=1))
        advance()
    n = len(split)
    log_share = math.log((n - 1) / n) - count.log()
    # The own share is the same number on both sides of the difference, so that this is at most log N.
    terms = (log_own - torch.logaddexp(log_own - math.log(n), log_rest + log_share)).clamp(max=math.log(n))
    return terms.cpu(), double
