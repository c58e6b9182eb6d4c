"""Two gloo processes: one weighted global mean, the same multipliers everywhere (defect 6)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bridle.dial import Dial, DialledGECO
from bridle.geco import GECO, Constraint

WORLD = 2
STEPS = 12
RULES = ["pi", "algorithm1"]
SIZES = (5, 19)  # examples of rank 0, of rank 1


def make(rule: str) -> GECO:
    return GECO({"a": Constraint(upper=1.0), "v": Constraint(lower=torch.tensor([1.0, 2.0]))}, rule=rule)


def examples(step: int) -> tuple[Tensor, Tensor]:
    """The global batch: what both ranks hold together, quite different on either."""
    generator = torch.Generator().manual_seed(step)
    a, v = torch.rand(sum(SIZES), generator=generator), torch.rand(sum(SIZES), 2, generator=generator)
    a[: SIZES[0]] += 3
    return a, v


def stage(geco: GECO, a: Tensor, v: Tensor) -> None:
    geco(torch.tensor(1.0), weight=len(a), a=a.mean(), v=v.mean(0))


def make_dialled() -> DialledGECO:
    return DialledGECO({"a": Constraint(upper=1.0)}, Dial({"a": (0.1, 0.4)}, points=3))


def stage_dialled(geco: DialledGECO, a: Tensor, v: Tensor) -> None:
    geco(a.square(), position=v[:, :1], a=a)


def local(rank: int, step: int) -> tuple[Tensor, Tensor]:
    rows = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], None)
    a, v = examples(step)
    return a[rows], v[rows]


class Holder(nn.Module):
    """A model that holds its GECO inside what DistributedDataParallel wraps."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.geco = make("algorithm1")

    def forward(self, a: Tensor, v: Tensor) -> Tensor:
        return self.geco(self.scale**2, weight=len(a), a=a.mean() * self.scale, v=v.mean(0) * self.scale).loss


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    result: dict[str, dict[str, Tensor]] = {}
    for rule in RULES:
        geco = make(rule)
        for step in range(STEPS):
            stage(geco, *local(rank, step))
            geco.step()
        result[f"weighted {rule}"] = geco.state_dict()

    geco = make("pi")
    for step in range(STEPS):
        stage(geco, *local(rank, step))
        geco.step(skip=torch.tensor(float(rank == 1)) if step == 3 else None)
    result["rank 1 skips step 3"] = geco.state_dict()

    geco = make("pi")
    for step in range(STEPS):
        if rank == 1 or step != 3:
            stage(geco, *local(rank, step))
        geco.step()
    result["rank 0 staged nothing at step 3"] = geco.state_dict()

    geco = make("pi")
    for step in range(STEPS):
        a, v = local(rank, step)
        stage(geco, a * float("nan") if rank == 0 and step == 3 else a, v)
        geco.step()
    result["rank 0 is nan at step 3"] = geco.state_dict()

    holder = Holder()
    wrapped = DistributedDataParallel(holder)
    for step in range(STEPS):
        a, v = local(rank, step)
        for half in (slice(0, 2), slice(2, None)):  # accumulated calls, without no_sync
            wrapped(a[half], v[half]).backward()
        holder.geco.step()
    result["inside ddp"] = holder.geco.state_dict()

    dialled = make_dialled()
    for step in range(STEPS):
        stage_dialled(dialled, *local(rank, step))
        dialled.step(skip=torch.tensor(float(rank == 1)) if step == 3 else None)
    result["dialled"] = dialled.state_dict()

    torch.save(result, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    if not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(WORLD)]


def single(rule: str, leave_out: int | None = None) -> GECO:
    geco = make(rule)
    for step in range(STEPS):
        if step != leave_out:
            stage(geco, *examples(step))
            geco.step()
    return geco


def assert_close(got: dict[str, Tensor], geco: GECO) -> None:
    torch.testing.assert_close(got, geco.state_dict(), rtol=1e-4, atol=1e-5)


def test_every_scenario_ends_bit_identical_on_both_ranks(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    assert len(ranks[0]) == 7
    for scenario, state in ranks[0].items():
        torch.testing.assert_close(state, ranks[1][scenario], rtol=0, atol=0, msg=scenario)


@pytest.mark.parametrize("rule", RULES)
def test_two_ranks_equal_one_process_with_the_whole_batch(ranks: list[dict[str, dict[str, Tensor]]], rule: str) -> None:
    assert_close(ranks[0][f"weighted {rule}"], single(rule))
    rank0_alone = make(rule)
    stage(rank0_alone, *local(0, 0))
    rank0_alone.step()
    first = make(rule)
    stage(first, *examples(0))
    first.step()
    assert not torch.allclose(rank0_alone.state, first.state), "the ranks hold the same data: this shows nothing"


def test_if_one_rank_skips_all_do(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    assert_close(ranks[0]["rank 1 skips step 3"], single("pi", leave_out=3))


def test_a_rank_that_staged_nothing_weighs_nothing(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    geco = make("pi")
    for step in range(STEPS):
        stage(geco, *(local(1, step) if step == 3 else examples(step)))
        geco.step()
    assert_close(ranks[0]["rank 0 staged nothing at step 3"], geco)


def test_a_bad_batch_on_one_rank_is_left_out_on_all(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    expected = single("pi", leave_out=3)
    expected.nonfinite[0] = 1
    assert_close(ranks[0]["rank 0 is nan at step 3"], expected)
    assert ranks[1]["rank 0 is nan at step 3"]["a.nonfinite"].tolist() == [1]


def test_the_buffer_broadcast_of_ddp_leaves_the_staged_values_alone(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    assert_close(ranks[0]["inside ddp"], single("algorithm1"))


def test_so_it_is_for_a_dial(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    geco = make_dialled()
    for step in range(STEPS):
        if step != 3:
            stage_dialled(geco, *examples(step))
            geco.step()
    assert_close(ranks[0]["dialled"], geco)
