"""What ``tiny``, ``small`` and ``paper`` mean: the data in the place of the paper's, sizes, steps, kappas and seeds.

Nothing else in the package depends on the scale's name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from bridle.errors import ConfigError
from bridle.sweeps import RunSpec
from bridle.training import ClassSpec, Constraints, TrainConfig
from bridle.training.presets import PresetName, preset_for

__all__ = ["KAPPAS", "MODELS", "SCALES", "Model", "Objective", "Scale", "Source"]

Model = Literal["ConvDRAW", "NVPVAE"]
Objective = Literal["elbo", "annealed"]

MODELS: dict[Model, str] = {"ConvDRAW": "ConvDRAW", "NVPVAE": "VAE+NVP"}
"""The models, and what the paper calls them."""

KAPPAS = (0.06, 0.08, 0.1, 0.125, 0.175)
"""The reconstruction thresholds of figure 2: root mean squared errors per pixel, pixel units (0 to 1)."""


@dataclass(frozen=True)
class Source:
    """A data set at a scale. ``name``: on axes and in the names of run folders; ``spec``: its class and settings;
    ``paper``: the paper's data set that it is, or stands for."""

    name: str
    spec: ClassSpec
    paper: str


@dataclass(frozen=True)
class Scale:
    """One size of the whole reproduction.

    ``preset``: the models' sizes, steps, batch and learning rate, in the place of which ``sizes`` and ``training`` give
    others by model.
    ``unconditional`` and ``conditional``: the data of figure 2. ``rotate``, ``celeba``, ``color_mnist``, ``cifar10``:
    what is used where the paper uses these, None where its files are missing. ``kappas``: of constraint RE in figure 2
    and table 2, pixel units. ``fre``: by the kappa that the paper prints (in features of a classifier that it does not
    describe) the one used here, in standard deviations of a feature. ``pncc``: a correlation; the paper prints none.
    ``seeds``: of figure 4; the first is that of all other runs. ``marginal_samples``: of each marginal KL.
    ``pictures``: of each kind, to look for holes in the prior. ``classifier_steps``: of the classifier that FRE looks
    through. ``dial``: whether figure 2 also has a run for all kappas at once. ``left_out``: why, by the name of a
    source.
    """

    name: str
    preset: PresetName
    unconditional: tuple[Source, ...]
    conditional: tuple[Source, ...]
    rotate: Source | None
    celeba: Source | None
    color_mnist: Source | None
    cifar10: Source | None
    fre: Mapping[float, float]
    marginal_samples: int
    classifier_steps: int
    sizes: Mapping[Model, Mapping[str, Any]] = field(default_factory=dict)
    training: Mapping[Model, Mapping[str, Any]] = field(default_factory=dict)
    models: tuple[Model, ...] = get_args(Model)
    kappas: tuple[float, ...] = KAPPAS
    pncc: float = 0.8
    pictures: int = 500
    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    dial: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, source: Source, model: Model, objective: Objective | None = None, seed: int | None = None, **kappas: float
    ) -> RunSpec:
        """A run at this scale, under the name that all figures know it by.

        Arguments:
            source: The data set.
            model: The model family.
            objective: A baseline, or None for GECO.
            seed: The first of the scale's if not given.
            kappas: For GECO, each constraint's kappa in the constraint's units.

        Example:
            >>> tiny = SCALES["tiny"]
            >>> run = tiny.run(tiny.cifar10, "ConvDRAW", re=0.1)
            >>> run.name, run.config.data.class_path
            ('Digits,ConvDRAW,re=0.1,seed=0', 'bridle.data.Digits')
        """
        seed = self.seeds[0] if seed is None else seed
        what = [objective] if objective else [f"{name}={kappa:g}" for name, kappa in kappas.items()]
        preset = preset_for(model, self.preset)
        settings = {"steps": preset.steps, "batch": preset.batch, "lr": preset.lr, **self.training.get(model, {})}
        config = TrainConfig(
            data=source.spec,
            model=ClassSpec(f"bridle.models.{model}", {**preset.model, **self.sizes.get(model, {})}),
            objective=objective or "geco",
            constraints=Constraints(**kappas),
            seed=seed,
            **settings,
        )
        return RunSpec(",".join([source.name, model, *what, f"seed={seed}"]), config)

    def dialled(self, source: Source, model: Model) -> RunSpec:
        """A run for the whole range of kappas, with twice the steps of one for a single kappa.

        Example:
            >>> tiny = SCALES["tiny"]
            >>> tiny.dialled(tiny.cifar10, "ConvDRAW").name
            'Digits,ConvDRAW,re=0.06to0.175,seed=0'
        """
        least, greatest = min(self.kappas), max(self.kappas)
        config = self.run(source, model, re=least).config
        config = replace(config, constraints=Constraints(re=f"{least:g}:{greatest:g}"), steps=2 * config.steps)
        return RunSpec(f"{source.name},{model},re={least:g}to{greatest:g},seed={config.seed}", config)

    def sources(self) -> list[Source]:
        """All data sets of the scale, each once."""
        single = [s for s in (self.rotate, self.celeba, self.color_mnist, self.cifar10) if s is not None]
        return list({s.name: s for s in (*self.unconditional, *self.conditional, *single)}.values())

    def without(self, reasons: Mapping[str, str]) -> Scale:
        """The scale without the sources of these names, with the reason of each for the captions."""

        def kept(source: Source | None) -> Source | None:
            return None if source is None or source.name in reasons else source

        return replace(
            self,
            unconditional=tuple(s for s in self.unconditional if kept(s)),
            conditional=tuple(s for s in self.conditional if kept(s)),
            rotate=kept(self.rotate),
            celeba=kept(self.celeba),
            color_mnist=kept(self.color_mnist),
            cifar10=kept(self.cifar10),
            left_out={**self.left_out, **reasons},
        )

    def only(self, data: Collection[str] | None = None, models: Collection[str] | None = None) -> Scale:
        """The scale with some of its data sets and models only; all of them where None.

        Raises:
            ConfigError: A name that the scale does not have.
        """
        _refuse_unknown(data or (), [s.name for s in self.sources()], self.name)
        _refuse_unknown(models or (), self.models, self.name)
        scale = self
        if data is not None:
            scale = scale.without({s.name: "not asked for" for s in self.sources() if s.name not in data})
        return scale if models is None else replace(scale, models=tuple(m for m in self.models if m in models))

    def quickly(self) -> Scale:
        """The reduced form, which shows that everything works and nothing about the paper."""
        training: dict[Model, Mapping[str, Any]] = {
            "ConvDRAW": {"steps": 12, "batch": 32, "log_every": 2, "lr": 1e-3},
            "NVPVAE": {"steps": 24, "batch": 32, "log_every": 2, "lr": 1e-3},
        }
        return replace(
            self,
            training=training,
            kappas=(0.06, 0.1),
            seeds=self.seeds[:1],
            marginal_samples=16,
            pictures=16,
            classifier_steps=10,
            quick=True,
        )


def _refuse_unknown(given: Iterable[str], known: Sequence[str], scale: str) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"scale {scale} has no {name!r}: there are {', '.join(known)}")


def _source(name: str, class_name: str, paper: str, **settings: Any) -> Source:
    return Source(name, ClassSpec(f"bridle.data.{class_name}", settings), paper)


_MNIST = _source("MNIST", "MNIST", "MNIST")
_CIFAR10 = _source("CIFAR-10", "CIFAR10", "CIFAR-10")
_CELEBA = _source("CelebA", "CelebA", "CelebA")
_COLOR_MNIST = _source("Color-MNIST", "ColorMNIST", "Color-MNIST")
_TRIPLETS = _source("MNIST-triplets", "MNISTTriplets", "MNIST-triplets")
_SUM = _source("MNIST-sum", "MNISTSum", "MNIST-sum")
_SUM_HARD = _source("MNIST-sum-hard", "MNISTSumHard", "MNIST-sum-hard")
_ROTATE = _source("MNIST-rotate", "MNISTRotate", "MNIST-rotate")
_DIGITS_ROTATE = _source("Digits-rotate", "MNISTRotate", "MNIST-rotate", base="Digits")
_COLOR_DIGITS = _source("Color-Digits", "ColorMNIST", "Color-MNIST", base="Digits")


def _digits(paper: str) -> Source:
    return _source("Digits", "Digits", paper)


SCALES: dict[str, Scale] = {
    # 8x8 digits, no files: everything in minutes, a run in at most 40 s. Models that reach the tightest kappa, 0.06, in
    # that time on three digits in one image, too: fewer refinements of more latents, and many small steps.
    "tiny": Scale(
        name="tiny",
        preset="tiny",
        unconditional=(_digits("MNIST"),),
        conditional=(_DIGITS_ROTATE,),
        rotate=_DIGITS_ROTATE,
        celeba=_digits("CelebA"),
        color_mnist=_COLOR_DIGITS,
        cifar10=_digits("CIFAR-10"),
        sizes={
            "ConvDRAW": {"steps": 2, "latent_channels": 8},
            "NVPVAE": {"latents": 64, "hidden": 256},
        },
        training={
            "ConvDRAW": {"steps": 1600, "batch": 16, "lr": 4e-3, "log_every": 20},
            "NVPVAE": {"steps": 2700, "lr": 4e-3},
        },
        fre={1.0: 0.5, 0.0625: 0.25},
        marginal_samples=250,
        classifier_steps=200,
    ),
    # MNIST, CIFAR-10 and what is composed of MNIST, in hours on two cores or minutes on a GPU.
    "small": Scale(
        name="small",
        preset="small",
        unconditional=(_CIFAR10, _MNIST, _COLOR_MNIST),
        conditional=(_ROTATE,),
        rotate=_ROTATE,
        celeba=replace(_CIFAR10, paper="CelebA"),
        color_mnist=_COLOR_MNIST,
        cifar10=_CIFAR10,
        fre={1.0: 0.5, 0.0625: 0.25},
        marginal_samples=250,
        classifier_steps=2000,
    ),
    "paper": Scale(
        name="paper",
        preset="paper",
        unconditional=(_CELEBA, _CIFAR10, _MNIST, _COLOR_MNIST, _TRIPLETS),
        conditional=(_SUM, _SUM_HARD, _ROTATE),
        rotate=_ROTATE,
        celeba=_CELEBA,
        color_mnist=_COLOR_MNIST,
        cifar10=_CIFAR10,
        fre={1.0: 0.5, 0.0625: 0.25},
        marginal_samples=1000,
        classifier_steps=5000,
    ),
}
"""The scales by name."""
