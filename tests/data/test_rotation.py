"""Rotation against SciPy's, which is slow and knows nothing of batches."""

from __future__ import annotations

import pytest
import scipy.ndimage
import torch
from torch import Tensor

from bridle.data import Digits
from bridle.data.rotation import rotate


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 2, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [8, 9])
def test_against_scipy(side: int) -> None:
    images = torch.rand(24, 2, side, side, generator=torch.Generator().manual_seed(0))
    degrees = torch.arange(24) * 15
    turned = rotate(images, degrees)
    for image, angle, found in zip(images, degrees, turned, strict=True):
        for channel, result in zip(image, found, strict=True):
            expected = scipy.ndimage.rotate(
                channel.double().numpy(), int(angle), reshape=False, order=1, mode="grid-constant"
            )
            assert (result - torch.from_numpy(expected)).abs().max() < 1e-5


def test_counter_clockwise_quarters_move_pixels(images: Tensor) -> None:
    for quarters in range(-1, 6):
        turned = rotate(images, torch.full((12,), 90 * quarters))
        assert torch.allclose(turned, images.rot90(quarters, (2, 3)), atol=1e-5)


def test_twelve_times_thirty_degrees_close(images: Tensor) -> None:
    assert torch.allclose(rotate(images, torch.full((12,), 12 * 30)), images, atol=1e-5)
    # One turn after the other, each of which blurs: a blob that spans many pixels comes back.
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = torch.exp(-((x - 42) ** 2 + (y - 26) ** 2) / 128)[None, None]
    turned = blob
    for k in range(12):
        assert k == 0 or (turned - blob).abs().max() > 0.3
        turned = rotate(turned, torch.tensor([30]))
    assert (turned - blob).abs().max() < 0.05


def test_range_and_zeros_outside() -> None:
    ones = torch.ones(36, 1, 28, 28)
    turned = rotate(ones, torch.arange(36) * 10)
    assert turned.min() >= 0 and turned.max() <= 1
    assert turned[:, :, 14, 14].eq(1).all()
    assert turned[4, 0, 0, 0] == 0 and turned[4, 0, -1, 0] == 0


def test_each_image_by_its_own_angle() -> None:
    images = Digits().split("test").batch(torch.arange(5)).x
    degrees = torch.tensor([0, 30, 200, -45, 270])
    each = [rotate(image[None], angle[None]) for image, angle in zip(images, degrees, strict=True)]
    assert torch.allclose(rotate(images, degrees), torch.cat(each), atol=1e-6)


def test_not_square() -> None:
    with pytest.raises(ValueError, match="square"):
        rotate(torch.zeros(1, 1, 4, 5), torch.zeros(1))
