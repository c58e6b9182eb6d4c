"""ImageFolder: every kind of image, drawn here; sizes, channels and splits; files that are no image."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bridle.data import ImageFolder, SplitName
from bridle.data import folder as module
from bridle.data.image import image_side, read_image
from bridle.errors import ConfigError

Refused = Callable[..., AbstractContextManager[None]]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def _save(path: Path, pixels: Any, mode: str | None = None, **options: Any) -> Path:
    """Saves an array of bytes, (H, W) or (H, W, C), or an image, as its file's suffix says."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def _fill(folder: Path, count: int, side: int = 8, colour: bool = False) -> Path:
    """Images of which every one is of one value of its own."""
    for i in range(count):
        _save(
            folder / f"{i:04}.png", np.full((side, side, 3) if colour else (side, side), [2 * i, 0, 9] if colour else i)
        )
    return folder


def _values(data: ImageFolder, name: SplitName) -> list[int]:
    return [int(value) for value in data.split(name).images[:, 0, 0, 0]]


# --- one image


def test_identity_on_a_square_of_the_size(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3))
    path = _save(tmp_path / "a.png", pixels)
    image = read_image(path, 9, 3)
    assert image.dtype == torch.uint8 and image.shape == (3, 9, 9) and image.is_contiguous()
    assert np.array_equal(image.movedim(0, -1).numpy(), pixels)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(path, 9, 1)[0].numpy() - luma).max() <= 0.51


@pytest.mark.parametrize("wide", [False, True])
def test_centre_is_cropped(tmp_path: Path, wide: bool) -> None:
    pixels = np.zeros((8, 20), np.uint8)
    pixels[:, 6:14] = 200
    path = _save(tmp_path / "a.png", pixels if wide else pixels.T)
    assert (read_image(path, 8, 1) == 200).all()
    assert (read_image(path, 4, 1) == 200).all()
    assert image_side(path) == 8


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    checks = np.indices((256, 256)).sum(0) % 2 * 255
    small = read_image(_save(tmp_path / "a.png", checks), 16, 1)
    assert (small.float() - 127.5).abs().max() < 8
    gradient = np.broadcast_to(np.arange(256), (256, 256))
    small = read_image(_save(tmp_path / "b.png", gradient), 16, 1).float()
    expected = torch.arange(16) * 16 + 7.5
    assert (small[0, 8] - expected)[1:-1].abs().max() < 1.01
    assert (read_image(_save(tmp_path / "c.png", np.full((4, 4), 7)), 16, 1) == 7).all()  # enlarged


def test_large_jpeg(tmp_path: Path) -> None:
    y, x = np.indices((600, 900)) / 600
    path = _save(tmp_path / "a.jpg", np.stack([255 * y, 170 * x, 255 * (1 - y)], -1), quality=95)
    image = read_image(path, 32, 3).float()
    rows = (torch.arange(32) + 0.5) / 32
    assert (image[0].mean(1) - 255 * rows).abs().max() < 4
    assert (image[2].mean(1) - 255 * (1 - rows)).abs().max() < 4
    assert (image[1].mean(0) - 170 * (0.25 + rows)).abs().max() < 4  # the centre of the width


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "ppm", "JPG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_formats_and_modes(tmp_path: Path, suffix: str, mode: str) -> None:
    if mode == "P" and suffix in ("jpg", "jpeg", "JPG", "ppm"):
        mode = "RGB"
    path = _save(tmp_path / f"a.{suffix}", np.full((8, 8, 3), 255), mode)
    assert (read_image(path, 8, 3).int() - 255).abs().max() <= 2
    assert (read_image(path, 8, 1).int() - 255).abs().max() <= 2


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    assert read_image(_save(tmp_path / "a.png", image), 4, 3)[:, 0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :, :3] = 40
    pixels[:, :4, 3] = 255
    path = _save(tmp_path / "a.png", pixels, mode)
    image = read_image(path, 8, 3)
    assert image[:, 0, 0].tolist() == [40] * 3 and image[:, 0, 7].tolist() == [255] * 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 65535, 32896, 255, 128]] * 6, np.uint16)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    assert read_image(path, 6, 1)[0, 0].tolist() == [0, 1, 255, 128, 1, 0]


def test_floating_point_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with refused(path, "floating-point"):
        read_image(path, 4, 1)


def test_orientation(tmp_path: Path) -> None:
    upright = np.zeros((16, 16), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    path = _save(tmp_path / "a.jpg", np.rot90(upright), exif=exif, quality=100)
    image = read_image(path, 16, 1)[0].int()
    assert image[:6].min() > 240 and image[-6:].max() < 15


def test_damaged_files(tmp_path: Path, refused: Refused) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    for suffix in ("png", "jpg", "bmp", "gif", "webp", "tif"):
        path = _save(tmp_path / f"a.{suffix}", noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with refused(path):
            read_image(path, 8, 3)
    path = tmp_path / "notes.txt"
    path.write_text("not an image\nat all")
    for read in (image_side, lambda p: read_image(p, 8, 3)):
        with refused(path, "not an image", "png"):
            read(path)
        with refused(tmp_path / "absent.png", "No such file"):
            read(tmp_path / "absent.png")


def test_formats_that_run_programs_are_not_opened(tmp_path: Path, refused: Refused) -> None:
    path = _save(tmp_path / "a.eps", np.zeros((4, 4, 3)))
    with refused(path, "not an image"):
        image_side(path)


# --- a folder of them


def test_splits(tmp_path: Path) -> None:
    data = ImageFolder(str(_fill(tmp_path, 100)))
    assert data.classes is None
    assert [len(data.split(name)) for name in SPLITS] == [80, 10, 10]
    values = [value for name in SPLITS for value in _values(data, name)]
    assert sorted(values) == list(range(100)) and values != list(range(100))
    split = data.split("train")
    batch = split.batch(torch.tensor([0, 5]))
    assert split.bin == 1 / 255 and split.image_shape == (1, 8, 8) and split.context_shape is None
    assert batch.x.dtype == torch.float32 and batch.label is None and batch.context is None
    assert batch.x[1].flatten().tolist() == pytest.approx([_values(data, "train")[5] / 255] * 64)
    assert data.split("train") is split


def test_splits_depend_on_the_paths_below_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ImageFolder(str(_fill(tmp_path / "here", 30)))
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    second = ImageFolder(".")
    with pytest.raises(Exception, match="not a folder"):
        first.split("train")
    third = ImageFolder(str(tmp_path / "there"))
    for name in SPLITS:
        assert _values(second, name) == _values(third, name)
    assert _values(second, "test") == [21, 3, 14]


def test_few_added_images_hardly_move_the_others(tmp_path: Path) -> None:
    before = ImageFolder(str(_fill(tmp_path, 100)))
    train = set(_values(before, "train"))
    held_out = set(_values(ImageFolder(str(_fill(tmp_path, 105))), "validation"))
    assert len(held_out & train) <= 2


@pytest.mark.parametrize(("count", "sizes"), [(3, [1, 1, 1]), (4, [2, 1, 1]), (14, [12, 1, 1]), (16, [12, 2, 2])])
def test_small_folders(tmp_path: Path, count: int, sizes: list[int]) -> None:
    data = ImageFolder(str(_fill(tmp_path, count)))
    assert [len(data.split(name)) for name in SPLITS] == sizes
    assert sorted(value for name in SPLITS for value in _values(data, name)) == list(range(count))


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_serve_as_all_splits(tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture) -> None:
    data = ImageFolder(str(_fill(tmp_path, count)))
    with caplog.at_level(logging.WARNING, "bridle"):
        assert [len(data.split(name)) for name in SPLITS] == [count] * 3
    assert len(caplog.messages) == 1 and "validation and test use the training images" in caplog.messages[0]


def test_folders_in_the_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("a/1.png", "a/b/2.png", "3.png", ".hidden.png", ".thumbnails/4.png", "a/.DS_Store"):
        _save(tmp_path / f"{name}.png", np.zeros((8, 8))).rename(tmp_path / name)
    data = ImageFolder(str(tmp_path))
    assert sum(len(data.split(name)) for name in SPLITS) == 3


def test_size(tmp_path: Path) -> None:
    for i, shape in enumerate([(20, 90), (70, 30), (100, 100)]):
        _save(tmp_path / f"{i}.png", np.full(shape, i))
    assert ImageFolder(str(tmp_path)).split("train").image_shape == (1, 20, 20)
    assert ImageFolder(str(tmp_path), size=50).split("train").image_shape == (1, 50, 50)
    for i in range(2):
        (tmp_path / f"{i}.png").unlink()
    assert ImageFolder(str(tmp_path)).split("train").image_shape == (1, 64, 64)
    assert ImageFolder(str(tmp_path), size=100).split("train").image_shape == (1, 100, 100)


def test_damaged_smallest_image_does_not_decide_the_size(tmp_path: Path) -> None:
    _fill(tmp_path, 5, side=20)
    small = _save(tmp_path / "small.png", np.random.default_rng(0).integers(0, 256, (10, 10, 3)))
    small.write_bytes(small.read_bytes()[:120])
    assert image_side(small) == 10
    assert ImageFolder(str(tmp_path)).split("train").image_shape == (1, 20, 20)


def test_channels(tmp_path: Path) -> None:
    _fill(tmp_path, 4)
    _save(tmp_path / "grey.png", np.full((8, 8, 3), 77))
    _save(tmp_path / "grey.jpg", np.random.default_rng(0).integers(0, 256, (8, 8)), "RGB")
    root = str(tmp_path)
    assert ImageFolder(root).split("train").image_shape == (1, 8, 8)
    assert ImageFolder(root, channels=3).split("train").image_shape == (3, 8, 8)
    assert 77 in [value for name in SPLITS for value in _values(ImageFolder(root), name)]
    pixels = np.full((8, 8, 3), 77)
    pixels[3, 3, 2] = 90  # one pixel with a tint
    _save(tmp_path / "colour.png", pixels)
    assert ImageFolder(root).split("train").image_shape == (3, 8, 8)
    assert ImageFolder(root, channels=1).split("train").image_shape == (1, 8, 8)


def test_channels_keep_their_order(tmp_path: Path) -> None:
    data = ImageFolder(str(_fill(tmp_path, 5, colour=True)))
    images = torch.cat([data.split(name).images for name in SPLITS])[:, :, 0, 0]
    assert sorted(images.tolist()) == [[2 * i, 0, 9] for i in range(5)]


def test_files_that_are_no_image_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _fill(tmp_path, 6)
    (tmp_path / "0005.png").write_bytes((tmp_path / "0005.png").read_bytes()[:50])
    (tmp_path / "notes.txt").write_text("two\nlines")
    (tmp_path / "zero.jpg").write_bytes(b"")
    data = ImageFolder(str(tmp_path))
    with caplog.at_level(logging.INFO, "bridle"):
        assert sorted(value for name in SPLITS for value in _values(data, name)) == [0, 1, 2, 3, 4]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "\n" not in warnings[0]
    assert "3 of 8 files skipped" in warnings[0] and "0005.png: truncated" in warnings[0]
    assert any("5 images of 8x8, 1 channel," in message for message in caplog.messages)


def test_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    _fill(tmp_path, 20)
    (tmp_path / "notes.txt").write_text("no image")
    first = ImageFolder(str(tmp_path))
    values = [_values(first, name) for name in SPLITS]

    def read(*arguments: object, **settings: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_image", read)
        patch.setattr(module, "image_side", read)
        with caplog.at_level(logging.WARNING, "bridle"):
            assert [_values(ImageFolder(str(tmp_path)), name) for name in SPLITS] == values
        assert "1 of 21 files skipped" in caplog.messages[-1] and "notes.txt" in caplog.messages[-1]
        with pytest.raises(AssertionError, match="read again"):
            ImageFolder(str(tmp_path), size=4).split("train")
    _save(tmp_path / "0003.png", np.full((8, 8), 250))
    os.utime(tmp_path / "0003.png", (1, 1))
    changed = ImageFolder(str(tmp_path))
    assert sorted(value for name in SPLITS for value in _values(changed, name)) == [
        *(i for i in range(20) if i != 3),
        250,
    ]


def test_pixels_that_were_removed_are_decoded_anew(tmp_path: Path, nowhere: Path) -> None:
    _fill(tmp_path / "images", 5)
    _values(ImageFolder(str(tmp_path / "images")), "train")
    pixels = list((nowhere / "decoded").glob("*.u8"))
    assert [path.stat().st_size for path in pixels] == [5 * 64]  # one grey plane each, the colours are gone
    pixels[0].unlink()
    assert len(_values(ImageFolder(str(tmp_path / "images")), "train")) == 3


def test_nothing_is_left(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "notes.txt").write_text("a")
    _save(tmp_path / "pixels.png", np.random.default_rng(0).integers(0, 256, (9, 9))).write_bytes(
        (tmp_path / "pixels.png").read_bytes()[:60]
    )
    with refused(tmp_path, "among its 2 files", "notes.txt: not an image"):
        ImageFolder(str(tmp_path)).split("train")


def test_bad_folder(tmp_path: Path, refused: Refused) -> None:
    with refused("needs --data.root", kind=ConfigError):
        ImageFolder().split("train")
    with refused(tmp_path / "absent", "not a folder", "--data.root"):
        ImageFolder(str(tmp_path / "absent")).split("train")
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / os.fsdecode(b"two\nlines\xff")).write_bytes(b"")
    with refused(tmp_path / "odd", "among its 1 file;", "two?lines?: not an image"):
        ImageFolder(str(tmp_path / "odd")).split("train")
    with refused(tmp_path / "empty", "is empty", "png"):
        ImageFolder(str(tmp_path / "empty")).split("train")


def test_bad_settings(refused: Refused) -> None:
    with refused("size is 0", "at least 1", kind=ConfigError):
        ImageFolder("photos", size=0)
    with refused("channels is 2", "1", "3", kind=ConfigError):
        ImageFolder("photos", channels=2)  # type: ignore[arg-type]
