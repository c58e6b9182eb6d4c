"""Each constraint against a direct, slow, obvious computation, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bridle.constraints import (
    CLA,
    CONSTRAINTS,
    FRE,
    KL,
    L1,
    LPIPS,
    PNCC,
    RE,
    SSIM,
    ImageConstraint,
    REChannel,
    Reconstruction,
    REPixel,
)
from bridle.constraints.base import START
from bridle.errors import ConfigError
from bridle.geco import GECO

SHAPE = (2, 9, 8)


def images(seed: int, n: int = 3, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(120, 5)
    )


def pair() -> Reconstruction:
    return Reconstruction(images(0), images(1), torch.tensor([1.0, 2.0, 6.0]), torch.tensor([4, 0, 2]))


def prepared(kappa: float = 0.5, layer: str = "2") -> FRE:
    fre = FRE(kappa, network(), layer, SHAPE)
    fre.prepare([images(5, 40), images(6, 24)])
    return fre


EVERY: list[ImageConstraint] = [
    RE(0.2),
    REPixel(0.2),
    REChannel(0.2),
    L1(0.2),
    PNCC(0.6),
    PNCC(0.6, patch=3, stride=2, random=20),
    SSIM(0.6),
    prepared(),
    LPIPS(0.1, network(), ["0", "2"], SHAPE),
    CLA(0.6, network(), SHAPE),
    KL(3.0),
]


def test_pixels() -> None:
    r = pair()
    x, y = r.x.double().numpy(), r.x_hat.double().numpy()
    pixel, channel = np.zeros(SHAPE), np.zeros(2)
    absolute = 0.0
    for b in range(3):
        for c in range(2):
            for i in range(9):
                for j in range(8):
                    e = x[b, c, i, j] - y[b, c, i, j]
                    pixel[c, i, j] += e**2 / 3
                    channel[c] += e**2 / (3 * 72)
                    absolute += abs(e) / (3 * 144)
    torch.testing.assert_close(REPixel(0.1).measure(r), torch.tensor(pixel, dtype=torch.float32))
    torch.testing.assert_close(REChannel(0.1).measure(r), torch.tensor(channel, dtype=torch.float32))
    assert L1(0.1).measure(r).item() == pytest.approx(absolute)
    assert KL(1.0).measure(r).item() == 3
    for re, elements in ((REPixel(0.1), pixel), (REChannel(0.1), channel)):
        assert re.worst(re.measure(r)).item() == pytest.approx(math.sqrt(elements.max()))


@pytest.mark.parametrize(("patch", "stride"), [(4, 2), (3, 1), (8, 4), (None, None)])
def test_pncc(patch: int | None, stride: int | None) -> None:
    r = pair()
    x, y = r.x.double().numpy(), r.x_hat.double().numpy()
    size = patch or 4
    step = stride or size // 2
    whole, plain = [], []
    for b in range(3):
        for i in range(0, 9 - size + 1, step):
            for j in range(0, 8 - size + 1, step):
                vectors = []
                for image in (x, y):
                    v = image[b, :, i : i + size, j : j + size].flatten()
                    v = np.append(v - v.mean(), 0.01 * math.sqrt(len(v)))
                    vectors.append(v / np.linalg.norm(v))
                whole.append(float(vectors[0] @ vectors[1]))
                a, c = (image[b, :, i : i + size, j : j + size].flatten() for image in (x, y))
                plain.append(np.corrcoef(a, c)[0, 1])
    value = PNCC(0.5, patch, stride).similarity(r).mean().item()
    assert value == pytest.approx(np.mean(whole), abs=1e-6)
    assert value == pytest.approx(np.mean(plain), abs=2e-3)  # where no patch is flat, the paper's own


def test_pncc_at_random_locations() -> None:
    """One location a draw: each value is that of some pixel where a patch fits, and every such pixel is drawn."""
    r, size = pair(), 5
    x, y = r.x.double().numpy(), r.x_hat.double().numpy()
    values = []
    for i in range(9 - size + 1):
        for j in range(8 - size + 1):
            correlations = []
            for b in range(3):
                vectors = []
                for image in (x, y):
                    v = image[b, :, i : i + size, j : j + size].flatten()
                    v = np.append(v - v.mean(), 0.01 * math.sqrt(len(v)))
                    vectors.append(v / np.linalg.norm(v))
                correlations.append(float(vectors[0] @ vectors[1]))
            values.append(np.mean(correlations))
    torch.manual_seed(0)
    one = PNCC(0.5, patch=size, stride=4, random=1)
    draws = np.array([one.similarity(r).mean().item() for _ in range(400)])
    distances = np.abs(draws[:, None] - np.array(values))
    assert distances.min(axis=1).max() < 1e-6
    assert set(distances.argmin(axis=1)) == set(range(20))

    many, grid = PNCC(0.5, patch=size, stride=4, random=4000), PNCC(0.5, patch=size, stride=4)
    assert many.similarity(r).mean().item() == pytest.approx(np.mean(values), abs=0.01)
    assert torch.equal(many.eval().similarity(r), grid.similarity(r))


def test_pncc_of_flat_patches() -> None:
    pncc, flat, noise = PNCC(0.5), torch.full((2, *SHAPE), 0.3), images(1, 2)

    def value(x: Tensor, x_hat: Tensor) -> float:
        return pncc.similarity(Reconstruction(x, x_hat, torch.zeros(2))).mean().item()

    assert value(flat, flat + 0.2) == pytest.approx(1)
    assert value(flat, noise) < 0.1 and value(noise, flat) < 0.1
    assert value(noise, noise) == pytest.approx(1)


@pytest.mark.parametrize("shape", [SHAPE, (1, 12, 15)])
def test_ssim(shape: tuple[int, int, int]) -> None:
    x, y = images(0, 2, shape), 0.6 * images(0, 2, shape) + 0.4 * images(1, 2, shape)
    side = 7 if shape == SHAPE else 11
    line = np.exp(-0.5 * ((np.arange(side) - side // 2) / (1.5 * side / 11)) ** 2)
    window = np.outer(line, line) / np.outer(line, line).sum()
    c1, c2, values = 1e-4, 9e-4, []
    border = [(0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)]
    x_padded, y_padded = (np.pad(t.double().numpy(), border, mode="reflect") for t in (x, y))
    for b in range(2):
        for c in range(shape[0]):
            for i in range(shape[1]):
                for j in range(shape[2]):
                    p, q = (t[b, c, i : i + side, j : j + side] for t in (x_padded, y_padded))
                    mp, mq = (window * p).sum(), (window * q).sum()
                    vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                    cov = (window * (p - mp) * (q - mq)).sum()
                    values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    value = SSIM(0.5).similarity(Reconstruction(x, y, torch.zeros(2))).mean().item()
    assert value == pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.parametrize("contrast", [0.1, 1.0, 3.0])
def test_the_negative_of_an_image_is_not_similar_to_it(contrast: float) -> None:
    """By the published measure it is, wherever it is dark enough: brightness and structure are both below zero."""
    x = images(0, 2, SHAPE)
    y = (-contrast * x).requires_grad_()
    value = SSIM(0.5).similarity(Reconstruction(x, y, torch.zeros(2)))
    assert bool((value < 0).all() and (value > -1).all())
    (slope,) = torch.autograd.grad(value.sum(), y)
    assert slope.sum() > 0  # brighter is better
    black = SSIM(0.5).similarity(Reconstruction(torch.zeros_like(x), y, torch.zeros(2)))
    assert bool((black >= 0).all())  # of a black image the published measure has an opinion, and it stands


def test_a_negative_finds_its_way_to_the_image() -> None:
    x = images(0, 2, SHAPE)
    y = (-x).requires_grad_()
    optimizer = torch.optim.Adam([y], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        value = SSIM(0.5).similarity(Reconstruction(x, y, torch.zeros(2))).mean()
        (-value).backward()
        optimizer.step()
    assert value > 0.95
    assert torch.corrcoef(torch.stack((x.flatten(), y.detach().flatten())))[0, 1] > 0.9


def test_fre() -> None:
    r, fre, reference = pair(), prepared(), network().eval()[:3]
    with torch.no_grad():
        train = reference(torch.cat((images(5, 40), images(6, 24)))).double()
        a, b = reference(r.x).double(), reference(r.x_hat).double()
    total, count = 0.0, 0
    for c in range(6):
        deviation = train[:, c].std(unbiased=False).item()
        for one, other in zip(a[:, c].flatten().tolist(), b[:, c].flatten().tolist(), strict=True):
            total += ((one - other) / deviation) ** 2
            count += 1
    assert fre.measure(r).item() == pytest.approx(total / count, rel=1e-5)
    assert fre.in_kappa_units(fre.measure(r)).item() == pytest.approx(math.sqrt(total / count), rel=1e-5)


def test_fre_of_the_mean_feature_is_one_and_dead_channels_do_not_count() -> None:
    class Shift(nn.Module):
        """Four channels, one of which never varies, and a number that stands for all of them."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((x, 3 * x + 1, x**2, torch.full_like(x, 7)), dim=1)

    fre = FRE(0.5, nn.Sequential(Shift()), "0", (1, 8, 8))
    x = images(0, 50, (1, 8, 8))
    fre.prepare([x])
    f = Shift()(x)
    mean = f.mean(dim=(0, 2, 3), keepdim=True).expand_as(f)
    standardised = (f - mean) * fre.scale.view(1, -1, 1, 1)
    assert standardised.square().mean().item() == pytest.approx(1, rel=1e-5)
    assert fre.scale[3] == 0 and (fre.scale[:3] > 0).all()


def test_features_are_of_any_layer_by_name_and_of_vectors_too() -> None:
    r = pair()
    for layer, count in (("1", 4 * 7 * 6), ("2", 6 * 5 * 4), ("4", 120), ("5", 5)):
        fre = prepared(layer=layer)
        assert fre.measure(r).isfinite() and fre.bound(SHAPE).initial == START * min(count, 144) / 2
    with pytest.raises(ConfigError, match="Sequential has no layer 'layer2': there are"):
        FRE(0.5, network(), "layer2", SHAPE)
    with pytest.raises(ConfigError, match="Sequential cannot take images of 1x9x8"):
        FRE(0.5, network(), "0", (1, 9, 8))
    with pytest.raises(ConfigError, match="the same for all training images"):
        FRE(0.5, network(), "0", SHAPE).prepare([torch.zeros(4, *SHAPE)])
    assert FRE(0.5, network(), "0", SHAPE).measure(r).isnan(), "unprepared"


def test_lpips() -> None:
    r, reference = pair(), network().eval()
    distances = []
    for depth in (1, 3):
        with torch.no_grad():  # in place, layer 1 changes what layer 0 gave: what counts is what it gave
            a, b = (reference[0](i) if depth == 1 else reference[:3](i) for i in (r.x, r.x_hat))
        cells = []
        for n in range(3):
            for i in range(a.shape[2]):
                for j in range(a.shape[3]):
                    u, v = a[n, :, i, j], b[n, :, i, j]
                    cells.append(float(((u / u.norm() - v / v.norm()) ** 2).sum()))
        distances.append(np.mean(cells))
    assert LPIPS(0.1, network(), ["0", "2"], SHAPE).measure(r).item() == pytest.approx(np.mean(distances), rel=1e-4)
    with pytest.raises(ConfigError, match=r"lpips\.layers is empty"):
        LPIPS(0.1, network(), [], SHAPE)


def test_cla() -> None:
    r, cla = pair(), CLA(0.6, network(), SHAPE)
    assert r.label is not None
    with torch.no_grad():
        logits = network().eval()(r.x_hat).double()
    p = [float(logits[n].exp()[r.label[n]] / logits[n].exp().sum()) for n in range(3)]
    assert cla.similarity(r).mean().item() == pytest.approx(np.mean(p), rel=1e-5)
    # The constraint is kappa - E[p] <= 0: violated below kappa.
    out = GECO({"cla": cla.bound(SHAPE)})(torch.tensor(0.0), cla=torch.tensor(1 - 0.5))
    assert out.violations["cla"].item() == pytest.approx((0.6 - 0.5) / (1 - 0.6))
    with pytest.raises(ConfigError, match="needs data with labels"):
        cla.measure(r._replace(label=None))


@pytest.mark.parametrize("constraint", EVERY, ids=lambda c: c.name)
@pytest.mark.parametrize("case", ["random", "perfect", "flat", "flat target", "flat reconstruction"])
def test_values_and_gradients_are_finite(constraint: ImageConstraint, case: str) -> None:
    r = pair()
    x = torch.zeros_like(r.x) if case in ("flat", "flat target") else r.x
    x_hat = {"random": r.x_hat, "flat target": r.x_hat, "perfect": r.x.clone()}.get(case, torch.zeros_like(r.x))
    x_hat = x_hat.requires_grad_()
    kl = r.kl.clone().requires_grad_()
    value = constraint.measure(Reconstruction(x, x_hat, kl, r.label))
    assert value.shape == constraint.bound(SHAPE).shape and value.isfinite().all()
    value.sum().backward()
    gradient = kl.grad if constraint.name == "kl" else x_hat.grad
    assert gradient is not None and gradient.isfinite().all()
    if case == "random":
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("constraint", EVERY, ids=lambda c: c.name)
def test_the_side_of_the_bound(constraint: ImageConstraint) -> None:
    kappa, bound = constraint.kappa, constraint.bound(SHAPE)
    # At kappa the constraint is at its bound; on the wrong side of it, above.
    measured = torch.tensor(kappa**2 if constraint.name in ("re", "re_pixel", "re_channel", "fre") else kappa)
    measured = 1 - measured if constraint.lower else measured
    assert bound.lower is None and bound.upper is not None
    assert torch.as_tensor(bound.upper).flatten()[0].item() == pytest.approx(measured.item())
    assert constraint.worst(measured).item() == pytest.approx(kappa)
    assert (constraint.worst(measured + 0.001) < kappa) == constraint.lower
    right, wrong = (1.009, 0.98) if constraint.lower else (0.98, 1.02)
    assert constraint.satisfied(right * kappa) and not constraint.satisfied(wrong * kappa)
    assert constraint.satisfied((0.991 if constraint.lower else 1.009) * kappa)
    assert bound.scale == "relative" and bound.initial > 0


@pytest.mark.parametrize("name", sorted(CONSTRAINTS))
def test_kappa_out_of_range(name: str) -> None:
    cls = CONSTRAINTS[name]
    rest = {"fre": (network(), "0", SHAPE), "lpips": (network(), ["0"], SHAPE), "cla": (network(), SHAPE)}
    least, greatest = cls.kappa_range
    wrong = [least, -0.1, float("nan"), float("inf"), 1.01 * greatest, *([greatest] if cls.lower else [])]
    for kappa in wrong:
        with pytest.raises(ConfigError, match=rf"constraints\.{name}: kappa must lie in \("):
            cls(kappa, *rest.get(name, ()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 0}, r"pncc\.patch must be at least 1, got 0"),
        ({"patch": 1}, r"pncc\.patch must be at least 2"),
        ({"stride": -1}, r"pncc\.stride must be at least 1"),
        ({"random": 0}, r"pncc\.random must be at least 1"),
        ({"patch": 9}, r"pncc\.patch 9 is greater than the images, 9x8"),
    ],
)
def test_settings_of_patches(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PNCC(0.5, **settings).bound(SHAPE)
