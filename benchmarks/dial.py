"""One model with a dial against a model for each kappa, and against one that is conditioned on beta; see README.md.

What a model gives at a kappa is a line of a JSON file as soon as it is measured; runs are folders beside it. The same
command goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bridle import models
from bridle.constraints import RE
from bridle.data import BatchOrder, DataSet
from bridle.dial import Dial
from bridle.evaluation import marginal_kl, measure_split, prior_holes, sample_distance
from bridle.evaluation.marginal import marginal_refusal
from bridle.models import Dialled, LatentModel
from bridle.reports.style import COLOURS, DASHES, FAINT, FONT, INK, MARKERS, logarithmic, new_figure, style
from bridle.training import ClassSpec, Constraints, TrainConfig, train
from bridle.training.build import build_data
from bridle.training.folder import RunFolder
from bridle.training.load import load_dialled, load_run
from bridle.training.presets import PresetName, preset_for
from bridle.training.reading import read_dial
from bridle.training.state import device_for, seed_step

PRESETS: dict[str, PresetName] = {"Digits": "tiny", "MNIST": "small", "CIFAR10": "small"}
IMAGES = 10_000
KINDS = ("separate", "dial", "beta")


class Row(NamedTuple):
    """What a model gives at a kappa, on some 10,000 training images.

    ``kind``: "separate"; "dial" and "beta"; of their ends "dial, unread", the model where the kappa was aimed at, and
    "beta, read", where it was measured to be met. ``rmse`` in pixel units, ``kl`` and ``marginal`` KL in nats;
    ``holes``, the error of pictures from the prior over that of pictures from posteriors, as
    :func:`bridle.evaluation.prior_holes` has it; ``multiplier`` of the relative constraint; ``samples``, the energy
    distance of :func:`bridle.evaluation.sample_distance` from the prior's pictures to images, pixel units. NaN is what
    was not measured. ``share``: of its steps that the model had been trained for."""

    kind: str
    seed: int
    share: float
    kappa: float
    rmse: float
    kl: float
    marginal: float
    holes: float
    multiplier: float
    samples: float = math.nan


@dataclass(frozen=True)
class Task:
    """What is compared: ``steps`` of a separate run, of which the others have twice as many."""

    data: str
    model: str
    least: float
    greatest: float
    kappas: int
    steps: int
    marginal_samples: int
    out: Path

    @property
    def dial(self) -> Dial:
        return Dial({"re": (self.least, self.greatest)})

    def asked(self) -> list[float]:
        """The kappas, evenly in their logarithm, both ends included."""
        return [at["re"] for at in self.dial.along("re", self.kappas)]

    def between(self) -> list[float]:
        """The kappas half-way between those."""
        return [at["re"] for at in self.dial.along("re", 2 * self.kappas - 1)[1::2]]

    def config(self, seed: int, re: float | str, steps: int) -> TrainConfig:
        preset = preset_for(self.model, PRESETS[self.data])
        return TrainConfig(
            data=ClassSpec(f"bridle.data.{self.data}"),
            model=ClassSpec(f"bridle.models.{self.model}", preset.model),
            constraints=Constraints(re=re),
            steps=steps,
            batch=preset.batch,
            lr=preset.lr,
            seed=seed,
        )

    @property
    def device(self) -> torch.device:
        return device_for(self.config(0, self.least, 1))

    def folder(self, kind: str, seed: int, re: object) -> RunFolder:
        return RunFolder(self.out / f"{self.data}-{self.model}" / f"{kind},re={re},seed={seed}")


def trained(config: TrainConfig, folder: RunFolder, data: DataSet) -> None:
    if not folder.finished:
        train(config, folder.path, overwrite=True, data=data)


def separate(task: Task, data: DataSet, seed: int) -> Iterator[Row]:
    for kappa in task.asked():
        folder = task.folder("separate", seed, kappa)
        trained(task.config(seed, kappa, task.steps), folder, data)
        model, (stand,) = load_run(folder.path, task.device).system.at()
        yield measured(task, "separate", seed, 1.0, kappa, model, stand.multiplier, data)


def dialled(task: Task, data: DataSet, seed: int) -> Iterator[Row]:
    ends = f"{task.least:g}to{task.greatest:g}"
    folder = task.folder("dial", seed, ends)
    trained(task.config(seed, f"{task.least:g}:{task.greatest:g}", 2 * task.steps), folder, data)
    system = load_run(folder.path, task.device).system
    for share, file in shares(folder):
        model = load_dialled(folder.path, task.device)
        weights = torch.load(file, weights_only=True, map_location=task.device)["system"]
        model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
        for kappa in task.asked() + (task.between() if share == 1 else []):
            multiplier = system.at({"re": kappa})[1][0].multiplier if share == 1 else math.nan
            yield measured(task, "dial", seed, share, kappa, model.at(kappa), multiplier, data)
    for kappa in task.asked() + task.between():
        position = model.dial.position({"re": kappa})
        multiplier = system.objective.geco.multipliers_at(position)["re"].item()
        yield measured(task, "dial, unread", seed, 1.0, kappa, model.at_position(position), multiplier, data)


def shares(folder: RunFolder) -> Iterator[tuple[float, Path]]:
    """The checkpoints after a tenth, a fifth, half and all of a run."""
    files = folder.checkpoint_files()
    for share in (0.1, 0.2, 0.5, 1.0):
        yield share, files[round(share * (len(files) - 1))]


def beta_conditioned(task: Task, data: DataSet, seed: int, ends: tuple[float, float]) -> Iterator[Row]:
    """The same model on the same dial, whose multiplier is not learned: it falls evenly in its logarithm from one end
    of the range to the other, between those that the separate runs ended with (what nobody knows beforehand)."""
    config, split = task.config(seed, task.least, 2 * task.steps), data.split("train").to(task.device)
    torch.manual_seed(seed)
    inner: LatentModel = getattr(models, task.model)(split.image_shape, split.context_shape, **config.model.init_args)
    dial = task.dial
    model = Dialled(inner, dial).to(task.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order = BatchOrder(len(split), config.batch, seed)
    parts = {round(share * config.steps): share for share in (0.1, 0.2, 0.5, 1.0)}
    tightest = dial.position({"re": task.least}).item()

    def multiplier_at(position: torch.Tensor) -> torch.Tensor:
        along: torch.Tensor = (position.squeeze(1) - tightest) / (1 - tightest)
        return ends[0] * (ends[1] / ends[0]) ** along

    for step in range(config.steps):
        seed_step(seed, step)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate(step)
        x = split.batch(order.index(step).to(task.device)).x
        position = dial.draw(len(x), progress=step / config.steps).to(task.device)
        out = model(position, x)
        multiplier = multiplier_at(position)
        c = (x - out.x_hat).square().mean(dim=(1, 2, 3)) / dial.kappas(position)["re"].square() - 1
        optimizer.zero_grad()
        ((out.kl + multiplier * c) / (1 + multiplier)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        if step + 1 in parts:
            for kappa in task.asked():
                own = multiplier_at(dial.position({"re": kappa})).item()
                share = parts[step + 1]
                yield measured(task, "beta", seed, share, kappa, model.at(kappa), own, data)
    read_dial(model, [RE(task.least)], split)
    for kappa in task.asked():
        at = model.ruler.place({"re": kappa})
        own = multiplier_at(at).item()
        yield measured(task, "beta, read", seed, 1.0, kappa, model.at_position(at), own, data)


def measured(
    task: Task, kind: str, seed: int, share: float, kappa: float, model: LatentModel, multiplier: float, data: DataSet
) -> Row:
    split = data.split("train").to(task.device)
    # With one z for each image of Digits the error of a model is known to 0.7% only.
    times = max(1, round(IMAGES / len(split)))
    ended = measure_split(model, split, most=IMAGES, times=times)
    whole = samples = math.nan
    holes = None
    if share == 1 and kind in ("separate", "dial") and kappa in task.asked():
        # By 1,000 pictures the ratio is known to 0.01, no better than what the two differ by.
        holes = prior_holes(model, split, IMAGES, times).ratio
        samples = sample_distance(model, split).prior
        if task.marginal_samples > 0 and marginal_refusal(model, split) is None:
            whole = marginal_kl(model, split, task.marginal_samples).marginal_kl
    ratio = math.nan if holes is None else holes
    return Row(kind, seed, share, kappa, ended.rmse, ended.kl, whole, ratio, multiplier, samples)


def rows_of(task: Task, seeds: Sequence[int], kinds: Sequence[str]) -> list[Row]:
    """All rows, made where the file does not have them."""
    file = task.out / f"{task.data}-{task.model}.jsonl"
    task.out.mkdir(parents=True, exist_ok=True)
    rows = [Row(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    data = build_data(task.config(0, task.least, 1))

    def made(kind: str, seed: int, rows_made: Callable[[], Iterator[Row]], count: int) -> None:
        have = [row for row in rows if row.kind.startswith(kind) and row.seed == seed]
        if len(have) == count:
            return
        known = {(row.kind, row.share, row.kappa) for row in have}
        for row in rows_made():
            if (row.kind, row.share, row.kappa) not in known:
                print(json.dumps(row._asdict()), flush=True)
                with file.open("a") as lines:
                    lines.write(json.dumps(row._asdict()) + "\n")
                rows.append(row)

    for seed in seeds:
        if "separate" in kinds:
            made("separate", seed, lambda seed=seed: separate(task, data, seed), task.kappas)
        if "dial" in kinds:
            made("dial", seed, lambda seed=seed: dialled(task, data, seed), 7 * task.kappas - 2)
        if "beta" in kinds:
            own = {row.kappa: row.multiplier for row in rows if (row.kind, row.seed) == ("separate", seed)}
            ends = own[task.asked()[0]], own[task.asked()[-1]]
            made("beta", seed, lambda seed=seed, e=ends: beta_conditioned(task, data, seed, e), 5 * task.kappas)
    return [row for row in rows if row.seed in seeds]


def exact_kl(row: Row, multiplier: float) -> float:
    """The KL at exactly kappa: what the multiplier says that the error's distance from it is worth."""
    return row.kl + multiplier * ((row.rmse / row.kappa) ** 2 - 1)


def on_curve(rows: Sequence[Row], kappa: float) -> float:
    """The KL of a curve at an error, linear between its points in both logarithms."""
    rows = sorted(rows, key=lambda row: row.rmse)
    return math.exp(np.interp(math.log(kappa), [math.log(r.rmse) for r in rows], [math.log(r.kl) for r in rows]))


def table(task: Task, rows: Sequence[Row], seeds: Sequence[int]) -> Iterator[str]:
    """The dial against separate runs, means over seeds with their standard deviations where there are several."""
    by = {(row.kind, row.seed, row.kappa): row for row in rows if row.share == 1}
    yield (
        "| kappa | separate: RMSE/kappa, KL | dial: the same | KL at exactly kappa: separate, dial | difference "
        "| marginal KL: separate, dial | samples: separate, dial | holes: separate, dial |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for kappa in task.asked():
        pairs = [(by["separate", seed, kappa], by["dial", seed, kappa]) for seed in seeds]
        exact = [[exact_kl(row, one.multiplier) for row in (one, other)] for one, other in pairs]
        yield (
            f"| {kappa:g} | {of([one for one, _ in pairs], kappa)} | {of([other for _, other in pairs], kappa)} "
            f"| {statistics.mean(e[0] for e in exact):.2f}, {statistics.mean(e[1] for e in exact):.2f} "
            f"| {spread([100 * (e[1] / e[0] - 1) for e in exact])}% "
            f"| {statistics.mean(one.marginal for one, _ in pairs):.2f}, "
            f"{statistics.mean(other.marginal for _, other in pairs):.2f} "
            f"| {statistics.mean(one.samples for one, _ in pairs):.4f}, "
            f"{statistics.mean(other.samples for _, other in pairs):.4f} "
            f"| {statistics.mean(one.holes for one, _ in pairs):.2f}, "
            f"{statistics.mean(other.holes for _, other in pairs):.2f} |"
        )


def of_the_curve(task: Task, rows: Sequence[Row], seeds: Sequence[int]) -> Iterator[str]:
    """How far off kappa the dial is, at the kappas of the table and between them, what its KL is there over separate
    runs' (a polynomial of degree 4 through theirs, in both logarithms; corrected by their multipliers), and whether its
    curve is monotone."""
    ends = [row for row in rows if row.kind == "dial" and row.share == 1]
    aimed = [row for row in rows if row.kind == "dial, unread"]
    most = [
        max(abs(row.rmse / row.kappa - 1) for row in own if row.kappa in kappas)
        for own in (ends, aimed)
        for kappas in (task.asked(), task.between())
    ]
    yield (
        f"off kappa: at most {most[0]:.1%} at these kappas, {most[1]:.1%} half-way between them; "
        f"where they were aimed at, unread: {most[2]:.1%}, {most[3]:.1%}"
    )
    over: dict[bool, list[float]] = {True: [], False: []}
    monotone = 0
    for seed in seeds:
        one = [row for row in rows if (row.kind, row.seed) == ("separate", seed)]
        x = [math.log(row.kappa) for row in one]
        multipliers = [math.log(row.multiplier) for row in one]
        fit = np.polyfit(x, [math.log(exact_kl(row, row.multiplier)) for row in one], deg=4)
        own = sorted((row for row in ends if row.seed == seed), key=lambda row: row.kappa)
        for row in own:
            at = math.log(row.kappa)
            exact = exact_kl(row, math.exp(np.interp(at, x, multipliers)))
            over[row.kappa in task.asked()].append(math.log(exact) - float(np.polyval(fit, at)))
        monotone += all(a.rmse < b.rmse and a.kl > b.kl for a, b in itertools.pairwise(own))
    yield "KL over that curve, geometric mean: " + "; ".join(
        f"{math.expm1(statistics.mean(over[asked])):+.1%} {where}"
        for asked, where in ((True, "at these kappas"), (False, "between them"))
    )
    count = 2 * task.kappas - 1
    yield f"error and KL are monotone in kappa over all {count} of these for {monotone} of {len(seeds)} seeds"


def of(rows: Sequence[Row], kappa: float) -> str:
    return f"{statistics.mean(r.rmse / kappa for r in rows):.3f}, {statistics.mean(r.kl for r in rows):.2f}"


def spread(values: Sequence[float]) -> str:
    deviation = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.1f}{deviation}"


def against_beta(task: Task, rows: Sequence[Row], seeds: Sequence[int]) -> Iterator[str]:
    """How far the curves of the two are above the separate runs', and how far off the asked kappa they are: means, with
    the standard deviation between seeds, and the greatest."""
    yield (
        "| share of the steps | model | KL over separate runs' at equal error: mean, greatest "
        "| off the asked kappa: mean, greatest |"
    )
    yield "|---|---|---|---|"
    for share in (0.1, 0.2, 0.5, 1.0):
        for kind in ("dial", "beta") if share < 1 else ("dial", "dial, unread", "beta", "beta, read"):
            over: list[list[float]] = []
            off: list[list[float]] = []
            for seed in seeds:
                own = [r for r in rows if (r.kind, r.seed, r.share) == (kind, seed, share) and r.kappa in task.asked()]
                one = {r.kappa: exact_kl(r, r.multiplier) for r in rows if (r.kind, r.seed) == ("separate", seed)}
                reached = [k for k in task.asked() if min(r.rmse for r in own) <= k <= max(r.rmse for r in own)]
                over.append([100 * (on_curve(own, kappa) / one[kappa] - 1) for kappa in reached])
                off.append([100 * abs(r.rmse / r.kappa - 1) for r in own])
            known = [of_seed for of_seed in over if of_seed]
            rate = "–"
            if known:
                count = f"{sum(map(len, known))} of {sum(map(len, off))} kappas"
                rate = f"{spread([statistics.mean(o) for o in known])}%, {max(map(max, known)):+.1f}% ({count})"
            far = spread([statistics.mean(o) for o in off]).removeprefix("+")
            yield f"| {share:g} | {kind} | {rate} | {far}%, {max(map(max, off)):.1f}% |"


def draw(task: Task, rows: Sequence[Row], seeds: Sequence[int], path: Path) -> None:
    """The curves of all seeds, and the KL at exactly kappa over that of separate runs; png."""
    figure = new_figure(4)
    curves, differences = figure.subplots(1, 2)
    ends = {(kind, seed): sorted(_of(rows, kind, seed), key=lambda row: row.kappa) for kind in KINDS for seed in seeds}
    for seed in seeds:
        label = {kind: kind if seed == seeds[0] else None for kind in KINDS}
        for line, kind in enumerate(KINDS):
            own = ends[kind, seed]
            points = [row.rmse for row in own], [row.kl for row in own]
            if kind == "dial":
                curves.plot(*points, color=COLOURS[line], linewidth=1.2, label=label[kind])
            else:
                curves.scatter(*points, color=COLOURS[line], marker=MARKERS[line], s=18, label=label[kind], zorder=2)
        one = {row.kappa: row for row in ends["separate", seed]}
        pairs = [(row.kappa, row, one[row.kappa]) for row in ends["dial", seed] if row.kappa in one]
        over = [100 * (exact_kl(row, its.multiplier) / exact_kl(its, its.multiplier) - 1) for _, row, its in pairs]
        differences.plot(
            [kappa for kappa, _, _ in pairs], over, color=COLOURS[1], marker="o", markersize=4, linewidth=1
        )
    curves.set_xscale("log")
    logarithmic(curves)
    differences.set_xscale("log")
    differences.axhline(0, color=FAINT, linewidth=0.8)
    differences.axhline(3, color=FAINT, linewidth=0.8, linestyle=DASHES)
    style(curves, "RMSE (pixel units)", "KL (nats per image)")
    style(differences, "kappa (pixel units)", "KL at kappa over separate runs', %")
    for axes in (curves, differences):
        ticks = task.asked()[:: max(1, task.kappas // 5)]
        axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
        axes.minorticks_off()
    curves.legend(fontsize=FONT, frameon=False, labelcolor=INK)
    figure.savefig(path, dpi=110, facecolor="white")


def _of(rows: Sequence[Row], kind: str, seed: int) -> list[Row]:
    return [row for row in rows if (row.kind, row.seed, row.share) == (kind, seed, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="Digits", choices=list(PRESETS))
    parser.add_argument("--model", default="ConvVAE", choices=["ConvVAE", "ConvDRAW", "NVPVAE"])
    parser.add_argument("--range", type=float, nargs=2, default=(0.06, 0.22), metavar=("LEAST", "GREATEST"))
    parser.add_argument("--kappas", type=int, default=10)
    parser.add_argument("--steps", type=int, help="of a separate run; the preset's if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--marginal_samples", type=int, default=100, help="0 leaves the marginal KL out")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and the rows")
    given = parser.parse_args()
    steps = given.steps or preset_for(given.model, PRESETS[given.data]).steps
    task = Task(given.data, given.model, *given.range, given.kappas, steps, given.marginal_samples, given.out)
    rows = rows_of(task, given.seeds, given.kinds)
    print(
        f"\n{given.data}, {given.model}, {steps} steps of each separate run and {2 * steps} of the others; seeds ",
        end="",
    )
    print(f"{', '.join(map(str, given.seeds))}; {platform.machine()}, torch {torch.__version__}; {date.today()}\n")
    if {"separate", "dial"} <= set(given.kinds):
        print(*table(task, rows, given.seeds), sep="\n")
        print("", *of_the_curve(task, rows, given.seeds), sep="\n")
    if set(given.kinds) == set(KINDS):
        print("", *against_beta(task, rows, given.seeds), sep="\n")
        draw(task, rows, given.seeds, given.out / f"{task.data}-{task.model}.png")


if __name__ == "__main__":
    main()
