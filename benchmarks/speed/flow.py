"""A training step of VAE+NVP, with our flow and with those of zuko and nflows in the same model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.speed.ceiling import alone, flops, least_bytes
from benchmarks.speed.timing import importable, in_turn, ratio, table
from bridle.models import NVPVAE
from bridle.models.gaussian import standard_normal_log_prob
from bridle.training.presets import PRESETS

__all__ = ["measure"]

CASES = {"tiny": (1, 8, 8), "small": (1, 28, 28)}
ROUNDS = 30

Draw = Callable[[Tensor], tuple[Tensor, Tensor]]


class Other(nn.Module):
    """The VAE+NVP with another flow: the same encoder and decoder, in the same sizes."""

    def __init__(self, vae: NVPVAE, flow: nn.Module, draw: Draw) -> None:
        super().__init__()
        self.encoder, self.decoder, self.flow, self.draw = vae.encoder, vae.decoder, flow, draw

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_q = self.draw(self.encoder(x))
        return self.decoder(z), log_q - standard_normal_log_prob(z)


class Ours(nn.Module):
    """Ours, giving the same two."""

    def __init__(self, vae: NVPVAE) -> None:
        super().__init__()
        self.vae, self.flow = vae, vae.flow

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.vae(x)
        return out.x_hat, out.kl

    def draw(self, context: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(context), self.flow.dim)
        return self.flow.sample_and_log_prob(noise, self.flow.context_share(context))


def measure(peers: Path | None) -> list[str]:
    """The tables of both presets.

    Arguments:
        peers: A folder with a clone of nflows, in a folder of that name; without it nflows is left out.
    """
    rows, alone_rows = [], []
    for preset, image in CASES.items():
        settings = PRESETS["NVPVAE"][preset]  # type: ignore[index]
        x, sizes = torch.rand(settings.batch, *image), settings.model
        made: dict[str, Ours | Other] = {
            "Bridle": Ours(NVPVAE(image, **sizes)),
            "zuko": _zuko(NVPVAE(image, **sizes), sizes),
        }
        if peers is not None and (peers / "nflows").is_dir():
            with importable(peers / "nflows"):
                made["nflows"] = _nflows(NVPVAE(image, **sizes), sizes)
        times = in_turn(
            {name: _step(model, partial(_loss, model, x)) for name, model in made.items()}
            | {"compiled": _compiled(made["Bridle"], x), "layers": alone(made["Bridle"], partial(made["Bridle"], x))},
            ROUNDS,
        )
        context = torch.randn(settings.batch, sizes["hidden"])
        draws = in_turn(
            {name: _step(model.flow, partial(_divergence, model.draw, context)) for name, model in made.items()}, ROUNDS
        )
        for name, model in made.items():
            ours, weights = name == "Bridle", sum(p.numel() for p in model.parameters())
            rows.append(
                [
                    preset,
                    name,
                    f"{weights:,}",
                    f"{flops(partial(_loss, model, x)) / 1e9:.2g}",
                    f"{least_bytes(model, x) / 1e6:.3g}" if ours else "",
                    times[name].milliseconds(),
                    ratio(times["layers"], times["Bridle"]) if ours else "",
                    "" if ours else ratio(times[name], times["Bridle"]),
                    ratio(times[name], times["compiled"]),
                ]
            )
            alone_rows.append(
                [preset, name, draws[name].milliseconds(), "" if ours else ratio(draws[name], draws["Bridle"])]
            )
    faster = "Bridle is times as fast"
    header = ["preset", "flow", "weights", "GFLOP", "MB", "step, ms", "its layers alone", faster, "and compiled"]
    return [
        "## VAE+NVP",
        "Forward, backward and Adam at the presets; the same encoder and decoder, and a RealNVP of as many couplings "
        "and hidden units from each library. Its layers alone: the time of our convolutions and matrix products by "
        "themselves, as a share of the step. The aim: at least twice zuko's speed.",
        table(header, rows),
        "The flow alone: a sample of every image's posterior with its log-density, their gradients, and Adam.",
        table(["preset", "flow", "step, ms", faster], alone_rows),
        *([] if "nflows" in made else ["nflows was not measured: no clone of it in `--peers`."]),
    ]


def _step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _compiled(model: nn.Module, x: Tensor) -> Callable[[], None]:
    return _step(model, torch.compile(partial(_loss, model, x), dynamic=False))


def _divergence(draw: Draw, context: Tensor) -> Tensor:
    """The KL to a standard normal, up to a constant."""
    z, log_q = draw(context)
    return (log_q + z.square().sum(dim=1) / 2).mean()


def _loss(model: nn.Module, x: Tensor) -> Tensor:
    x_hat, kl = model(x)
    loss: Tensor = kl.mean() + 100 * (x_hat - x).square().mean()
    return loss


def _zuko(vae: NVPVAE, sizes: dict[str, int]) -> Other:
    import zuko

    hidden = (sizes["flow_hidden"],) * 2
    flow = zuko.flows.RealNVP(
        sizes["latents"], context=sizes["hidden"], transforms=sizes["couplings"], hidden_features=hidden
    )
    return Other(vae, flow, lambda context: flow(context).rsample_and_log_prob())


def _nflows(vae: NVPVAE, sizes: dict[str, int]) -> Other:
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.nn.nets import ResidualNet
    from nflows.transforms.base import CompositeTransform
    from nflows.transforms.coupling import AffineCouplingTransform

    latents, hidden = sizes["latents"], sizes["flow_hidden"]

    def net(inputs: int, outputs: int) -> nn.Module:
        return ResidualNet(inputs, outputs, hidden_features=hidden, context_features=sizes["hidden"], num_blocks=1)

    masks = [(torch.arange(latents) + coupling) % 2 for coupling in range(sizes["couplings"])]
    flow = Flow(CompositeTransform([AffineCouplingTransform(mask, net) for mask in masks]), StandardNormal([latents]))

    def draw(context: Tensor) -> tuple[Tensor, Tensor]:
        z, log_q = flow.sample_and_log_prob(1, context=context)
        return z.squeeze(1), log_q.squeeze(1)

    return Other(vae, flow, draw)
