"""The sets of triplets: their arithmetic for every example, their splits, and what a seed decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridle.data import (
    MNIST,
    ColorMNIST,
    Digits,
    MNISTRotate,
    MNISTSum,
    MNISTSumHard,
    MNISTTriplets,
    SplitName,
    TensorSplit,
    TripletSplit,
)
from bridle.data.composed import Composed
from bridle.data.rotation import rotate
from bridle.errors import ConfigError

Refused = Callable[..., AbstractContextManager[None]]
Write = Callable[[Path, dict[str, bytes]], Path]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
KINDS = [ColorMNIST, MNISTTriplets, MNISTSum, MNISTSumHard, MNISTRotate]
SUMS = [MNISTTriplets, MNISTSum, MNISTSumHard]


@pytest.fixture(scope="module")
def base() -> Digits:
    return Digits()


def _split(data: Composed, name: SplitName) -> TripletSplit:
    split = data.split(name)
    assert isinstance(split, TripletSplit)
    return split


def _all(split: TripletSplit | TensorSplit) -> Any:
    return split.batch(torch.arange(len(split)))


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_the_base_splits(kind: type[Composed], name: SplitName, base: Digits) -> None:
    data = kind("Digits")
    split, source = _split(data, name), _all(base.split(name))
    batch = _all(split)
    digits = source.x[:, 0][split.triplets]  # (N, 3, H, W)
    turned = rotate(digits[:, 2:], 30 * split.digits[:, 1])
    expected = {
        ColorMNIST: (digits, None),
        MNISTTriplets: (digits, None),
        MNISTSum: (digits[:, 2:], digits[:, :2]),
        MNISTSumHard: (digits[:, :2], digits[:, 2:]),
        MNISTRotate: (turned, digits[:, :2]),
    }
    x, context = expected[kind]
    assert torch.equal(batch.x, x)
    assert (batch.context is None) if context is None else torch.equal(batch.context, context)
    assert torch.equal(split.digits, source.label[split.triplets])
    assert split.triplets.dtype == torch.int64 and split.triplets.shape == (len(base.split(name)), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_protocol(kind: type[Composed]) -> None:
    data = kind("Digits")
    for name in SPLITS:
        split = _split(data, name)
        batch = _all(split)
        assert len(split) == len(split.base) and split.bin == 1 / 16 and data.split(name) is split
        assert batch.x.shape == (len(split), *split.image_shape) and batch.x.dtype == torch.float32
        assert batch.x.min() == 0 and 0.99 < batch.x.max() <= 1
        assert (batch.context is None) == (split.context_shape is None)
        if batch.context is not None:
            assert batch.context.shape == (len(split), *split.context_shape)
            assert batch.context.min() == 0 and batch.context.max() == 1
        assert batch.label.dtype == torch.int64 and torch.equal(batch.label, split.labels)
        assert data.classes is not None and batch.label.min() >= 0 and batch.label.max() < data.classes


@pytest.mark.parametrize("name", SPLITS)
def test_arithmetic_of_every_example(name: SplitName) -> None:
    for kind in SUMS:
        split = _split(kind("Digits"), name)
        l0, l1, l2 = split.digits.unbind(1)
        assert torch.equal(l2, (l0 + l1) % 10)
        assert torch.equal(split.labels, l2 if kind is MNISTSum else 10 * l0 + l1)
    color = _split(ColorMNIST("Digits"), name)
    assert torch.equal(color.labels, color.digits @ torch.tensor([100, 10, 1]))
    turned = _split(MNISTRotate("Digits"), name)
    assert torch.equal(turned.digits[:, 2], turned.digits[:, 0])
    assert torch.equal(turned.labels, turned.digits[:, 0])
    assert (turned.triplets[:, 2] != turned.triplets[:, 0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_base_image_is_first_once_and_second_once(kind: type[Composed]) -> None:
    split = _split(kind("Digits"), "train")
    places = 3 if kind is ColorMNIST else 2
    for place in range(places):
        assert torch.equal(split.triplets[:, place].sort().values, torch.arange(len(split)))
    assert not torch.equal(split.triplets[:, 0], split.triplets[:, 1])


@pytest.mark.parametrize("kind", [MNISTSum, MNISTRotate])
def test_third_is_drawn_evenly(kind: type[Composed]) -> None:
    # Of 1,297 draws from classes of 130: the images never drawn are a share of 1/e.
    split = _split(kind("Digits"), "train")
    never = 1 - split.triplets[:, 2].unique().numel() / len(split)
    assert abs(never - 0.368) < 0.04
    one = kind("Digits").base
    counts = torch.zeros(250)
    for seed in range(99):
        data = kind("Digits", seed=seed)
        data.base = one
        counts += _split(data, "test").triplets[:, 2].bincount(minlength=250)
    assert (counts > 40).all()


def test_splits_share_no_base_image() -> None:
    data = MNISTSum("Digits")
    seen = [{x.numpy().tobytes() for x in _all(_split(data, name)).context.flatten(0, 1)} for name in SPLITS]
    assert all(len(images) == len(_split(data, name)) for images, name in zip(seen, SPLITS, strict=True))
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


@pytest.mark.parametrize("kind", KINDS)
def test_seed(kind: type[Composed]) -> None:
    first, again, other = (_split(kind("Digits", seed=s), "test") for s in (3, 3, 4))
    assert torch.equal(first.triplets, again.triplets)
    assert (first.triplets[:, 1] == other.triplets[:, 1]).float().mean() < 0.05
    assert (first.triplets[:, 2] == other.triplets[:, 2]).float().mean() < 0.15


def test_the_sums_share_their_triplets() -> None:
    first, *others = (_split(kind("Digits"), "train").triplets for kind in SUMS)
    assert all(torch.equal(first, other) for other in others)


def test_triplets_are_the_same_everywhere() -> None:
    # Frozen: a change of these numbers changes every published result on these sets.
    found = {kind.__name__: _digest(_split(kind("Digits"), "train").triplets) for kind in KINDS}
    assert found == {
        "ColorMNIST": "d622a26e5573",
        "MNISTTriplets": "26caad3d8e20",
        "MNISTSum": "26caad3d8e20",
        "MNISTSumHard": "26caad3d8e20",
        "MNISTRotate": "4f8963b1d894",
    }


def _digest(t: Tensor) -> str:
    return hashlib.sha256(t.numpy().tobytes()).hexdigest()[:12]


@pytest.mark.parametrize("kind", KINDS)
def test_device_follows(kind: type[Composed]) -> None:
    # No accelerator here: the meta device tells whether anything stays behind.
    split = _split(kind("Digits"), "test")
    moved = split.to(torch.device("meta"))
    batch = moved.batch(torch.arange(7, device="meta"))
    assert {t.device.type for t in batch if t is not None} == {"meta"}
    assert moved.digits.is_meta and moved.image_shape == split.image_shape and moved.bin == split.bin
    assert batch.x.shape == (7, *split.image_shape)


def test_on_mnist(real_data: str) -> None:
    source = MNIST().split("test")
    split = _split(MNISTRotate(), "test")
    assert len(split) == 10_000 and split.image_shape == (1, 28, 28) and split.context_shape == (2, 28, 28)
    assert split.bin == 1 / 255
    index = torch.arange(50)
    batch, triplets = split.batch(index), split.triplets[:50]
    assert torch.equal(batch.context[:, 1], source.batch(triplets[:, 1]).x[:, 0])  # type: ignore[index]
    straight = split.digits[:50, 1] == 0
    assert straight.any()
    assert torch.allclose(batch.x[straight], source.batch(triplets[straight, 2]).x, atol=1e-5)
    # One of the 55,000 with every pair of digits, and every angle.
    train = _split(MNISTRotate(), "train")
    assert (10 * train.digits[:, 0] + train.digits[:, 1]).unique().numel() == 100


def test_settings_of_the_base(tmp_path: Path, drawn_mnist: dict[str, bytes], write: Write, refused: Refused) -> None:
    root = str(write(tmp_path, drawn_mnist))
    assert len(ColorMNIST(root=root).split("train")) == 25
    with refused("CIFAR10", "MNIST, Digits", kind=ConfigError):
        ColorMNIST("CIFAR10")  # type: ignore[arg-type]
    with refused("Digits", "leave out root", kind=ConfigError):
        MNISTSum("Digits", root=root)
    # Five validation images of five digits: no sum of 1, and no other instance of any.
    with refused("at least 1 example of", "larger base set"):
        MNISTSum(root=root).split("validation")
    with refused("at least 2 examples of"):
        MNISTRotate(root=root).split("validation")


def test_constructor_reads_nothing(tmp_path: Path) -> None:
    MNISTRotate(root=str(tmp_path / "absent"))
