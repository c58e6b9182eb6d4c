"""Figures 3, 5, 6 and 7: blocks of data, reconstructions and samples of ConvDRAW, by objective and constraint."""

from __future__ import annotations

import math
import string
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bridle.data import DataSet
from bridle.reports.grids import image_grid, side_by_side
from bridle.reports.pieces import number
from bridle.reproduce.exhibit import (
    MET,
    Claim,
    Drawn,
    Exhibit,
    FinishedRuns,
    MissingRunError,
    Table,
    all_met,
    setting,
)
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
    "holes_claims",
    "impact_claims",
]

_TIGHT = 0.0028
"""Panel (e) of figure 7, as printed. Less than one of 256 grey levels; see the caption."""

_COLUMNS = 6
_TILE = 40
_MARGIN = 18
_TEXT, _LINE = 13, 19
_ABREAST = 5
_INK, _FAINT = (36, 41, 47), (89, 99, 110)
_ALIKE = 0.25
"""How far an error may be from the ELBO's for the two models' holes to be compared."""


@dataclass(frozen=True)
class Block:
    """A block of a figure. ``label``: what the paper says of it; ``spec``: the run it is drawn from, None for data;
    ``printed``: the paper's kappa, where it is not the run's."""

    label: str
    source: Source
    spec: RunSpec | None
    printed: float | None = None


@dataclass(frozen=True)
class Made:
    """The numbers of a block's run: root mean squared error (pixel units) and KL (nats per image) of the training
    split; the ratio of :func:`bridle.evaluation.prior_holes`, None without an error; whether its constraint was met,
    None for a baseline."""

    block: Block
    rmse: float
    kl: float
    holes: float | None
    met: bool | None


class _Blocks(Exhibit):
    """What figures 3, 5, 6 and 7 share: blocks side by side, each with a letter, its words and its numbers."""

    rows: ClassVar[tuple[str, ...]] = ()
    """What the rows of each block are, where they are not all the same."""

    @abstractmethod
    def blocks(self, scale: Scale) -> list[Block]:
        """The blocks from left to right; none where the scale lacks the data."""

    @abstractmethod
    def images(self, block: Block, x: Tensor, finished: FinishedRuns) -> Tensor:
        """The images of a block, row by row of six: shape ``(N, C, H, W)``. ``x``: test images, at least 36."""

    @abstractmethod
    def remarks(self, shown: Sequence[Block]) -> list[str]:
        """What is seen, and what differs from the paper's figure, for the blocks that are there."""

    def claims(self, made: Sequence[Made]) -> list[Claim]:
        """What the paper says, judged by the blocks of one data set that have a run."""
        return holes_claims(made)

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
                m = Made(block, record.rmse_train, record.kl_train, ratio, all_met(record))
                lines.append(f"RMSE {m.rmse:.3f}, KL {number(m.kl, 3)}{', κ not met' * (m.met is False)}")
                rows.append((f"({letter})", block.source.name, block.label, MET[m.met], m.rmse, m.kl, ratio))
                made.append(m)
            images = self.images(block, examples[block.source.name], finished)
            if not data[block.source.name].colored:
                images = side_by_side(images)
            drawn.append((lines, image_grid(images, columns=_COLUMNS, scale=_scale(images))))
        if not drawn:
            raise MissingRunError("none of its runs finished")
        sources = list({b.source.name: b.source for b in blocks}.values())
        return Drawn(
            picture=_arranged(drawn, self.rows),
            caption=[setting(scale, self.runs(scale), sources), *self.remarks(shown), _NUMBERS, *_fre_remark(shown)],
            claims=[
                claim
                for source in dict.fromkeys(m.block.source.name for m in made)
                for claim in self.claims([m for m in made if m.block.source.name == source])
            ],
            table=Table(
                ("block", "data", "model", "constraint", "RMSE", "KL (nats per image)", "holes (1: none)"),
                tuple(rows),
            ),
            notes=[f"Block {b.label} is left out: its run did not finish." for b in blocks if b not in shown],
        )


class ConstraintBlocks(_Blocks):
    """Figure 3: data, reconstructions and samples of ConvDRAW on CelebA and Color-MNIST, in rows."""

    name: ClassVar[str] = "figure3"
    title: ClassVar[str] = "Samples and reconstructions from ConvDRAW trained on CelebA and Color-MNIST"
    rows: ClassVar[tuple[str, ...]] = ("data", "reconstructions", "samples")

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

    def claims(self, made: Sequence[Made]) -> list[Claim]:
        return [*impact_claims(made), *super().claims(made)]

    def remarks(self, shown: Sequence[Block]) -> list[str]:
        of = Counter((b.source.name, b.source.paper) for b in shown)
        each = ", then ".join(f"{n} of {name} for {paper}" for (name, paper), n in of.items())
        return [f"Rows of each block: test images, their reconstructions, samples. Blocks from the left: {each}."]


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

    def remarks(self, shown: Sequence[Block]) -> list[str]:
        return [f"{_SAMPLES_REMARK} {_LETTERS}"]


class ColorMNISTSamples(_Samples):
    """Figure 6: samples of ConvDRAW on Color-MNIST."""

    name: ClassVar[str] = "figure6"
    title: ClassVar[str] = "Samples from ConvDRAW trained on Color-MNIST"

    def blocks(self, scale: Scale) -> list[Block]:
        return self.common(scale, scale.color_mnist, (0.06, 0.08, 0.1))

    def remarks(self, shown: Sequence[Block]) -> list[str]:
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

    def remarks(self, shown: Sequence[Block]) -> list[str]:
        remarks = [_SAMPLES_REMARK]
        given = [b.spec.config.constraints for b in shown if b.spec is not None]
        if any(constraints.pncc is not None for constraints in given):
            remarks.append("The paper does not print the kappa of pNCC; here a mean correlation of patches.")
        if any(constraints.re == _TIGHT for constraints in given):
            remarks.append(
                f"Panel (e) is trained at kappa {_TIGHT:g} as printed. As a root mean squared error that is less than "
                "one of 256 grey levels (0.0039), so its error is best read beside it; the paper may have printed a "
                f"mean squared error, which is kappa {_TIGHT**0.5:.3f}."
            )
        return remarks


_SAMPLES_REMARK = "Blocks of samples by objective and constraint, after a block of test images."
_LETTERS = "The letters run from left to right; the paper's caption names (e) before (d)."
_NUMBERS = (
    "RMSE (pixel units, 0 to 1) and KL (nats per image) are of the training split. Holes: encoded and decoded once "
    "more, the model's samples have so many times the error of its reconstructions. Without holes that is 1; but it "
    "tends to 1 for a poor reconstructor, too, so that only models of about the same RMSE can be compared by it."
)


def holes_claims(made: Sequence[Made]) -> list[Claim]:
    """The paper's "GECO reduces the holes problem", by what the models make of their own pictures: a claim for each
    run under GECO, judged where it met its constraint with an RMSE within 25% of the ELBO's.

    Arguments:
        made: The blocks of one data set that have a run, at least one.
    """
    elbo = next((m for m in made if m.block.label == "ELBO"), None)
    geco = [m for m in made if m.met is not None and m.holes is not None]
    data = made[0].block.source.name
    if elbo is None or elbo.holes is None or not geco:
        return [Claim(f"GECO reduces the holes in the prior on {data}: there are no two runs to compare.", None)]
    claims = []
    for m in geco:
        assert m.holes is not None
        text = (
            f"{m.block.label} has fewer holes in the prior than the ELBO on {data}: a ratio of {m.holes:.2f} (RMSE "
            f"{m.rmse:.3f}) against {elbo.holes:.2f} (RMSE {elbo.rmse:.3f})"
        )
        if not m.met:
            claims.append(Claim(f"{text}, but kappa is not met.", None))
        elif abs(m.rmse / elbo.rmse - 1) > _ALIKE:
            claims.append(Claim(f"{text}, but the errors differ by more than {_ALIKE:.0%}.", None))
        else:
            claims.append(Claim(f"{text}.", m.holes < elbo.holes))
    return claims


def impact_claims(made: Sequence[Made]) -> list[Claim]:
    """The paper's "the use of different constraints has a substantial impact", where the KLs of the least and the
    greatest differ twofold; no claim where the blocks have fewer than two constraints.

    Arguments:
        made: The blocks of one data set that have a run.
    """
    constrained = [m for m in made if m.met is not None]
    if len(constrained) < 2:
        return []
    claim = f"Different constraints have a substantial impact on {constrained[0].block.source.name}"
    met = [m for m in constrained if m.met]
    if len(met) < 2:
        unmet = ", ".join(m.block.label for m in constrained if not m.met)
        return [Claim(f"{claim}: not met are {unmet}, so that there are not two to compare.", None)]
    each = ", ".join(f"{m.block.label} ends at RMSE {m.rmse:.3f} and KL {number(m.kl, 3)}" for m in met)
    rates = [m.kl for m in met]
    return [Claim(f"{claim}, at least twofold in the KL: {each}.", max(rates) >= 2 * min(rates))]


def _fre_remark(shown: Sequence[Block]) -> list[str]:
    """What FRE's kappas are, and are not, where there are blocks under FRE."""
    kappas = {b.spec.config.constraints.fre: b.printed for b in shown if b.spec is not None and b.printed is not None}
    if not kappas:
        return []
    each = ", ".join(f"kappa {used:g} here for the paper's {printed:g}" for used, printed in kappas.items())
    return [
        f"FRE: {each}. It is in standard deviations of the features of a residual classifier's second layer (nine "
        "convolutions; the paper: the first eight layers of one), trained on the data that stand for CIFAR-10. The "
        "paper's kappas are in units of features that it does not describe, and cannot be carried over."
    ]


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
    return [Block(f"GECO+FRE κ={kappa:g}", source, scale.run(source, "ConvDRAW", fre=kappa), printed)]


def _scale(images: Tensor) -> int:
    """Whole-number magnification to tiles of about 40 screen pixels height."""
    return max(1, round(_TILE / images.shape[2]))


def _arranged(blocks: Sequence[tuple[Sequence[str], Image.Image]], names: Sequence[str] = ()) -> Image.Image:
    """Blocks from left to right on white, their words above them; in several rows where they are many. ``names``: of
    the rows of images in each block, at the left edge."""
    rows = math.ceil(len(blocks) / _ABREAST)
    columns = math.ceil(len(blocks) / rows)
    font = ImageFont.truetype(findfont("DejaVu Sans"), _TEXT)
    width = max(max(grid.width, *(int(font.getlength(line)) for line in lines)) for lines, grid in blocks) + _MARGIN
    edge = _MARGIN + max((int(font.getlength(name)) + _MARGIN // 2 for name in names), default=0)
    head = 2 * _LINE + 4
    height = head + max(grid.height for _, grid in blocks) + _MARGIN
    canvas = Image.new("RGB", (edge + columns * width, rows * height + _MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    for i, (lines, grid) in enumerate(blocks):
        left, top = edge + i % columns * width, _MARGIN + i // columns * height
        for j, name in enumerate(names if i % columns == 0 else ()):
            middle = top + head + round((j + 0.5) * grid.height / len(names))
            pen.text((edge - _MARGIN // 2, middle), name, fill=_FAINT, font=font, anchor="rm")
        for j, line in enumerate(lines):
            pen.text((left, top + j * _LINE), line, fill=_FAINT if j else _INK, font=font)
        canvas.paste(grid, (left, top + head))
    return canvas
