"""A network that constraints look through stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridle.constraints import CLA, FRE, LPIPS, ImageConstraint, Reconstruction
from bridle.constraints.frozen import Frozen
from bridle.objectives import ConstrainedObjective

SHAPE = (1, 8, 8)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def build(name: str, inner: nn.Module) -> ImageConstraint:
    if name == "cla":
        return CLA(0.5, inner, SHAPE)
    if name == "lpips":
        return LPIPS(0.1, inner, ["0", "2"], SHAPE)
    fre = FRE(0.5, inner, "2", SHAPE)
    fre.prepare([torch.rand(16, *SHAPE)])
    return fre


@pytest.mark.parametrize("name", ["fre", "lpips", "cla"])
def test_stays_frozen_through_training(name: str) -> None:
    inner = network()
    before = {k: v.clone() for k, v in inner.state_dict().items()}
    constraint = build(name, inner)
    objective = ConstrainedObjective([constraint], {name: constraint.bound(SHAPE)}).train()
    assert not inner.training and not any(p.requires_grad for p in inner.parameters())
    assert not list(objective.parameters())
    x_hat = torch.rand(4, *SHAPE, requires_grad=True)
    r = Reconstruction(torch.rand(4, *SHAPE), x_hat, torch.zeros(4), torch.tensor([0, 1, 2, 0]))
    for _ in range(3):
        objective(r).loss.backward()
        objective.step()
    assert x_hat.grad is not None and x_hat.grad.abs().sum() > 0
    assert all(p.grad is None for p in inner.parameters()) and not inner.training
    assert all(torch.equal(v, before[k]) for k, v in inner.state_dict().items()), "batch norm has seen the batch"
    assert not inner._forward_hooks and all(not m._forward_hooks for m in inner.modules())

    saved = objective.state_dict()
    assert sum(t.numel() for key, t in saved.items() if ".frozen." in key) == 1, "weights are in the checkpoint"


@pytest.mark.parametrize("name", ["fre", "lpips", "cla"])
def test_a_checkpoint_restores_the_units_and_refuses_another_network(name: str) -> None:
    constraint = build(name, network())
    r = Reconstruction(torch.rand(4, *SHAPE), torch.rand(4, *SHAPE), torch.zeros(4), torch.tensor([0, 1, 2, 0]))
    again = FRE(0.5, network(), "2", SHAPE) if name == "fre" else build(name, network())
    again.load_state_dict(constraint.state_dict())
    assert torch.equal(again.measure(r), constraint.measure(r))
    with pytest.raises(ValueError, match="is another than the run was trained by"):
        build(name, network(seed=1)).load_state_dict(constraint.state_dict())


def test_follows_to_a_device_and_no_further_than_asked() -> None:
    calls: list[str] = []

    class Late(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append("late")
            return x

    frozen = Frozen(nn.Sequential(nn.Conv2d(1, 2, 3), Late()))
    assert frozen.features(torch.zeros(1, *SHAPE), ["0"])[0].shape == (1, 2, 6, 6) and not calls
    frozen.to("meta")
    assert frozen.network[0].weight.is_meta and frozen.checksum.is_meta  # type: ignore[index, union-attr]
