"""CelebA: drawn images in the official layout, and files that are not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bridle.data import CelebA, SplitName
from bridle.data import celeba as module
from bridle.errors import ConfigError

Refused = Callable[..., AbstractContextManager[None]]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
PARTS = [0, 0, 1, 0, 2, 2, 0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven aligned images: number i is 30 i in red and 200 in blue, with a bright frame outside the crop."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(len(PARTS))]
    for i, name in enumerate(names):
        pixels = np.full((218, 178, 3), 255, np.uint8)
        pixels[32:-32, 12:-12] = [30 * i, 0, 200]  # the crop, and 3 pixels around it, over which a JPEG blurs
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name, quality=95, subsampling=0)
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, PARTS, strict=True)))
    rows = "".join(f"{n}  {1 if i % 2 else -1} {1 if i > 3 else -1}\n" for i, n in enumerate(names))
    (folder / "list_attr_celeba.txt").write_text(f"{len(names)}\nSmiling Young \n{rows}")
    return folder


def _numbers(data: CelebA, name: SplitName) -> list[int]:
    return (data.split(name).images[:, 0, 0, 0] / 30).round().int().tolist()


def test_partition_crop_and_size(root: Path) -> None:
    data = CelebA(str(root))
    assert {name: _numbers(data, name) for name in SPLITS} == {"train": [0, 1, 3, 6], "validation": [2], "test": [4, 5]}
    split = data.split("train")
    assert split.image_shape == (3, 64, 64) and split.bin == 1 / 255 and split.context_shape is None
    expected = torch.tensor([30.0, 0, 200])[:, None, None]
    assert (split.images[1] - expected).abs().max() <= 4  # nothing of the frame
    assert data.classes is None and split.labels is None
    assert data.split("train") is split
    assert CelebA(str(root), size=20).split("test").image_shape == (3, 20, 20)


def test_crop_is_central_at_every_size(root: Path) -> None:
    # One white line above and one left of the crop, one dark pixel line inside it.
    pixels = np.full((218, 178, 3), 255, np.uint8)
    pixels[35:183, 15:163] = 0
    Image.fromarray(pixels).save(root / "img_align_celeba" / "000001.jpg", quality=100, subsampling=0)
    for size in (16, 32, 64, 148):
        image = CelebA(str(root), size=size).split("train").images[0].float()
        assert image.max() < 64 and image[:, 1:-1, 1:-1].max() < 16
    assert image.max() < 8


def test_attribute_is_the_label(root: Path) -> None:
    data = CelebA(str(root), attribute="Young")
    assert data.classes == 2
    for name, expected in (("train", [0, 0, 0, 1]), ("validation", [0]), ("test", [1, 1])):
        batch = data.split(name).batch(torch.arange(len(expected)))  # type: ignore[arg-type]
        assert batch.label is not None and batch.label.tolist() == expected and batch.label.dtype == torch.int64
    assert CelebA(str(root), attribute="Smiling").split("test").labels.tolist() == [0, 1]  # type: ignore[union-attr]


def test_folder_above_and_environment(root: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(CelebA(str(root.parent)).split("test")) == 2
    monkeypatch.setenv("BRIDLE_DATA", str(root.parent))
    assert len(CelebA().split("test")) == 2


def test_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _numbers(CelebA(str(root)), "train") == [0, 1, 3, 6]

    def read_image(*arguments: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(module, "read_image", read_image)
    assert _numbers(CelebA(str(root)), "train") == [0, 1, 3, 6]
    with pytest.raises(AssertionError, match="read again"):
        CelebA(str(root)).split("test")


def test_without_attributes_their_file_is_not_needed(root: Path, refused: Refused) -> None:
    (root / "list_attr_celeba.txt").unlink()
    assert len(CelebA(str(root)).split("test")) == 2
    with refused(root / "list_attr_celeba.txt", "cannot be read"):
        CelebA(str(root), attribute="Young").split("test")


def test_bad_files(root: Path, nowhere: Path, refused: Refused) -> None:
    with refused("not found", "list_eval_partition.txt", "--data.root"):
        CelebA().split("train")
    images, partition = root / "img_align_celeba", root / "list_eval_partition.txt"
    (images / "000005.jpg").rename(root / "kept.jpg")
    with refused(images, "lacks 1 of 7 images", "000005.jpg"):
        CelebA(str(root)).split("train")
    (images / "000005.jpg").write_bytes((root / "kept.jpg").read_bytes()[:500])
    assert len(CelebA(str(root)).split("train")) == 4
    with refused("000005.jpg", "truncated", "again"):
        CelebA(str(root)).split("test")
    Image.new("RGB", (64, 64)).save(images / "000005.jpg")
    with refused("000005.jpg", "64x64", "crop of 148"):
        CelebA(str(root)).split("test")
    content = partition.read_text()
    for text in ("", "000001.jpg 0 1\n", "000001.jpg 3\n"):
        partition.write_text(text)
        with refused(partition, "no partition"):
            CelebA(str(root)).split("train")
    partition.write_bytes(b"\xff\xfe\xfa")
    with refused(partition, "no text"):
        CelebA(str(root)).split("train")
    partition.write_text("000001.jpg 0\n000002.jpg 2\n")
    with refused("no image for validation"):
        CelebA(str(root)).split("train")
    partition.write_text(content)
    images.rename(root / "elsewhere")
    with refused("img_align_celeba", "no folder", "unpack"):
        CelebA(str(root)).split("train")


def test_bad_attributes(root: Path, refused: Refused) -> None:
    path = root / "list_attr_celeba.txt"
    with refused("'Smilling'", "Smiling, Young", kind=ConfigError):
        CelebA(str(root), attribute="Smilling").split("train")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    with refused(path, "no line for 000007.jpg"):
        CelebA(str(root), attribute="Young").split("train")
    path.write_text("7\nSmiling Young\n000001.jpg 1\n")
    with refused(path, "no attributes"):
        CelebA(str(root), attribute="Young").split("train")


def test_bad_size(refused: Refused) -> None:
    with refused("size is 0", kind=ConfigError):
        CelebA(size=0)
