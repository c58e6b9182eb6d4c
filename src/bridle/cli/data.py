"""``bridle data``"""

from __future__ import annotations

import inspect
import math

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import bridle.data
from bridle.cli.parsing import make_parser, nearest_first, parse
from bridle.cli.settings import data_from
from bridle.data import Batch, DataSet, Split, SplitName, TripletSplit
from bridle.data.triplets import DEGREES
from bridle.errors import ConfigError
from bridle.reports.finish import save_image
from bridle.reports.grids import image_grid, side_by_side

__all__ = ["contact_sheet", "run"]

_WHAT = ("list", "show")
_MARGIN, _GAP, _INNER_GAP, _LINE, _FONT, _HEIGHT = 12, 22, 6, 18, 13, 56


def run(arguments: list[str]) -> None:
    """``bridle data list`` prints the data sets; ``bridle data show NAME`` draws examples of one."""
    what, *rest = arguments or ["--help"]
    if what in ("-h", "--help"):
        print("usage: bridle data list\n       bridle data show NAME [--data.SETTING VALUE ...] [--out grid.png]\n")
        print("List the data sets, or draw examples of one. See also: bridle data show --help")
    elif what == "list":
        parse(make_parser("data list", "List the data sets."), rest)
        _list()
    elif what == "show":
        _show(rest)
    else:
        raise ConfigError(f"unknown word {what!r}: there are {nearest_first(what, _WHAT)}")


def contact_sheet(data: DataSet, name: SplitName, n: int, seed: int = 0) -> Image.Image:
    """Random examples of a split, each over its label; where there is a context, it stands before the image.

    Of a triplet the labels of all three digits are shown, and the angle if there is one.

    Arguments:
        data: The data set.
        name: The split.
        n: How many examples; no more than the split has are shown.
        seed: Which ones.
    """
    split = data.split(name)
    index = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:n]
    batch = split.batch(index)
    x = batch.x if data.colored else side_by_side(batch.x)
    tiles = [_tile(None if batch.context is None else batch.context[i], x[i]) for i in range(len(x))]
    captions = _captions(split, index, batch)

    font = ImageFont.load_default(size=_FONT)
    width = max(tiles[0].width, *(math.ceil(font.getlength(caption)) for caption in captions))
    height = tiles[0].height + _LINE
    columns = max(1, round(math.sqrt(len(tiles) * height / width)))
    rows = math.ceil(len(tiles) / columns)
    title = _title(data, name, split)
    size = (
        2 * _MARGIN + max(columns * (width + _GAP) - _GAP, math.ceil(font.getlength(title))),
        2 * _MARGIN + _LINE + _GAP + rows * (height + _GAP) - _GAP,
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=font)
    for i, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left = _MARGIN + i % columns * (width + _GAP)
        top = _MARGIN + _LINE + _GAP + i // columns * (height + _GAP)
        sheet.paste(tile, (left, top))
        draw.text((left, top + tile.height + 2), caption, fill="black", font=font)
    return sheet


def _list() -> None:
    sets = [cls for cls in vars(bridle.data).values() if isinstance(cls, type) and issubclass(cls, DataSet)]
    sets = [cls for cls in sets if not inspect.isabstract(cls)]
    width = max(len(cls.__name__) for cls in sets)
    for cls in sorted(sets, key=lambda cls: cls.__name__.lower()):
        summary = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).replace("``", "")
        print(f"{cls.__name__:<{width}}  {summary}")


def _show(arguments: list[str]) -> None:
    parser = make_parser("data show", "Draw examples of a data set with their labels.")
    parser.add_subclass_arguments(DataSet, "data", required=True, help="The data set: a name, or an import path.")
    parser.add_argument("--split", type=SplitName, default="train", help="Which split.")
    parser.add_argument("--n", type=int, default=32, help="How many examples.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of their choice.")
    parser.add_argument("--out", type=str, default="grid.png", help="The picture.")
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--data", *arguments]  # the name may come without its option
    namespace = parse(parser, arguments, {"data": DataSet})
    if namespace.n < 1:
        raise ConfigError(f"--n must be at least 1, got {namespace.n}")
    data = data_from(namespace)
    print(f"written: {save_image(contact_sheet(data, namespace.split, namespace.n, namespace.seed), namespace.out)}")


def _title(data: DataSet, name: SplitName, split: Split) -> str:
    def shape(sizes: tuple[int, ...]) -> str:
        return "x".join(map(str, sizes))

    context = "" if split.context_shape is None else f"context {shape(split.context_shape)}, "
    classes = "no labels" if data.classes is None else f"{data.classes:,} classes"
    return (
        f"{type(data).__name__}, {name}: {len(split):,} examples, {context}image {shape(split.image_shape)}, {classes}"
    )


def _captions(split: Split, index: Tensor, batch: Batch) -> list[str]:
    if isinstance(split, TripletSplit):
        digits = split.digits[index].tolist()
        context, target = (
            [[str(d[place]) for place in places] for d in digits] for places in (split.context, split.target)
        )
        before = [f"{' '.join(c)} | " if c else "" for c in context]
        after = [f", {DEGREES * d[1]}°" if split.turned else "" for d in digits]
        return [b + " ".join(t) + a for b, t, a in zip(before, target, after, strict=True)]
    return [""] * len(index) if batch.label is None else [str(label) for label in batch.label.tolist()]


def _tile(context: Tensor | None, x: Tensor) -> Image.Image:
    image = _magnified(x)
    if context is None:
        return image
    before = _magnified(context)
    tile = Image.new("RGB", (before.width + _INNER_GAP + image.width, max(before.height, image.height)), "white")
    tile.paste(before, (0, 0))
    tile.paste(image, (before.width + _INNER_GAP, 0))
    return tile


def _magnified(image: Tensor) -> Image.Image:
    return image_grid(image[None], scale=max(1, round(_HEIGHT / image.shape[1])))
