"""Measurements against direct computations on a model whose numbers are known."""

from __future__ import annotations

import math
import os

import pytest
import torch
from torch import Generator, Tensor

from bridle.constraints import PNCC, RE, Reconstruction
from bridle.data import CIFAR10, MNIST, DataSet, SplitName, TensorSplit
from bridle.evaluation import measure, measure_split
from bridle.likelihood import quantized_normal_nll
from bridle.models import LatentModel, ModelOutput


class Noisy(LatentModel):
    """Adds noise of a known size to the image; its KL is the image's mean."""

    def __init__(self) -> None:
        super().__init__((1, 8, 8))
        self.sigma = torch.nn.Parameter(torch.tensor(0.1))
        self.modes: list[bool] = []

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        self.modes.append(self.training)
        noise = torch.randn(x.shape, generator=generator)
        return ModelOutput(x + self.sigma * noise, x.mean(dim=(1, 2, 3)), x)

    def encode(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z

    def prior(self, n: int, context: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        return torch.zeros(n, 1, 8, 8)


class Random(DataSet):
    """1,300 training images, more than the points of sigma_opt, and 300 test images."""

    def split(self, name: SplitName) -> TensorSplit:
        n, seed = {"train": (1300, 0), "validation": (10, 1), "test": (300, 2)}[name]
        return TensorSplit(
            torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=Generator().manual_seed(seed))
        )


def test_means_over_the_whole_split() -> None:
    model, split = Noisy(), Random().split("train")
    measured = measure_split(model, split, [RE(0.1)])
    assert measured.n == 1300
    assert measured.kl == pytest.approx(split.images.double().mean().item() / 255, rel=1e-5)
    assert measured.rmse == pytest.approx(0.1, rel=0.01)
    assert measured.values["re"] == pytest.approx(measured.rmse, rel=1e-5)
    kl = split.images.double().mean(dim=(1, 2, 3)) / 255  # this model's rate
    assert measured.kl_standard_error == pytest.approx(kl.std(correction=1).item() / math.sqrt(1300), rel=1e-4)


def test_several_z_of_each_image() -> None:
    """The noise of a mean falls with their number; what is known of the images does not rise."""
    model, split = Noisy(), Random().split("test")
    one, many = (measure_split(model, split, [RE(0.1)], most=50, times=times) for times in (1, 40))
    assert one.n == many.n == 50
    assert many.kl == pytest.approx(one.kl, rel=1e-6)
    assert many.kl_standard_error == pytest.approx(one.kl_standard_error, rel=1e-5)
    assert abs(many.rmse - 0.1) < 0.001 and many.values["re"] == pytest.approx(many.rmse, rel=1e-5)
    assert many.rmse != one.rmse


def test_information_plane_and_bits() -> None:
    measured = measure(Noisy(), Random(), [RE(0.1)])
    assert measured.sigma_opt == pytest.approx(0.1, rel=0.01)
    # With 8 bits the NLL at sigma_opt is a function of the error alone.
    assert measured.nll == pytest.approx(math.log(measured.sigma_opt) + 6.960, abs=0.005)
    test = Random().split("test").batch(torch.arange(300)).x
    torch.manual_seed(5)
    nll = quantized_normal_nll(test, test + 0.1 * torch.randn_like(test), measured.sigma_opt, 1 / 255).mean().item()
    assert measured.nll_held_out == pytest.approx(nll, abs=0.02)
    bits = (64 * measured.nll_held_out + measured.held_out.kl) / (64 * math.log(2))
    assert measured.bits_per_dim == pytest.approx(bits)


def test_repeats_disturbs_nothing_and_measures_in_eval_mode() -> None:
    model = Noisy().train()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = measure(model, Random(), [RE(0.1)])
    assert torch.equal(before, torch.get_rng_state())
    assert model.training and not any(model.modes)
    torch.manual_seed(2)
    assert measure(model, Random(), [RE(0.1)]) == first


@pytest.mark.parametrize("training", [True, False])
def test_constraints_are_measured_in_eval_mode_and_left_in_theirs(training: bool) -> None:
    pncc, split = PNCC(0.5, patch=4, random=2).train(training), Random().split("test")
    torch.manual_seed(1)
    first = measure_split(Noisy(), split, [pncc])
    torch.manual_seed(2)
    assert measure_split(Noisy(), split, [pncc]) == first
    assert pncc.training is training


def test_modes_are_as_they_were_after_an_error() -> None:
    class Broken(RE):
        def measure(self, r: Reconstruction) -> Tensor:
            assert not self.training
            raise ArithmeticError

    model, constraints = Noisy().train(), [PNCC(0.5, random=2).train(), Broken(0.1).train()]
    with pytest.raises(ArithmeticError):
        measure_split(model, Random().split("test"), constraints)
    assert model.training and all(c.training for c in constraints)


class Part(DataSet):
    """The first images of a data set, for a test that has no time for all."""

    def __init__(self, whole: DataSet) -> None:
        self.splits: dict[SplitName, TensorSplit] = {
            name: TensorSplit(whole.split(name).images[:300]) for name in ("train", "test")
        }

    def split(self, name: SplitName) -> TensorSplit:
        return self.splits[name]


class Erring(Noisy):
    """Errors of a stated root mean square, distributed like no Gaussian: small ones almost always, large ones at times.

    Its rate and latents are those of :class:`Noisy`.
    """

    def forward(self, x: Tensor, context: Tensor | None = None, generator: Generator | None = None) -> ModelOutput:
        out = super().forward(x, context, generator)
        noise = (out.x_hat - x) / self.sigma
        laplace = noise * (1 - torch.rand(x.shape, generator=generator)).log().neg().sqrt()  # of variance 1
        return out._replace(x_hat=x + self.sigma * laplace)


@pytest.mark.parametrize("model", [Noisy, Erring])
@pytest.mark.parametrize("name", ["generated", "MNIST", "CIFAR10"])
def test_with_8_bits_the_nll_is_a_function_of_the_error(name: str, model: type[Noisy]) -> None:
    """ln(sigma_opt) + 6.960 nats a dimension, on the points that sigma_opt was computed from, down to errors of one
    bin. It deviates with the fourth power of bin / RMSE times the kurtosis of the errors: by 0.002 for Gaussian ones
    of one bin."""
    if name != "generated" and not os.environ.get("BRIDLE_DATA"):
        pytest.skip("BRIDLE_DATA does not name a folder with MNIST/raw and cifar-10-batches-py")
    data = {"generated": Random, "MNIST": lambda: Part(MNIST()), "CIFAR10": lambda: Part(CIFAR10())}[name]()
    assert data.split("train").bin == 1 / 255
    for error in (1 / 255, 2 / 255, 0.017, 0.06, 0.1, 0.175):
        erring = model()
        with torch.no_grad():
            erring.sigma.fill_(error)
        measured = measure(erring, data)
        assert measured.sigma_opt == pytest.approx(error, rel=0.02)
        tolerance = 0.004 if error < 2 / 255 else 0.002
        assert measured.nll == pytest.approx(math.log(measured.sigma_opt) + 6.960, abs=tolerance)
