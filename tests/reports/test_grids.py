from __future__ import annotations

import numpy as np
import pytest
import torch

from bridle.reports.grids import image_grid, pair_grid


def pixels(image) -> np.ndarray:
    return np.asarray(image)


def test_images_stand_in_rows_magnified_without_smoothing():
    images = torch.arange(6.0).view(6, 1, 1, 1).div(5).expand(6, 1, 8, 8)
    grid = pixels(image_grid(images, columns=3, scale=2))
    assert grid.shape == (2 * 16 + 2, 3 * 16 + 2 * 2)
    for i in range(6):
        top, left = (i // 3) * 18, (i % 3) * 18
        assert (grid[top : top + 16, left : left + 16] == round(i / 5 * 255)).all()
    checker = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    assert pixels(image_grid(checker, scale=2)).tolist() == [[0, 0, 255, 255]] * 2 + [[255, 255, 0, 0]] * 2


def test_small_images_are_made_large_enough_to_read():
    assert image_grid(torch.rand(1, 1, 8, 8)).size == (56, 56)
    assert image_grid(torch.rand(1, 3, 64, 64)).size == (64, 64)


def test_three_channels_are_colours_and_other_counts_grey_tiles_side_by_side():
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1
    assert image_grid(red, scale=1).mode == "RGB"
    assert (pixels(image_grid(red, scale=1)) == [255, 0, 0]).all()
    two = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]).unsqueeze(0)
    grid = pixels(image_grid(two, scale=1))
    assert (grid[:, :4] == 0).all() and (grid[:, 4:] == 255).all()


def test_a_ragged_last_row_and_values_out_of_range():
    images = torch.tensor([-1.0, 2.0, float("nan")]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    grid = pixels(image_grid(images, columns=2, scale=1))
    assert grid.shape == (6, 6)
    assert (grid[:2, :2] == 0).all() and (grid[:2, 4:] == 255).all() and (grid[4:, :2] == 0).all()
    assert not np.isin(grid[4:, 4:], [0, 255]).any()


def test_pairs_stand_one_over_the_other():
    x, x_hat = torch.ones(4, 1, 2, 2), torch.zeros(4, 1, 2, 2)
    grid = pixels(pair_grid(x, x_hat, columns=2, scale=1))
    assert grid.shape == (2 * 6 + 6, 6)
    for top in (0, 12):
        assert (grid[top : top + 2, :2] == 255).all() and (grid[top + 4 : top + 6, :2] == 0).all()


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (8, 8), (3, 8, 8)])
def test_a_tensor_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        image_grid(torch.zeros(shape))


def test_columns_scale_and_pairs_are_checked():
    with pytest.raises(ValueError, match="at least 1"):
        image_grid(torch.zeros(1, 1, 2, 2), columns=0)
    with pytest.raises(ValueError, match="at least 1"):
        image_grid(torch.zeros(1, 1, 2, 2), scale=0)
    with pytest.raises(ValueError, match="differ in shape"):
        pair_grid(torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 2, 2))
