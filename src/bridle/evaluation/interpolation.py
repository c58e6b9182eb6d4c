"""Pictures between pictures: the straight line between two latents, decoded."""

from __future__ import annotations

import torch
from torch import Tensor

from bridle.errors import ConfigError
from bridle.evaluation.passes import measuring
from bridle.models.base import LatentModel

__all__ = ["interpolate"]


def interpolate(
    model: LatentModel, start: Tensor, end: Tensor, steps: int = 8, context: Tensor | None = None
) -> Tensor:
    """Decodes points at equal distances on the lines between the latents of pairs of images.

    The latents are samples of the posterior. The line is straight in z, for a model of several steps in all of them
    at once.

    Arguments:
        model: On the images' device; its training mode is left as it was.
        start: Images in [0, 1], shape ``(B, C, H, W)``.
        end: As many others.
        steps: Pictures of each pair, at least 2: the first and the last are reconstructions of the pair.
        context: A context image for each pair, shape ``(B, *context_shape)``, for a conditional model.

    Returns:
        Means of p(x | z) in pixel units, not clipped, shape ``(B, steps, C, H, W)``.

    Raises:
        ConfigError: Fewer than 2 steps.

    Example:
        >>> from bridle.models import ConvVAE
        >>> interpolate(ConvVAE((1, 8, 8)), torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8), steps=5).shape
        torch.Size([3, 5, 1, 8, 8])
    """
    if steps < 2:
        raise ConfigError(f"an interpolation needs 2 steps or more, got {steps}")
    with measuring(model) as generator:
        a, b = (model.encode(x, context, generator) for x in (start, end))
        weights = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
        return torch.stack([model.decode(torch.lerp(a, b, w), context) for w in weights], dim=1)
