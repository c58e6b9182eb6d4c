"""Everything that decides a run, as typed dataclasses: the command line, config.yaml and Python share them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from bridle.errors import ConfigError

__all__ = [
    "OBJECTIVE_SETTINGS",
    "OPTIONS",
    "ClassSpec",
    "ClassifierOptions",
    "Constraints",
    "FeatureOptions",
    "Geco",
    "PatchOptions",
    "PerceptualOptions",
    "Range",
    "TrainConfig",
]

Range = tuple[float, float]
"""The least and the greatest kappa of a dial."""


@dataclass
class ClassSpec:
    """A class by its import path, and the settings to call it with."""

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)


@dataclass
class Constraints:
    """Bounds on the reconstructions, each by its kappa; several hold at once. A range of kappas, such as 0.05:0.25,
    trains one model for all of them."""

    re: float | str | None = None
    """Reconstruction error: root mean squared error per pixel at most this, in pixel units (0 to 1)."""

    re_pixel: float | str | None = None
    """The same for every pixel of every channel: root mean squared error over images, in pixel units (0 to 1)."""

    re_channel: float | str | None = None
    """The same for every channel: root mean squared error, in pixel units (0 to 1)."""

    l1: float | str | None = None
    """Mean absolute error per pixel at most this, in pixel units (0 to 1)."""

    pncc: float | str | None = None
    """Patch normalised cross-correlation: mean correlation of patches at least this (0 to 1, sensibly 0.3 to 0.95)."""

    ssim: float | str | None = None
    """Structural similarity at least this (0 to 1, sensibly 0.3 to 0.95)."""

    fre: float | str | None = None
    """Feature reconstruction error: root mean squared error of a classifier's standardised features at most this;
    1 is no better than the mean feature (0 to 1, sensibly 0.1 to 0.7)."""

    lpips: float | str | None = None
    """Perceptual distance at most this: squared distance of unit-norm features (0 to 2, sensibly 0.02 to 0.5)."""

    cla: float | str | None = None
    """Probability that a classifier gives the true class of a reconstruction at least this (0 to 1, sensibly 0.5 to
    0.99)."""

    kl: float | None = None
    """Rate: KL at most this, in nats per image; what is minimised is then the error."""

    def given(self) -> dict[str, float | Range]:
        """Name to kappa, or the range of kappas, of those that are set.

        Raises:
            ConfigError: Something that is neither.

        Example:
            >>> Constraints(re="0.05:0.25", pncc=0.6).given()
            {'re': (0.05, 0.25), 'pncc': 0.6}
        """
        return {f.name: _kappa(f.name, given) for f in fields(self) if (given := getattr(self, f.name)) is not None}

    def ranges(self) -> dict[str, Range]:
        """Name to range of those that have one."""
        return {name: kappa for name, kappa in self.given().items() if isinstance(kappa, tuple)}


def _kappa(name: str, given: float | str) -> float | Range:
    """A kappa, or a range of them, from a setting."""
    if not isinstance(given, str):
        return given
    try:
        least, greatest = map(float, given.split(":"))
    except ValueError:
        raise ConfigError(
            f"constraints.{name}: expected a number, or a range such as 0.05:0.25, got {given!r}"
        ) from None
    if not least < greatest:
        raise ConfigError(f"constraints.{name}: a range is from its least kappa to its greatest, got {given}")
    return least, greatest


@dataclass
class PatchOptions:
    """Which patches constraint pncc compares."""

    patch: int | None = None
    """Side of a patch in pixels; 8, at most half the image, if not given."""

    stride: int | None = None
    """Pixels from one location to the next; half a patch if not given."""

    random: int | None = None
    """So many locations, any pixel where a patch fits, drawn anew for each training batch; the grid's if not given."""


@dataclass
class FeatureOptions:
    """Which features constraint fre compares."""

    classifier: str | None = None
    """Folder of a classifier, made by bridle classifier train; one is trained on the data's labels if not given."""

    layer: str = "layer2"
    """The layer, by its name in the network."""


@dataclass
class PerceptualOptions:
    """Which features constraint lpips compares."""

    classifier: str | None = None
    """Folder of a classifier, made by bridle classifier train; one is trained on the data's labels if not given."""

    layers: list[str] = field(default_factory=lambda: ["layer1", "layer2", "layer3"])
    """The layers, by their names in the network."""


@dataclass
class ClassifierOptions:
    """The classifier of constraint cla."""

    classifier: str | None = None
    """Folder of a classifier, made by bridle classifier train; one is trained on the data's labels if not given."""


OPTIONS: dict[str, type] = {
    "pncc": PatchOptions,
    "fre": FeatureOptions,
    "lpips": PerceptualOptions,
    "cla": ClassifierOptions,
}
"""The constraints with options of their own, and of what class these are."""

OBJECTIVE_SETTINGS: dict[str, tuple[str, ...]] = {
    "geco": ("constraints", *OPTIONS, "geco", "constrain_on"),
    "beta": ("beta",),
    "annealed": ("annealing",),
}
"""The settings of :class:`TrainConfig` that one objective alone looks at."""


@dataclass
class Geco:
    """How the multipliers move."""

    rule: Literal["pi", "algorithm1"] = "pi"
    """pi: a controller that needs no tuning. algorithm1: the paper's rule as printed (multiplier from 1, no bounds,
    absolute constraint)."""

    rate: float | None = None
    """Change of log(multiplier) per step and unit of the constraint; the rule's own if not given."""

    alpha: float = 0.99
    """Decay of the constraint's moving average per step, 0 to 1."""


@dataclass
class TrainConfig:
    """A training run."""

    data: ClassSpec = field(default_factory=lambda: ClassSpec("bridle.data.Digits"))
    """The data set."""

    model: ClassSpec = field(default_factory=lambda: ClassSpec("bridle.models.ConvVAE"))
    """The model."""

    objective: Literal["geco", "elbo", "beta", "annealed"] = "geco"
    """geco: least KL under the constraints. elbo, beta, annealed: the baselines, with a learned sigma."""

    constraints: Constraints = field(default_factory=Constraints)
    pncc: PatchOptions = field(default_factory=PatchOptions)
    fre: FeatureOptions = field(default_factory=FeatureOptions)
    lpips: PerceptualOptions = field(default_factory=PerceptualOptions)
    cla: ClassifierOptions = field(default_factory=ClassifierOptions)
    geco: Geco = field(default_factory=Geco)

    constrain_on: Literal["train", "validation"] = "train"
    """The images whose error moves the multipliers; validation costs a second forward pass a step."""

    beta: float = 4.0
    """Weight of the KL for objective beta."""

    annealing: Literal["kl_weight", "pixel_std"] = "kl_weight"
    """What objective annealed anneals from 2.0 to 0.7: the weight of the KL, or the pixels' standard deviation."""

    init: str | None = None
    """Folder of a run whose weights and multipliers to begin with: of one with a range of kappas, those at the kappa
    that is stated. Data, model, batch and lr are its own if not given, and steps a fifth of its."""

    steps: int = 5000
    """Steps of the optimizer."""

    until: Literal["steps", "settled"] = "steps"
    """steps: train for so many. settled: stop earlier, when all constraints have settled and the KL no longer falls."""

    batch: int = 128
    """Examples a step, over all processes."""

    lr: float = 1e-3
    """Adam's learning rate."""

    lr_final: float | None = None
    """The learning rate at the end, to which it falls linearly over the last fifth of the run; a tenth of lr if not
    given. It settles the weights, which a constant rate leaves a few per cent of KL off at any one step."""

    clip: float = 100.0
    """The greatest norm of the gradient; 0 switches clipping off."""

    accumulate: int = 1
    """Forward passes that a step's examples are spread over, to save memory."""

    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""

    compile: bool = False
    """Compile the step's forward and backward pass. It needs a C++ compiler, Python's headers, and a quarter of a
    minute or more; it pays in long runs of models of many small operations, such as ConvDRAW."""

    device: Literal["auto", "cpu"] = "auto"
    """auto: the accelerator, if there is one."""

    seed: int = 0
    """Seed of the weights, the order of the data and all noise."""

    log_every: int = 25
    """Steps between two rows of metrics.csv."""

    checkpoint_every: int | None = None
    """Steps between two checkpoints; a tenth of the run if not given."""

    def validate(self) -> None:
        """Refuses settings that are out of range or do not fit together.

        Raises:
            ConfigError: The first such setting.
        """
        for name in ("steps", "batch", "accumulate", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"lr must be positive and finite, got {self.lr:g}")
        if self.lr_final is not None and not 0 <= self.lr_final <= self.lr:
            raise ConfigError(f"lr_final must lie in 0 to lr, got {self.lr_final:g}")
        if not (math.isfinite(self.clip) and self.clip >= 0):
            raise ConfigError(f"clip must be zero (off) or positive, got {self.clip:g}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must lie in 0 to 2^31 - 1, got {self.seed}")
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ConfigError(f"checkpoint_every must be at least 1, got {self.checkpoint_every}")
        constraints = self.constraints.given()
        for name, kappa in constraints.items():
            for end in kappa if isinstance(kappa, tuple) else (kappa,):
                if not (math.isfinite(end) and end > 0):
                    raise ConfigError(f"constraints.{name}: kappa must be positive and finite, got {end:g}")
        if {"kl", "re"} <= constraints.keys():
            raise ConfigError(
                "constraints.kl minimises the error that constraints.re bounds: state the rate or the error, not both"
            )
        if ranges := self.constraints.ranges():
            if "kl" in constraints:
                raise ConfigError(
                    f"constraints.kl goes with one kappa of constraints.{next(iter(ranges))}, not a range"
                )
            if self.init is not None:
                raise ConfigError("init: a run with a range of kappas begins with fresh weights")
            if self.geco.rule != "pi":
                raise ConfigError(f"a range of kappas needs --geco.rule pi, got {self.geco.rule}")
        for name, options in OPTIONS.items():
            if name not in constraints and getattr(self, name) != options():
                raise ConfigError(f"{name}.* says what constraints.{name} compares: give --constraints.{name} a kappa")
        if self.objective == "geco" and not constraints:
            raise ConfigError("objective geco needs a constraint, such as --constraints.re 0.1")
        if self.objective != "geco" and constraints:
            raise ConfigError(
                f"objective {self.objective} enforces no constraint: leave out "
                f"{', '.join(f'constraints.{name}' for name in constraints)}, or use --objective geco"
            )
        if self.objective != "geco" and self.until == "settled":
            raise ConfigError(f"until settled needs constraints that settle: objective {self.objective} has none")
        if self.objective != "geco" and self.constrain_on != "train":
            raise ConfigError(f"constrain_on {self.constrain_on} needs --objective geco")

    def learning_rate(self, step: int, end: int | None = None) -> float:
        """The learning rate of a step, counted from 0, of a run that ends after ``end`` steps: ``steps``, if not given.

        Example:
            >>> config = TrainConfig(steps=100, lr=1.0)
            >>> [round(config.learning_rate(step), 2) for step in (0, 80, 90, 99)]
            [1.0, 1.0, 0.55, 0.15]
        """
        final = self.lr / 10 if self.lr_final is None else self.lr_final
        end = self.steps if end is None else end
        left = min(1.0, (end - step) / (0.2 * end))
        return final + (self.lr - final) * left

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dicts, as config.yaml holds them."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TrainConfig:
        """The inverse of :meth:`as_dict`.

        Raises:
            ConfigError: A key that does not exist.
        """
        known = {f.name for f in fields(TrainConfig)}
        if unknown := sorted(values.keys() - known):
            raise ConfigError(f"unknown setting {unknown[0]!r}: there are {', '.join(sorted(known))}")
        nested = {"data": ClassSpec, "model": ClassSpec, "constraints": Constraints, "geco": Geco, **OPTIONS}
        try:
            return TrainConfig(**{k: nested[k](**v) if k in nested else v for k, v in values.items()})
        except TypeError as error:
            raise ConfigError(f"the configuration cannot be read: {error}") from None
