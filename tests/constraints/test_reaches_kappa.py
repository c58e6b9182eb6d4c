"""GECO drives pixels that are free to be anything to each constraint's kappa, and spends no more than that needs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridle import constraints as c
from bridle.constraints import ImageConstraint, Reconstruction
from bridle.objectives import ConstrainedObjective

SHAPE = (2, 8, 8)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(216, 4))
    with torch.no_grad():
        layers[3].weight.mul_(10)  # so that it can be sure of a class at all
    return layers


EVERY: list[tuple[ImageConstraint, int]] = [
    (c.RE(0.1), 900),
    (c.REPixel(0.15), 900),
    (c.REChannel(0.1), 900),
    (c.L1(0.08), 900),
    (c.PNCC(0.8), 2500),  # contrast is free, so the pixels go on getting fainter for long
    (c.PNCC(0.8, random=6), 2500),
    (c.SSIM(0.8), 900),
    (c.FRE(0.4, network(), "1", SHAPE), 900),
    (c.LPIPS(0.05, network(), ["0", "1"], SHAPE), 900),
    (c.CLA(0.6, network(), SHAPE), 2500),
    (c.KL(30.0), 2500),
]


@pytest.mark.parametrize(("constraint", "steps"), EVERY, ids=lambda value: getattr(value, "name", ""))
def test_reaches_kappa_and_stays_there(constraint: ImageConstraint, steps: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(8, *SHAPE)
    label = torch.arange(8) % 4
    constraint.prepare([x])
    objective = ConstrainedObjective([constraint], {constraint.name: constraint.bound(SHAPE)})
    # The "code" is the reconstruction itself, and its rate that of a unit Gaussian: what is free is grey. With noise
    # where the error is the objective, which else would be worth any rate.
    noise = 0.15 if constraint.name == "kl" else 0.0
    code = nn.Parameter(0.1 * torch.randn(8, *SHAPE))
    optimizer = torch.optim.Adam([code], lr=0.02)

    def reconstruction() -> Reconstruction:
        x_hat = 0.5 + 0.2 * code + noise * torch.randn_like(x)
        return Reconstruction(x, x_hat, 0.5 * code.square().sum(dim=(1, 2, 3)), label)

    values = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1, 1.02 - step / steps)
        optimizer.zero_grad()
        objective(reconstruction()).loss.backward()
        optimizer.step()
        objective.step()
        if step >= steps - 100:
            values.append(constraint.measure(reconstruction()).detach())
    value = constraint.worst(torch.stack(values).mean(dim=0)).item()
    assert value == pytest.approx(constraint.kappa, rel=0.02)
    multiplier = objective.geco.multipliers()[constraint.name].max().item()
    assert multiplier > 0.05, "slack"
    assert objective.geco.metrics()[f"{constraint.name}/nonfinite"] == 0
