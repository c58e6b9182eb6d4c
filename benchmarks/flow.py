"""Step time of ConditionalRealNVP against zuko's RealNVP of the same size, and its log-densities per second.

Run as ``python benchmarks/flow.py``. A step is what the posterior of a VAE + NVP does in training: sample, evaluate
the log-density of the samples, and propagate the gradient to the weights and to the context. The two are timed in
turn, so that a busy machine slows both; the first figure is a ratio of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import zuko
from torch import Tensor

from bridle.models.flow import ConditionalRealNVP

BATCH, DIM, CONTEXT, COUPLINGS, HIDDEN = 128, 64, 256, 8, (256, 256)
IMAGES, POINTS = 64, 128


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    ours = ConditionalRealNVP(DIM, CONTEXT, COUPLINGS, HIDDEN)
    theirs = zuko.flows.RealNVP(DIM, context=CONTEXT, transforms=COUPLINGS, hidden_features=HIDDEN)
    context = torch.randn(BATCH, CONTEXT, requires_grad=True)

    def loss(z: Tensor, log_prob: Tensor) -> Tensor:
        return (log_prob + 0.5 * z.square().sum(dim=1)).mean()

    def our_step() -> None:
        ours.zero_grad()
        loss(*ours.sample_and_log_prob(torch.randn(BATCH, DIM), ours.context_share(context))).backward()

    def their_step() -> None:
        theirs.zero_grad()
        loss(*theirs(context).rsample_and_log_prob()).backward()

    share, points = ours.context_share(context[:IMAGES]).detach(), torch.randn(POINTS, DIM)

    @torch.no_grad()
    def our_pairs() -> None:
        ours.log_prob(points[:, None], share)

    @torch.no_grad()
    def their_pairs() -> None:
        theirs(context[:IMAGES]).log_prob(points[:, None].expand(-1, IMAGES, -1))

    columns = [our_step, their_step, our_pairs, their_pairs]
    for step in columns * 3:
        step()
    rounds = [[seconds(step) for step in columns] for _ in range(args.rounds)]
    ours_step, theirs_step, ours_pairs, theirs_pairs = (statistics.median(c) for c in zip(*rounds, strict=True))

    pairs = IMAGES * POINTS
    print(f"torch {torch.__version__}, zuko {zuko.__version__}, {args.threads} threads, {args.rounds} rounds, medians")
    print(f"batch {BATCH}, D {DIM}, context {CONTEXT}, {COUPLINGS} couplings of {HIDDEN} hidden units, float32")
    print(
        f"training step:  bridle {1e3 * ours_step:6.2f} ms, zuko {1e3 * theirs_step:6.2f} ms, "
        f"ratio {theirs_step / ours_step:.2f}"
    )
    print(
        f"{POINTS} z x {IMAGES} images: bridle {pairs / ours_pairs / 1e3:.1f}k log q(z|x) a second, "
        f"zuko {pairs / theirs_pairs / 1e3:.1f}k, ratio {theirs_pairs / ours_pairs:.2f}"
    )


if __name__ == "__main__":
    main()
