"""results/arena.md: the tables and plots, from the CSV files alone but for the trajectories of failures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena.ablation import ABLATION
from benchmarks.arena.contestants import CONTESTANTS, OURS, PEERS, WITHOUT_RULE, setting_name
from benchmarks.arena.intervals import Estimate, bootstrap, geometric_mean, wilson
from benchmarks.arena.oracle import OFF
from benchmarks.arena.plots import draw_dynamics, draw_failures, draw_profile, draw_success, draw_tradeoff
from benchmarks.arena.problems import PROBLEMS, SET_ASIDE
from benchmarks.arena.rows import Row
from benchmarks.arena.scores import lagrangian
from benchmarks.arena.terms import terms_of
from benchmarks.arena.trajectory import Trajectory
from benchmarks.arena.tuning import LONGER, SEEDS, at_edge, best_setting, settle_steps
from benchmarks.arena.work import Folders, Job, oracle_of, price_of, trajectory_file
from bridle.errors import ConfigError
from bridle.files import write_whole

__all__ = ["write_table"]

WORST = 4
"""Failures of ours whose trajectories are drawn."""

SHOWN = "digits-convdraw-re0.1"
SHOWN_SETTINGS = ({"scale": "sum", "nu": 1e-3}, {"scale": "mean", "nu": 0.3}, {"scale": "relative", "nu": 3e-3})
"""The problem, and the settings of Algorithm 1, that the figure of the dynamics has."""


@dataclass(frozen=True)
class _Results:
    """The rows of the final: ``short`` at the budget and ``long`` at four times it, by contestant, problem and seed;
    the setting of each contestant; the right multipliers by problem and steps, and where no multiplier is right the
    nearest ones; ``further``: those of ours at the budget on seeds that are not of the final."""

    short: dict[tuple[str, str, int], Row]
    long: dict[tuple[str, str, int], Row]
    settings: dict[str, str]
    prices: dict[tuple[str, str], NDArray[np.float64]]
    nearest: dict[tuple[str, str], NDArray[np.float64]]
    further: list[Row] = field(default_factory=list)

    def of(self, contestant: str, problems: Sequence[str]) -> list[Row]:
        keys = [(contestant, problem, seed) for problem in problems for seed in SEEDS]
        return [self.short[key] for key in keys if key in self.short]

    def of_first_seed(self) -> _Results:
        """Those of the seed that settings are chosen on, at the budget."""
        return replace(self, short={key: row for key, row in self.short.items() if key[2] == SEEDS[0]})

    def where_all_ran(self) -> _Results:
        """Those of the problems and seeds on which every contestant with a rule that has rows has one: what can be
        compared while the final is not over."""
        entered = [name for name in CONTESTANTS if name in self.settings]
        short, long = (
            {key: row for key, row in rows.items() if all((name, *key[1:]) in self.short for name in entered)}
            for rows in (self.short, self.long)
        )
        return replace(self, short=short, long=long)

    def ablated(self) -> list[str]:
        """The problems that our rule was run on with one of its parts taken out."""
        return list(dict.fromkeys(problem for name, problem, _ in self.short if name in ABLATION))

    def over(self, other: str, contestant: str, problems: Sequence[str]) -> list[float]:
        """Settle steps over those of another contestant on the same problem and seed."""
        pairs = [
            (self.short.get((contestant, problem, seed)), self.short.get((other, problem, seed)))
            for problem in problems
            for seed in SEEDS
        ]
        return [
            settle_steps(row) / settle_steps(right) for row, right in pairs if row is not None and right is not None
        ]

    def excess(self, contestant: str, problems: Sequence[str], longer: bool, nearest: bool = False) -> list[float]:
        """``KL + lambda C`` over the oracle's of the same seed and length, less one, where every value is within 5%
        of kappa and the problem is feasible; lambda is the oracle's at that length. Where no multiplier is right there
        is no oracle to compare with; ``nearest``: those alone, at the nearest."""
        rows = self.long if longer else self.short
        prices = self.nearest if nearest else self.prices
        shares = []
        for problem in problems:
            for seed in SEEDS:
                row, right = rows.get((contestant, problem, seed)), rows.get(("oracle", problem, seed))
                feasible = PROBLEMS[problem].kind == "feasible"
                if feasible and row is not None and right is not None and row["within"] == "1" == right["finite"]:
                    price = prices.get((problem, row["steps"]))
                    if price is not None:
                        shares.append(_lagrangian(row, price) / _lagrangian(right, price) - 1)
        return shares

    def rates_over(self, other: str, contestant: str, problems: Sequence[str]) -> list[float]:
        """KL at kappa over another contestant's on the same problem and seed, less one: ``KL + lambda C`` with the
        multiplier that the other one ended with, on feasible problems of a single multiplier, where both are within 5%
        of kappa. It needs no oracle."""
        shares = []
        for problem in problems:
            for seed in SEEDS:
                rows = [self.short.get((name, problem, seed)) for name in (contestant, other)]
                if PROBLEMS[problem].kind != "feasible" or any(row is None or row["within"] != "1" for row in rows):
                    continue
                row, its = (row for row in rows if row is not None)
                if ";" not in its["c"]:
                    price = np.array([float(its["multiplier"])])
                    shares.append(_lagrangian(row, price) / _lagrangian(its, price) - 1)
        return shares


def _lagrangian(row: Row, price: NDArray[np.float64]) -> float:
    c = np.array([float(number) for number in row["c"].split(";")])
    return lagrangian(float(row["kl"]), c, price)


def write_table(folders: Folders) -> str:
    """Writes ``arena.md`` beside the folder of results and the plots into it; the line that says where.

    Raises:
        ConfigError: There is no row of the final yet.
    """
    results = _results(folders)
    if not results.short:
        raise ConfigError(f"{folders.rows.path} holds no row of the final yet: run the command final first")
    contestants = [name for name in (*CONTESTANTS, "by_hand", "oracle") if name in results.settings]
    compared = results.where_all_ran()
    parts = [
        "# The arena",
        "Made by `python -m benchmarks.arena table`; the rules are in benchmarks/arena/README.md. Contestants are "
        "compared on the problems and seeds that all with a rule have been run on; all rows are counted further below.",
    ]
    for title, names in (
        ("Problems set aside", [n for n in PROBLEMS if n in SET_ASIDE]),
        ("Problems that peers were tuned on", [n for n in PROBLEMS if n not in SET_ASIDE]),
    ):
        parts += [f"## {title}", _scores(compared, contestants, names), _rates(compared, contestants, names)]
        parts += [_against_best(compared, contestants, names), _against_error_alone(compared, contestants, names)]
        parts += [_verdicts(results, names), *_on_further_seeds(results, names)]
    parts += ["## Our rule without each of its parts, on tuning problems, seed 0", _ablation(results)]
    parts += ["## Plots, over the problems of both", *_plots(results, contestants, folders)]
    parts += ["## Successes of each problem", _problems(results, contestants, folders)]
    parts += ["## Settings", _settings(results)]
    path = folders.results.with_suffix(".md")
    with write_whole(path) as file:
        file.write(("\n\n".join(parts) + "\n").encode())
    return f"wrote {path} and the plots in {folders.results}"


def _results(folders: Folders) -> _Results:
    rows = folders.rows.read()
    short: dict[tuple[str, str, int], Row] = {}
    long: dict[tuple[str, str, int], Row] = {}
    settings = {}
    for contestant in (*CONTESTANTS, *ABLATION, *WITHOUT_RULE):
        try:
            setting = {} if contestant in WITHOUT_RULE else best_setting(contestant, folders)
        except ConfigError:
            continue
        for problem in PROBLEMS:
            oracle = oracle_of(problem, folders)
            for seed in SEEDS if oracle is not None else ():
                assert oracle is not None
                for by_length, times in ((short, 1), (long, LONGER)):
                    row = rows.get(Job(problem, contestant, setting, seed).key(times * oracle.budget))
                    if row is not None:
                        by_length[contestant, problem, seed] = row
                        settings[contestant] = setting_name(setting)
    prices: dict[tuple[str, str], NDArray[np.float64]] = {}
    nearest: dict[tuple[str, str], NDArray[np.float64]] = {}
    for (name, steps), row in folders.prices.read().items():
        price = price_of(name, int(steps), folders)
        if price is not None:
            (nearest if row["note"].endswith(OFF) else prices)[name, steps] = price
    further = [
        row
        for row in rows.values()
        if row["contestant"] in OURS
        and row["setting"] == settings.get(row["contestant"])
        and int(row["seed"]) not in SEEDS
        and row["steps"] == row["budget"]
    ]
    return _Results(short, long, settings, prices, nearest, further)


def _scores(results: _Results, contestants: Sequence[str], problems: Sequence[str]) -> str:
    """Success, settle steps, accuracy, overshoot and breakdowns of each contestant, with intervals."""
    lines = [
        "| | runs | success | settle steps, geometric mean | over the oracle's "
        "| accuracy, median | accuracy, 95th percentile | overshoot, median | not finite |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in contestants:
        rows = results.of(name, problems)
        successes = wilson(sum(row["success"] == "1" for row in rows), len(rows))
        steps = bootstrap([settle_steps(row) for row in rows], geometric_mean)
        off = _numbers([row for row in rows if PROBLEMS[row["problem"]].kind == "feasible"], "accuracy")
        over = _numbers(rows, "overshoot")
        broken = sum(row["finite"] != "1" for row in rows)
        cells = [
            str(len(rows)),
            _share(successes),
            _shown(steps, "{:.0f}"),
            _shown(bootstrap(results.over("oracle", name, problems), geometric_mean), "{:.2f}"),
            _share(_quantile(off, 0.5)),
            _share(_quantile(off, 0.95)),
            _shown(_quantile(over, 0.5), "{:.2f}"),
            str(broken),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rates(results: _Results, contestants: Sequence[str], problems: Sequence[str]) -> str:
    """Excess rate of each contestant over the oracle, with intervals."""
    lines = [
        f"| excess rate | runs | median | 95th percentile | runs of {LONGER} budgets | median | 95th percentile |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in contestants:
        if name == "oracle":
            continue
        cells = []
        for longer in (False, True):
            excess = results.excess(name, problems, longer)
            cells += [str(len(excess)), _share(_quantile(excess, 0.5)), _share(_quantile(excess, 0.95))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for longer in (False, True):
        for name in problems:
            shares = results.excess("bridle", [name], longer, nearest=True)
            if shares:
                length, theirs = f" at {LONGER} budgets" * longer, ", ".join(f"{100 * share:+.1f}%" for share in shares)
                lines.append(
                    f"\nNot among these is {name}{length}, where no fixed multiplier ends within 1% of kappa. With the "
                    f"nearest one bridle has {theirs}."
                )
    return "\n".join(lines)


def _against_best(results: _Results, contestants: Sequence[str], problems: Sequence[str]) -> str:
    """The settle steps of ours over those of the best peer, the one with the fewest in the geometric mean."""
    steps = {
        name: geometric_mean(np.array([settle_steps(row) for row in rows]))
        for name in contestants
        if name in PEERS and (rows := results.of(name, problems))
    }
    if not steps:
        return "No peer has been run."
    best = min(steps, key=lambda name: float(steps[name]))
    ratios = [
        f"{name} {_shown(bootstrap(results.over(best, name, problems), geometric_mean), '{:.2f}')}" for name in OURS
    ]
    return f"Settle steps over those of the best peer, {best}: {', '.join(ratios)}."


def _against_error_alone(results: _Results, contestants: Sequence[str], problems: Sequence[str]) -> str:
    """How long it takes until the error is as small as kappa where nothing else is in the loss, and the settle steps of
    each contestant over that."""
    names = [problem for problem in problems if ("error_alone", problem, SEEDS[0]) in results.short]
    if not names:
        return "No training with the error alone has been run."
    steps = bootstrap([settle_steps(results.short["error_alone", name, SEEDS[0]]) for name in names], geometric_mean)
    ratios = [
        f"{name} {_shown(bootstrap(over, geometric_mean), '{:.2f}')}"
        for name in contestants
        if (over := results.over("error_alone", name, names))
    ]
    return (
        f"With the error alone in the loss kappa is reached after {_shown(steps, '{:.0f}')} steps (geometric mean of "
        f"{len(names)} feasible problems, seed {SEEDS[0]}). Settle steps over that: "
        f"{', '.join(ratios)}."
    )


def _verdicts(results: _Results, problems: Sequence[str]) -> str:
    """What our judge said at the end where kappa cannot be met, and its false alarms elsewhere."""
    lines = []
    for name in OURS:
        rows = results.of(name, problems)
        cannot = [row for row in rows if PROBLEMS[row["problem"]].kind == "cannot be met"]
        named = sum(row["state"] == "cannot be met" for row in cannot)
        alarmed = sum(float(row["alarms"] or 0) > 0 for row in rows)
        lines.append(
            f"{name}: of {len(cannot)} runs whose kappa cannot be met {named} were said to be such at their end; "
            f"{alarmed} of the {len(rows) - len(cannot)} others were at any time."
        )
    return " ".join(lines)


def _on_further_seeds(results: _Results, problems: Sequence[str]) -> list[str]:
    """How ours did on seeds that are not of the final; nothing where there are none."""
    lines = []
    for name in OURS:
        rows = [row for row in results.further if row["contestant"] == name and row["problem"] in problems]
        if not rows:
            continue
        seeds = ", ".join(sorted({row["seed"] for row in rows}, key=int))
        successes = wilson(sum(row["success"] == "1" for row in rows), len(rows))
        off = _numbers([row for row in rows if PROBLEMS[row["problem"]].kind == "feasible"], "accuracy")
        alarmed = sum(float(row["alarms"] or 0) > 0 for row in rows)
        failed = ", ".join(f"{row['problem']} (seed {row['seed']})" for row in rows if row["success"] != "1")
        lines.append(
            f"On further seeds ({seeds}) {name} has {len(rows)} runs: success {_share(successes)}"
            f"{', but not ' * bool(failed)}{failed}; accuracy {_share(_quantile(off, 0.5))} in the "
            f"median, {_share(_quantile(off, 0.95))} at the 95th percentile; false alarms {alarmed}."
        )
    return lines


def _ablation(results: _Results) -> str:
    """Success, steps, rate and overshoot of our rule without each of its parts, each on the problems that it has."""
    lines = [
        "| | runs | success | settle steps over the default's | KL at kappa over the default's, median | and greatest "
        "| accuracy, median | overshoot, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    default = next(iter(OURS))
    first, ablated = results.of_first_seed(), results.ablated()
    if not ablated:
        return "No part has been taken out yet."
    for name in (default, *ABLATION):
        rows = first.of(name, ablated)
        if not rows:
            continue
        names = [row["problem"] for row in rows]
        rates = first.rates_over(default, name, names)
        cells = [
            str(len(rows)),
            str(sum(row["success"] == "1" for row in rows)),
            _shown(bootstrap(first.over(default, name, names), geometric_mean), "{:.2f}"),
            _share(_quantile(rates, 0.5)),
            f"{100 * max(rates, default=math.nan):.1f}%",
            _share(
                _quantile(_numbers([r for r in rows if PROBLEMS[r["problem"]].kind == "feasible"], "accuracy"), 0.5)
            ),
            _shown(_quantile(_numbers(rows, "overshoot"), 0.5), "{:.2f}"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("\nKL at kappa: `KL + lambda C` with the multiplier that the default ended with.")
    return "\n".join(lines)


def _problems(results: _Results, contestants: Sequence[str], folders: Folders) -> str:
    """How many seeds of each problem succeeded."""
    lines = [f"| problem | budget | {' | '.join(contestants)} |", f"|---|---|{'---|' * len(contestants)}"]
    for name in PROBLEMS:
        oracle = oracle_of(name, folders)
        if oracle is None:
            continue
        cells = []
        for contestant in contestants:
            rows = results.of(contestant, [name])
            cells.append(f"{sum(row['success'] == '1' for row in rows)}/{len(rows)}" if rows else "")
        aside = " (set aside)" if name in SET_ASIDE else ""
        lines.append(f"| {name}{aside} | {oracle.budget} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _settings(results: _Results) -> str:
    lines = ["| contestant | setting | at the edge of its grid |", "|---|---|---|"]
    for name, setting in results.settings.items():
        if name in ABLATION:
            continue
        grid = CONTESTANTS[name].grid if name in CONTESTANTS else ()
        edge = next((at_edge(name, s) for s in grid if setting_name(s) == setting), [])
        lines.append(f"| {name} | {setting} | {', '.join(edge) or 'no'} |")
    return "\n".join(lines)


def _plots(results: _Results, contestants: Sequence[str], folders: Folders) -> list[str]:
    """Draws the plots; their Markdown."""
    shares: dict[str, list[float]] = {}
    settle: dict[tuple[str, str, int], float] = {}
    for key, row in results.where_all_ran().short.items():
        if key[0] not in contestants:
            continue
        steps = float(row["settled"]) if row["success"] == "1" and row["settled"] else math.inf
        settle[key] = steps
        shares.setdefault(key[0], []).append(steps / float(row["budget"]))
    draw_success({name: shares[name] for name in contestants}, folders.results / "success.png")
    best: dict[tuple[str, int], float] = {}
    for (_, problem, seed), steps in settle.items():
        best[problem, seed] = min(steps, best.get((problem, seed), math.inf))
    profile: dict[str, list[float]] = {name: [] for name in contestants}
    for (name, problem, seed), steps in settle.items():
        if math.isfinite(best[problem, seed]):
            profile[name].append(steps / best[problem, seed])
    draw_profile(profile, folders.results / "profile.png")
    folder = folders.results.name
    texts = [
        f"![Share of the runs settled, against the share of the budget spent.]({folder}/success.png)",
        f"![Share of the runs settled within so many times the steps of the best.]({folder}/profile.png)",
    ]
    if points := _tradeoff(results, contestants):
        draw_tradeoff(points, folders.results / "tradeoff.png")
        texts.append(f"![KL at kappa against settle steps, tuning problems, seed {SEEDS[0]}.]({folder}/tradeoff.png)")
    if failures := _failures(results, folders):
        draw_failures(failures, folders.results / "failures.png")
        texts.append(f"![Trajectories of our worst failures.]({folder}/failures.png)")
    if runs := _shown_runs(folders):
        draw_dynamics(runs, float(terms_of(SHOWN).bound), folders.results / "dynamics.png")
        texts.append(f"![Value, multiplier and KL on {SHOWN}.]({folder}/dynamics.png)")
    return texts


def _tradeoff(results: _Results, contestants: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Settle steps and the median KL at kappa, both over the default's, of every contestant, and of our rule with each
    of its differences, on the feasible problems and the seed of the ablation that all of these were run on; none where
    nothing was ablated."""
    first, default = results.of_first_seed(), next(iter(OURS))
    names = [
        problem
        for problem in results.ablated()
        if PROBLEMS[problem].kind == "feasible" and all((name, problem, SEEDS[0]) in first.short for name in ABLATION)
    ]
    points = {}
    for name in (*contestants, *ABLATION):
        over, rates = first.over(default, name, names), first.rates_over(default, name, names)
        if names and len(over) == len(names) and rates:
            points[name] = float(geometric_mean(np.array(over))), float(np.median(rates))
    return points


def _shown_runs(folders: Folders) -> dict[str, Trajectory]:
    """The runs of the figure that shows how multipliers move, by name; none where one of them is not at hand."""
    oracle = oracle_of(SHOWN, folders)
    if oracle is None:
        return {}
    jobs = {
        f"algorithm1, {setting['scale']}, {setting['nu']:g}": Job(SHOWN, "algorithm1", setting)
        for setting in PEERS["algorithm1"].grid
        if setting in SHOWN_SETTINGS
    }
    jobs["bridle"] = Job(SHOWN, "bridle", best_setting("bridle", folders))
    price = price_of(SHOWN, oracle.budget, folders)
    if price is None:
        return {}
    fixed = {"multipliers": f"{price[0]:.6g}"}
    jobs["the right multiplier from the first step"] = Job(SHOWN, "fixed", fixed)
    files = {name: trajectory_file(job, oracle.budget, folders) for name, job in jobs.items()}
    if not all(file.exists() for file in files.values()):
        return {}
    return {name: Trajectory.load(file) for name, file in files.items()}


def _failures(results: _Results, folders: Folders) -> list[tuple[str, Trajectory, list[float]]]:
    """The failures of ours that ended furthest from kappa and whose trajectories are at hand."""
    failed = [
        (math.inf if row["finite"] != "1" else float(row["accuracy"] or "nan"), key)
        for key, row in results.short.items()
        if key[0] in OURS and row["success"] != "1" and row["status"] == "ok"
    ]
    drawn = []
    for _, (name, problem, seed) in sorted(failed, key=lambda pair: -np.nan_to_num(pair[0], posinf=1e9))[:WORST]:
        budget = int(results.short[name, problem, seed]["budget"])
        job = Job(problem, name, best_setting(name, folders), seed)
        for steps in (budget, LONGER * budget):
            file = trajectory_file(job, steps, folders)
            if file.exists():
                bounds = terms_of(problem).yardstick.bound.tolist()
                drawn.append((f"{problem}\nseed {seed}", Trajectory.load(file).beginning(budget), bounds))
                break
    return drawn


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    numbers = [float(row[column]) for row in rows if row[column]]
    return [number for number in numbers if math.isfinite(number)]


def _quantile(numbers: Sequence[float], share: float) -> Estimate:
    return bootstrap(numbers, lambda values: np.quantile(values, share, axis=-1))


def _share(estimate: Estimate) -> str:
    return _shown(Estimate(*(100 * number for number in estimate)), "{:.1f}%")


def _shown(estimate: Estimate, form: str) -> str:
    if math.isnan(estimate.value):
        return ""
    value, low, high = (form.format(number) for number in estimate)
    return f"{value} ({low} to {high})"
