"""The marginal KL of an NVPVAE over the full mixture, in float32 and bfloat16, against the obvious loop with zuko.

Run as ``python benchmarks/marginal_kl.py``: rates on a part of the problem, the time they mean for 60,000 images and
1,000 samples, and the errors against float64. ``--whole`` runs all 60 million pairs in each precision besides, by
``bridle.evaluation.marginal_kl``, and measures time and memory.

The model is the preset ``small`` for 28x28 images: 64 latents, 8 couplings of 2x256 hidden units. Its weights are
random, and such that posteriors differ between images and overlap; the speed does not depend on them. The obvious loop
makes zuko's flow for one image after the other and asks it for the densities of all z; it has the same weights.
"""

from __future__ import annotations

import argparse
import copy
import math
import resource
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
import zuko
from torch import Tensor

from bridle.data import TensorSplit
from bridle.evaluation import MarginalKL, marginal_kl
from bridle.models import NVPVAE
from bridle.training.presets import PRESETS

IMAGES, SAMPLES = 60_000, 1_000


@torch.no_grad()
def random_model() -> NVPVAE:
    torch.manual_seed(0)
    model = NVPVAE((1, 28, 28), None, **PRESETS["NVPVAE"]["small"].model)
    for coupling in model.flow.couplings:
        torch.nn.init.normal_(coupling.rest[-1].weight, std=0.05)
    # The rows that make the mean and the log standard deviation of the noise; the mean is 0 on average over images.
    means, log_stds = slice(-2 * model.latents, -model.latents), slice(-model.latents, None)
    x = random_images(256).batch(torch.arange(256)).x
    torch.nn.init.normal_(model.flow.context.weight[means], std=20)
    model.flow.context.bias[means] = -model.flow.context.weight[means] @ model.encoder(x).mean(dim=0)
    model.flow.context.bias[log_stds] = -0.5
    return model.eval()


def random_images(n: int) -> TensorSplit:
    """Smooth ones, a few pixels to a blob."""
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (28, 28), mode="bilinear")
    return TensorSplit((255 * fine).to(torch.uint8))


def zuko_layers(model: NVPVAE) -> list[torch.nn.Module]:
    """zuko's couplings with the weights of the model's flow, from z to noise."""
    flow = model.flow
    first_half = torch.arange(flow.dim) < flow.halves[0]
    layers = []
    for i, coupling in enumerate(flow.couplings):
        ours = [m for m in coupling.rest if hasattr(m, "weight")]
        layer = zuko.flows.coupling.GeneralCouplingTransform(
            flow.dim,
            flow.context.in_features,
            mask=first_half if i % 2 == 0 else ~first_half,
            univariate=partial(zuko.transforms.MonotonicAffineTransform, slope=math.exp(-3)),
            hidden_features=[m.in_features for m in ours],
        )
        first, *rest = [m for m in layer.hyper if hasattr(m, "weight")]
        rows = slice(i * len(first.bias), (i + 1) * len(first.bias))
        with torch.no_grad():
            first.weight.copy_(torch.cat((coupling.first.weight, flow.context.weight[rows]), dim=1))
            first.bias.copy_(flow.context.bias[rows])
            for theirs, mine in zip(rest, ours, strict=True):
                order = torch.arange(len(mine.weight))
                if mine is ours[-1]:
                    order = order.view(2, -1).T.flatten()  # shift and scale of a dimension stand side by side there
                theirs.weight.copy_(mine.weight[order])
                theirs.bias.copy_(mine.bias[order])
        layers.append(layer)
    return layers


def obvious_loop(model: NVPVAE, layers: list[torch.nn.Module], z: Tensor, features: Tensor) -> Tensor:
    """log q(z | x) of every z (S, D) under every image (N, features), one image after the other; (S, N)."""
    flow, columns = model.flow, []
    weight, bias = flow.context.weight[-2 * flow.dim :], flow.context.bias[-2 * flow.dim :]
    for context in features:
        mean, raw = torch.nn.functional.linear(context, weight, bias).chunk(2)
        base = zuko.distributions.DiagNormal(mean, torch.exp(7 * torch.nn.functional.softsign(raw / 7)))
        transform = zuko.transforms.ComposedTransform(*(layer(context) for layer in layers)).inv
        columns.append(zuko.distributions.NormalizingFlow(transform, base).log_prob(z))
    return torch.stack(columns, dim=1)


def bfloat16() -> AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16)


def timed(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def peak_memory() -> str:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / 2 ** (30 if sys.platform == 'darwin' else 20):.2f} GiB"


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


@torch.no_grad()
def part(model: NVPVAE, images: int, samples: int) -> None:
    """Rates and errors on a part of the problem."""
    split = random_images(images)
    x = split.batch(torch.arange(images)).x
    z = model.encode(x[torch.arange(samples) % images], generator=torch.Generator().manual_seed(1))
    layers = zuko_layers(model)

    def ours() -> Tensor:
        return model.log_posterior_pairs(z, model.posterior(x))

    def ours_low() -> Tensor:
        params = model.posterior(x)
        with bfloat16():
            return model.log_posterior_pairs(z, params)

    ways = {
        "bridle, float32": ours,
        "bridle, bfloat16": ours_low,
        "loop over images with zuko, float32": lambda: obvious_loop(model, layers, z, model.encoder(x)),
    }
    for way in ways.values():
        way()
    double = copy.deepcopy(model).double()
    exact = double.log_posterior_pairs(z.double(), double.posterior(x.double()))
    per_image, _ = timed(lambda: model(x).kl)
    print(f"{samples:,} z x {images:,} images; errors are against float64")
    print()
    print("| | log q(z\\|x) a second | 60,000 images x 1,000 samples | greatest error (nats) | mean error (nats) |")
    print("|---|---|---|---|---|")
    for name, way in ways.items():
        seconds, table = timed(way)
        rate = images * samples / seconds
        whole = IMAGES * SAMPLES / rate + IMAGES * per_image / images
        error = (table - exact).abs()
        print(f"| {name} | {rate:,.0f} | {minutes(whole)} | {error.max():.2g} | {error.mean():.2g} |")
    print()
    print("| marginal KL (nats) | standard error | average KL | information, at most log N | precision |")
    print("|---|---|---|---|---|")
    for result in (marginal_kl(model, split, samples), marginal_kl(model, split, samples, precision="bf16")):
        print(estimate(result, math.log(images)))


def estimate(result: MarginalKL, most: float) -> str:
    return (
        f"| {result.marginal_kl:.4f} | {result.standard_error:.3f} | {result.average_kl:.4f} | "
        f"{result.information:.4f} of {most:.3f} | {result.precision} |"
    )


def whole(model: NVPVAE) -> None:
    """All pairs, in both precisions."""
    split = random_images(IMAGES)
    print()
    print("| marginal KL (nats) | standard error | average KL | information, at most log N | precision | took |")
    print("|---|---|---|---|---|---|")
    for precision in ("bf16", "fp32"):
        result = marginal_kl(model, split, SAMPLES, precision=precision)
        print(f"{estimate(result, math.log(IMAGES))} {minutes(result.seconds)} |", flush=True)
    print()
    print(f"peak memory of the whole process: {peak_memory()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=256, help="of the part")
    parser.add_argument("--samples", type=int, default=1000, help="of the part")
    parser.add_argument("--whole", action="store_true", help="60,000 images and 1,000 samples, in both precisions")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, zuko {zuko.__version__}, {args.threads} threads")
    print()
    model = random_model()
    if args.whole:
        whole(model)  # first, so that the memory is its own
        print()
    part(model, args.images, args.samples)


if __name__ == "__main__":
    main()
