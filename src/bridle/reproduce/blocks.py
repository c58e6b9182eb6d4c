"""Figures 3, 5, 6 and 7: blocks of data, reconstructions and samples of ConvDRAW, by objective and constraint."""

from __future__ import annotations

import math
import string
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bridle.data import DataSet
from bridle.reports.grids import image_grid, side_by_side
from bridle.reproduce.exhibit import Claim, Drawn, Exhibit, FinishedRuns, MissingRunError, Table, setting
from bridle.reproduce.measured import holes_of_run
from bridle.reproduce.scales import Scale, Source
from bridle.reproduce.sources import source_data
from bridle.sweeps import RunSpec

__all__ = [
    "Block",
    "CIFAR10Samples",
    "CelebASamples",
    "ColorMNISTSamples",
    "ConstraintBlocks",
    "Made",
    "holes_claim",
    "impact_claim",
]

_TIGHT = 0.0028
"""Panel (e) of figure 7, as printed. Less than one of 256 grey levels; see the caption."""

_COLUMNS = 6
_TILE = 40
_MARGIN = 18
_TEXT, _LINE = 13, 19
_ABREAST = 5
_INK, _FAINT = (36, 41, 47), (89, 99, 110)
_FRE = "GECO+FRE"


@dataclass(frozen=True)
class Block:
    """A block of a figure. ``label``: what the paper says of it; ``spec``: the run it is drawn from, None for data."""

    label: str
    source: Source
    spec: RunSpec | None


@dataclass(frozen=True)
class Made:
    """The numbers of a block's run: root mean squared error (pixel units) and KL (nats per image) of the training
    split, and the ratio of :func:`bridle.evaluation.prior_holes`."""

    block: Block
    rmse: float
    kl: float
    holes: float


class _Blocks(Exhibit):
    """What figures 3, 5, 6 and 7 share: blocks side by side, each with a letter, its words and its numbers."""

    @abstractmethod
    def blocks(self, scale: Scale) -> list[Block]:
        """The blocks from left to right; none where the scale lacks the data."""

    @abstractmethod
    def images(self, block: Block, x: Tensor, finished: FinishedRuns) -> Tensor:
        """The images of a block, row by row of six: shape ``(N, C, H, W)``. ``x``: test images, at least 36."""

    @abstractmethod
    def remarks(self) -> list[str]:
        """What is seen, and what differs from the paper's figure."""

    def claims(self, source: Source, made: Sequence[Made]) -> list[Claim]:
        """What the paper says, judged by the blocks of one data set."""
        return [holes_claim(source.name, [(m.block.label, m.holes) for m in made if m.block.source == source])]

    def runs(self, scale: Scale) -> list[RunSpec]:
        return list({b.spec.name: b.spec for b in self.blocks(scale) if b.spec is not None}.values())

    def draw(self, scale: Scale, finished: FinishedRuns) -> Drawn:
        blocks = self.blocks(scale)
        shown = [b for b in blocks if b.spec is None or finished.has(b.spec)]
        data = {b.source.name: source_data(b.source) for b in shown}
        examples = {name: _test_images(d) for name, d in data.items()}
        drawn, rows = [], []
        made: list[Made] = []
        for letter, block in zip(string.ascii_lowercase, blocks, strict=False):
            if block not in shown:
                continue
            lines = [f"({letter}) {block.label}"]
            if block.spec is not None:
                record = finished[block.spec]
                ratio = holes_of_run(finished, block.spec, block.source, scale.pictures).ratio
                lines.append(f"RMSE {record.rmse_train:.3f}, KL {record.kl_train:.3g}")
                row = (block.source.name, block.label, record.rmse_train, record.kl_train, ratio)
                rows.append((f"({letter})", *row))
                made.append(Made(block, record.rmse_train, record.kl_train, ratio))
            images = self.images(block, examples[block.source.name], finished)
            if not data[block.source.name].colored:
                images = side_by_side(images)
            drawn.append((lines, image_grid(images, columns=_COLUMNS, scale=_scale(images))))
        if not drawn:
            raise MissingRunError("none of its runs finished")
        sources = list({b.source.name: b.source for b in blocks}.values())
        return Drawn(
            picture=_arranged(drawn),
            caption=[setting(scale, self.runs(scale), sources), *self.remarks()],
            claims=[claim for source in sources for claim in self.claims(source, made)],
            table=Table(
                ("block", "data", "model", "RMSE", "KL (nats per image)", "holes (1: none)"),
                tuple(rows),
            ),
            notes=[f"Block {b.label} is left out: its run did not finish." for b in blocks if b not in shown],
        )


class ConstraintBlocks(_Blocks):
    """Figure 3: data, reconstructions and samples of ConvDRAW on CelebA and Color-MNIST, in rows."""

    name: ClassVar[str] = "figure3"
    title: ClassVar[str] = "Samples and reconstructions from ConvDRAW trained on CelebA and Color-MNIST"

    def blocks(self, scale: Scale) -> list[Block]:
        if "ConvDRAW" not in scale.models:
            return []
        blocks = []
        if (faces := scale.celeba) is not None:
            blocks += [_baseline(scale, faces), _re(scale, faces, 0.1), *_fre(scale, faces, 1.0)]
        if (digits := scale.color_mnist) is not None:
            blocks += [_baseline(scale, digits), _re(scale, digits, 0.06)]
        return blocks

    def images(self, block: Block, x: Tensor, finished: FinishedRuns) -> Tensor:
        assert block.spec is not None
        model, generator = finished.model(block.spec), torch.Generator().manual_seed(0)
        with torch.no_grad():
            x = x[:_COLUMNS]
            return torch.cat([x, model.reconstruct(x, None, generator), model.sample(_COLUMNS, generator=generator)])

    def claims(self, source: Source, made: Sequence[Made]) -> list[Claim]:
        own = [(m.block.label, m.rmse, m.kl) for m in made if m.block.source == source]
        return [impact_claim(source.name, own), *super().claims(source, made)]

    def remarks(self) -> list[str]:
        return [
            "Rows of each block: test images, their reconstructions, samples. Blocks as in the paper: the first three "
            "in the place of CelebA, the last two of Color-MNIST.",
            _FRE_REMARK,
        ]


class _Samples(_Blocks):
    """Samples only, after a block of data: figures 5, 6 and 7."""

    def images(self, block: Block, x: Tensor, finished: FinishedRuns) -> Tensor:
        if block.spec is None:
            return x[: _COLUMNS**2]
        with torch.no_grad():
            return finished.model(block.spec).sample(_COLUMNS**2, generator=torch.Generator().manual_seed(0))

    def common(self, scale: Scale, source: Source | None, kappas: Sequence[float]) -> list[Block]:
        """Data, ELBO, annealed, and RE at these kappas."""
        if source is None or "ConvDRAW" not in scale.models:
            return []
        annealed = Block("ELBO, annealed", source, scale.run(source, "ConvDRAW", "annealed"))
        constrained = [_re(scale, source, kappa) for kappa in kappas if kappa in (*scale.kappas, _TIGHT)]
        return [Block("Data", source, None), _baseline(scale, source), annealed, *constrained]


class CelebASamples(_Samples):
    """Figure 5: samples of ConvDRAW on CelebA."""

    name: ClassVar[str] = "figure5"
    title: ClassVar[str] = "Samples from ConvDRAW trained on CelebA"

    def blocks(self, scale: Scale) -> list[Block]:
        common = self.common(scale, scale.celeba, (0.06, 0.08, 0.1))
        return common and [*common, *_fre(scale, common[0].source, 0.0625)]

    def remarks(self) -> list[str]:
        return [f"{_SAMPLES_REMARK} {_LETTERS}", _FRE_REMARK]


class ColorMNISTSamples(_Samples):
    """Figure 6: samples of ConvDRAW on Color-MNIST."""

    name: ClassVar[str] = "figure6"
    title: ClassVar[str] = "Samples from ConvDRAW trained on Color-MNIST"

    def blocks(self, scale: Scale) -> list[Block]:
        return self.common(scale, scale.color_mnist, (0.06, 0.08, 0.1))

    def remarks(self) -> list[str]:
        return [f"{_SAMPLES_REMARK} {_LETTERS} Color-MNIST is three digits as the three colour channels."]


class CIFAR10Samples(_Samples):
    """Figure 7: samples of ConvDRAW on CIFAR-10."""

    name: ClassVar[str] = "figure7"
    title: ClassVar[str] = "Samples from ConvDRAW trained on CIFAR-10"

    def blocks(self, scale: Scale) -> list[Block]:
        common = self.common(scale, scale.cifar10, (0.06, _TIGHT))
        if not common:
            return []
        source = common[0].source
        pncc = Block(f"GECO+pNCC κ={scale.pncc:g}", source, scale.run(source, "ConvDRAW", pncc=scale.pncc))
        return [*common, *_fre(scale, source, 0.0625), pncc]

    def remarks(self) -> list[str]:
        return [
            f"{_SAMPLES_REMARK} The paper does not print the kappa of pNCC; here a mean correlation of patches.",
            f"Panel (e) is trained at kappa {_TIGHT:g} as printed. As a root mean squared error that is less than one "
            "of 256 grey levels (0.0039), so its error is best read beside it; the paper may have printed a mean "
            f"squared error, which is kappa {_TIGHT**0.5:.3f}.",
            _FRE_REMARK,
        ]


_SAMPLES_REMARK = "Blocks of samples by objective and constraint, after a block of test images."
_LETTERS = "The letters run from left to right; the paper's caption names (e) before (d)."
_FRE_REMARK = (
    "FRE is in standard deviations of the features of a residual classifier's second layer (nine convolutions; the "
    "paper: the first eight layers of one), trained on the data that stand for CIFAR-10. The paper's kappas of FRE, "
    "1.0 and 0.0625, are in units of features that it does not describe, and cannot be carried over."
)


def holes_claim(data: str, ratios: Sequence[tuple[str, float]]) -> Claim:
    """The paper's "GECO reduces the holes problem", by what the models make of their own pictures.

    Arguments:
        data: The data set, for the sentence.
        ratios: For each block with a run, the ELBO's among them, its label and the ratio of
            :func:`bridle.evaluation.prior_holes`.
    """
    elbo = next((ratio for label, ratio in ratios if label == "ELBO"), None)
    geco = [(label, ratio) for label, ratio in ratios if label.startswith("GECO")]
    if elbo is None or not geco:
        return Claim(f"GECO's samples against the ELBO's on {data}: the runs to compare did not finish.", None)
    better = [label for label, ratio in geco if ratio < elbo]
    each = ", ".join(f"{label.removeprefix('GECO+')} {ratio:.2f}" for label, ratio in geco)
    return Claim(
        f"GECO reduces the holes in the latent space on {data}: encoded and decoded once more, samples of the ELBO's "
        f"model have {elbo:.2f} times the error of reconstructions (1 without holes); under GECO: {each}. It is lower "
        f"for {len(better)} of {len(geco)}.",
        len(better) == len(geco),
    )


def impact_claim(data: str, ends: Sequence[tuple[str, float, float]]) -> Claim:
    """The paper's "the use of different constraints has a substantial impact", where the KLs of the least and the
    greatest differ twofold.

    Arguments:
        data: The data set, for the sentence.
        ends: Label, root mean squared error (pixel units) and KL (nats per image) of each block.
    """
    claim = f"The constraint has a substantial impact on {data}"
    if len(ends) < 2:
        return Claim(f"{claim}: the runs to compare did not finish.", None)
    each = ", ".join(f"{label} ends at RMSE {rmse:.3f} and KL {kl:.3g}" for label, rmse, kl in ends)
    rates = [kl for _, _, kl in ends]
    return Claim(f"{claim}, at least twofold in the KL: {each}.", max(rates) >= 2 * min(rates))


def _test_images(data: DataSet) -> Tensor:
    test = data.split("test")
    return test.batch(torch.arange(_COLUMNS**2)).x


def _baseline(scale: Scale, source: Source) -> Block:
    return Block("ELBO", source, scale.run(source, "ConvDRAW", "elbo"))


def _re(scale: Scale, source: Source, kappa: float) -> Block:
    return Block(f"GECO+RE κ={kappa:g}", source, scale.run(source, "ConvDRAW", re=kappa))


def _fre(scale: Scale, source: Source, printed: float) -> list[Block]:
    """The block of FRE, where there are data to train its classifier on."""
    if scale.cifar10 is None:
        return []
    kappa = scale.fre[printed]
    return [Block(f"{_FRE} κ={kappa:g}", source, scale.run(source, "ConvDRAW", fre=kappa))]


def _scale(images: Tensor) -> int:
    """Whole-number magnification to tiles of about 40 screen pixels height."""
    return max(1, round(_TILE / images.shape[2]))


def _arranged(blocks: Sequence[tuple[Sequence[str], Image.Image]]) -> Image.Image:
    """Blocks from left to right on white, their words above them; in several rows where they are many."""
    rows = math.ceil(len(blocks) / _ABREAST)
    columns = math.ceil(len(blocks) / rows)
    font = ImageFont.truetype(findfont("DejaVu Sans"), _TEXT)
    width = max(max(grid.width, *(int(font.getlength(line)) for line in lines)) for lines, grid in blocks) + _MARGIN
    head = 2 * _LINE + 4
    height = head + max(grid.height for _, grid in blocks) + _MARGIN
    canvas = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    for i, (lines, grid) in enumerate(blocks):
        left, top = _MARGIN + i % columns * width, _MARGIN + i // columns * height
        for j, line in enumerate(lines):
            pen.text((left, top + j * _LINE), line, fill=_FAINT if j else _INK, font=font)
        canvas.paste(grid, (left, top + head))
    return canvas
