"""What is saved and loaded, precision, devices, copies."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from bridle.geco import GECO, Constraint

RULES = ["pi", "algorithm1"]


def constraints() -> dict[str, Constraint]:
    return {
        "a": Constraint(upper=1.0),
        "v": Constraint(lower=torch.tensor([0.5, 2.0])),
        "i": Constraint(lower=0.0, upper=2.0),
    }


class Model(nn.Module):
    """A model that holds its GECO, as users write it."""

    def __init__(self, rule: str = "pi") -> None:
        super().__init__()
        self.net = nn.Linear(3, 4)
        self.geco = GECO(constraints(), rule=rule)

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        return self.geco((y**2).mean(), a=y[:, 0].exp().mean(), v=y[:, 1:3].mean(0), i=y[:, 3].mean()).loss


def train(model: Model, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()
        model.geco.step()


def adam(model: Model) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def through_file(state: object) -> dict:  # type: ignore[type-arg]
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("rule", RULES)
def test_200_steps_equal_100_reload_100(rule: str) -> None:
    torch.manual_seed(0)
    through = Model(rule)
    first = copy.deepcopy(through)
    train(through, adam(through), range(200))

    optimizer = adam(first)
    train(first, optimizer, range(100))
    saved = through_file({"model": first.state_dict(), "optimizer": optimizer.state_dict()})
    second = Model(rule)
    optimizer = adam(second)
    assert second.load_state_dict(saved["model"]) == nn.modules.module._IncompatibleKeys([], [])
    optimizer.load_state_dict(saved["optimizer"])
    train(second, optimizer, range(100, 200))

    torch.testing.assert_close(second.state_dict(), through.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(second.geco.state, through.geco.state, rtol=0, atol=0)
    assert through.geco.state[0].std() > 0.1, "the multipliers hardly moved"


def test_the_state_names_its_constraints_and_holds_nothing_staged() -> None:
    model = Model()
    registers = ("log_multiplier", "average", "decay", "recent", "near", "steps", "trail", "nonfinite")
    expected = {f"{c}.{r}" for c in "avi" for r in registers}
    assert set(model.geco.state_dict()) == expected
    assert set(model.state_dict()) == {"net.weight", "net.bias"} | {f"geco.{key}" for key in expected}
    assert model.geco.state_dict()["v.average"].shape == (2,)
    before = copy.deepcopy(model.geco.state_dict())
    model(torch.randn(8, 3))
    torch.testing.assert_close(model.geco.state_dict(), before, rtol=0, atol=0)


def test_a_saved_state_does_not_move_with_the_object() -> None:
    model = Model()
    saved = model.geco.state_dict()
    kept = copy.deepcopy(saved)
    train(model, adam(model), range(3))
    torch.testing.assert_close(saved, kept, rtol=0, atol=0)


def test_loading_drops_what_was_staged() -> None:
    geco, other = GECO({"a": Constraint(upper=1.0)}), GECO({"a": Constraint(upper=1.0)})
    geco(torch.tensor(1.0), a=torch.tensor(50.0))
    geco.load_state_dict(other.state_dict())
    for g in (geco, other):
        g(torch.tensor(1.0), a=torch.tensor(2.0))
        g.step()
    torch.testing.assert_close(geco.state_dict(), other.state_dict(), rtol=0, atol=0)


WRONG = {
    "another name": (GECO({"b": Constraint(upper=1.0)}), r"constraints a .*has b"),
    "one more": (GECO({"a": Constraint(upper=1.0), "b": Constraint(upper=1.0)}), r"constraints a .*has a, b"),
    "another rule": (GECO({"a": Constraint(upper=1.0)}, rule="algorithm1"), r"recent.*has a with average"),
    "another shape": (GECO({"a": Constraint(upper=torch.ones(2))}), r"a\.\w+ has shape \(2,\).*\(1,\) here"),
    "another kind": (GECO({"a": Constraint(lower=0.0, upper=1.0)}), r"a\.\w+ has shape \(2,\).*\(1,\) here"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("nested", [False, True])
def test_a_state_of_other_constraints_is_refused_in_one_line_and_nothing_is_loaded(case: str, nested: bool) -> None:
    saved, message = WRONG[case]
    saved.state.fill_(7)
    geco = GECO({"a": Constraint(upper=1.0)})
    source, target = (nn.ModuleDict({"geco": saved}), nn.ModuleDict({"geco": geco})) if nested else (saved, geco)
    before = copy.deepcopy(geco.state_dict())
    with pytest.raises(ValueError, match=message) as error:
        target.load_state_dict(source.state_dict())
    assert "\n" not in str(error.value)
    torch.testing.assert_close(geco.state_dict(), before, rtol=0, atol=0)


def test_a_state_without_any_geco_is_refused() -> None:
    state = {k: v for k, v in Model().state_dict().items() if not k.startswith("geco.")}
    with pytest.raises(ValueError, match="has none with nothing"):
        Model().load_state_dict(state)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "to float16", "to bfloat16 like"])
def test_the_state_keeps_float32_when_a_parent_is_cast(cast: str) -> None:
    model = Model()
    train(model, adam(model), range(5))
    before = {name: b.clone() for name, b in model.geco.named_buffers()}
    if cast.startswith("to"):
        model.to(torch.float16 if cast == "to float16" else torch.empty(0, dtype=torch.bfloat16))
    else:
        getattr(model, cast)()
    assert model.net.weight.dtype != torch.float32
    for name, buffer in model.geco.named_buffers():
        assert buffer.dtype == torch.float32
        assert torch.equal(buffer, before[name]), "cast forth and back"
    values = {"a": torch.tensor(2.0), "v": torch.ones(2), "i": torch.tensor(1.0)}
    dtype = model.net.weight.dtype
    out = model.geco(torch.tensor(1.0, dtype=dtype), **{k: v.to(dtype) for k, v in values.items()})
    assert out.loss.dtype == (torch.float64 if cast == "double" else torch.float32)
    model.geco.step()


def test_the_device_is_followed() -> None:
    model = Model().to("meta")
    assert {b.device.type for b in model.geco.buffers()} == {"meta"}
    model = Model().half().to("meta")
    assert {(b.device.type, b.dtype) for b in model.geco.buffers()} == {("meta", torch.float32)}
    model.to_empty(device="cpu")
    assert {b.device.type for b in model.geco.buffers()} == {"cpu"}


def test_it_can_be_made_under_another_default_device() -> None:
    given = constraints()
    with torch.device("meta"):
        geco = GECO(given)
    assert {b.device.type for b in geco.buffers()} == {"meta"}


@pytest.mark.parametrize("staged", [False, True])
def test_a_deep_copy_is_independent(staged: bool) -> None:
    model = Model()
    train(model, adam(model), range(5))
    if staged:
        model(torch.randn(8, 3))
    twin = copy.deepcopy(model.geco)
    before = copy.deepcopy(twin.state_dict())
    train(model, adam(model), range(5))
    torch.testing.assert_close(twin.state_dict(), before, rtol=0, atol=0)
    twin.step()
    assert (twin.state_dict()["a.average"] != before["a.average"]).item() == staged


@pytest.mark.parametrize("rule", RULES)
def test_autocast_leaves_the_arithmetic_in_float32(rule: str) -> None:
    torch.manual_seed(0)
    plain = Model(rule)
    mixed = copy.deepcopy(plain)
    x = torch.randn(8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixed.net(x)
        assert y.dtype == torch.bfloat16
        out = mixed.geco((y**2).mean(), a=y[:, 0].exp().mean(), v=y[:, 1:3].mean(0), i=y[:, 3].mean())
        assert out.loss.dtype == torch.float32
        assert all(v.dtype == torch.float32 for v in out.violations.values())
        out.loss.backward()
        mixed.geco.step()
    y = y.detach()
    plain.geco((y**2).mean(), a=y[:, 0].exp().mean(), v=y[:, 1:3].mean(0), i=y[:, 3].mean())
    plain.geco.step()
    torch.testing.assert_close(mixed.geco.state_dict(), plain.geco.state_dict(), rtol=2e-2, atol=2e-2)
    assert mixed.net.weight.grad is not None and mixed.net.weight.grad.isfinite().all()


def test_autocast_keeps_values_that_bfloat16_would_round() -> None:
    geco = GECO({"a": Constraint(upper=1.0)}, rule="algorithm1")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = geco(torch.tensor(1.0), a=torch.tensor(1.0005))
        geco.step()
    assert out.violations["a"].item() == pytest.approx(0.0005, rel=1e-3)
    assert out.loss.item() == pytest.approx(1.0005, rel=1e-6)
    assert geco.state[1].item() == pytest.approx(0.0005, rel=1e-3)
