"""Constraints on what a network makes of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bridle.constraints.base import ImageConstraint, Number, Reconstruction, bound_from
from bridle.constraints.frozen import Frozen
from bridle.errors import ConfigError
from bridle.geco import Constraint

__all__ = ["FRE", "LPIPS"]

# A channel that varies this much less than the others is dead: dividing by its deviation would only enlarge noise.
_DEAD = 1e-3


class FRE(ImageConstraint):
    r"""Feature reconstruction error (table 1): the mean over features and images of
    :math:`(f(x) - f(\hat x))^2` is at most :math:`\kappa^2`, with f the output of a layer of a frozen network, each
    channel standardised over the training images (:meth:`prepare`).

    kappa is a root mean squared error in standard deviations of a feature, in (0, 1]; sensible values lie between 0.1
    and 0.7. At 1.0 the features are known no better than by the mean of each channel over all training images and
    positions. Channels that hardly vary are left out.

    The multiplier is that of ``fre / kappa^2 - 1``. Its price is half the number of features, or of dimensions of an
    image if that is less: more of them than the image has cannot vary on their own. See :class:`bridle.constraints.RE`.

    Arguments:
        kappa: The bound.
        network: Any module that takes images ``(B, C, H, W)`` in [0, 1]. It is frozen.
        layer: The name of a submodule, such as ``layer2`` or ``layer2.0``; its output is ``(B, channels, ...)``.
        image_shape: Channels, height and width of the images.

    Raises:
        ConfigError: The network cannot take such images, or has no such layer.

    Example:
        >>> x = torch.rand(64, 1, 8, 8)
        >>> fre = FRE(0.25, nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), layer="0", image_shape=(1, 8, 8))
        >>> fre.prepare([x])
        >>> mean = x.mean().expand_as(x)
        >>> value = fre.measure(Reconstruction(x, mean, kl=torch.zeros(64)))
        >>> round(fre.in_kappa_units(value).item(), 1)
        1.0
    """

    name = "fre"
    kappa_range = (0.0, 1.0)
    scale: Tensor

    def __init__(self, kappa: float, network: nn.Module, layer: str, image_shape: tuple[int, int, int]) -> None:
        super().__init__(kappa)
        self.layer = layer
        self.frozen = Frozen(network)
        features = self.frozen.try_out(image_shape, [layer])
        self.count = features[0].numel()
        # NaN until prepared: an error in units of nothing must not pass for one in kappa's.
        self.register_buffer("scale", torch.full((features.shape[1],), math.nan))

    @torch.no_grad()
    def prepare(self, images: Iterable[Tensor]) -> None:
        n, total = 0, torch.zeros_like(self.scale, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for batch in images:
            features = self.frozen.features(batch, [self.layer])[0].double().transpose(0, 1).flatten(1)
            n += features.shape[1]
            total += features.sum(dim=1)
            squares += features.square().sum(dim=1)
        if n == 0:
            raise ConfigError("constraints.fre: there are no training images to standardise its features by")
        deviation = (squares / n - (total / n).square()).clamp(min=0).sqrt()
        alive = deviation > _DEAD * deviation.square().mean().sqrt()
        if not alive.any():
            raise ConfigError(f"the features of layer {self.layer!r} are the same for all training images")
        # Scaled up for the dead, so that the plain mean over all channels is the mean over the living ones.
        self.scale.copy_(torch.where(alive, alive.double().mean().rsqrt() / deviation, 0))

    def each(self, r: Reconstruction) -> Tensor:
        with torch.no_grad():
            target = self.frozen.features(r.x, [self.layer])[0]
        features = self.frozen.features(r.x_hat, [self.layer])[0]
        difference = features.float() - target.float()
        return (difference * self.scale.view(-1, *(1 for _ in difference.shape[2:]))).square().flatten(1).mean(dim=1)

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        return bound_from(min(self.count, math.prod(image_shape)) / 2, upper=self.kappa**2)

    def in_kappa_units(self, measured: Tensor) -> Tensor:
        return measured.sqrt()

    def measured_at(self, value: Number) -> Number:
        return value**2


class LPIPS(ImageConstraint):
    r"""A perceptual distance in the manner of LPIPS, without its learned weights: at several layers the channels of
    each position are divided by their norm; the squared distance of these unit vectors for x and :math:`\hat x`,
    averaged over positions, layers and images, is at most :math:`\kappa`.

    kappa is a squared distance of unit vectors, in (0, 2]; sensible values lie between 0.02 and 0.5. 2 is that of
    features without anything in common. The numbers are not those of the published metric, whose networks and weights
    differ.

    The multiplier is that of ``lpips / kappa - 1``. Its price is D/2, D the dimensions of an image, as that of a
    squared error; see :class:`bridle.constraints.RE`.

    Arguments:
        kappa: The bound.
        network: Any module that takes images ``(B, C, H, W)`` in [0, 1]. It is frozen.
        layers: Names of submodules, whose outputs are ``(B, channels, ...)``.
        image_shape: Channels, height and width of the images.

    Raises:
        ConfigError: The network cannot take such images, has no such layer, or no layer is given.

    References:
        The unreasonable effectiveness of deep features as a perceptual metric (Zhang et al., 2018).

    Example:
        >>> x = torch.rand(4, 1, 8, 8)
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        >>> lpips = LPIPS(0.1, network, layers=["1", "2"], image_shape=(1, 8, 8))
        >>> lpips.measure(Reconstruction(x, x, kl=torch.zeros(4)))
        tensor(0.)
    """

    name = "lpips"
    kappa_range = (0.0, 2.0)

    def __init__(
        self, kappa: float, network: nn.Module, layers: Sequence[str], image_shape: tuple[int, int, int]
    ) -> None:
        super().__init__(kappa)
        if not layers:
            raise ConfigError("lpips.layers is empty: name at least one layer")
        self.layers = tuple(layers)
        self.frozen = Frozen(network)
        self.frozen.try_out(image_shape, self.layers)

    def each(self, r: Reconstruction) -> Tensor:
        with torch.no_grad():
            targets = self.frozen.features(r.x, self.layers)
        features = self.frozen.features(r.x_hat, self.layers)
        pairs = zip(features, targets, strict=True)
        distances = [(_unit(a) - _unit(b)).square().sum(dim=1).flatten(1).mean(dim=1) for a, b in pairs]
        return torch.stack(distances).mean(dim=0)

    def bound(self, image_shape: tuple[int, int, int]) -> Constraint:
        return bound_from(math.prod(image_shape) / 2, upper=self.kappa)


def _unit(features: Tensor) -> Tensor:
    """Divided by the norm of each position's channels; the small number is for positions where nothing is active."""
    features = features.float()
    return features * (features.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt()
