"""The classifier: a small residual network for images of 8x8 and more."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bridle.errors import ConfigError

__all__ = ["BLOCKS", "WIDTH", "Classifier"]

WIDTH, BLOCKS = 16, 2
"""Channels of the first layer, and residual blocks in each layer, unless others are asked for."""


class Classifier(nn.Module):
    """A residual network from images to logits.

    ::

        images ──► conv 3x3 ──► layer1 ──► layer2 (stride 2) ──► layer3 (stride 2) ──► mean over positions ──► linear
                   width        width      2 width               4 width

    Each layer is a row of ``blocks`` residual blocks (``layer2.0``, ``layer2.1``) of two convolutions. With two blocks
    ``layer2`` ends after nine convolutions. It takes images of any size, and of one channel where it was made for
    more (each channel then sees the same).

    Arguments:
        channels: Channels of the images.
        classes: Number of classes, at least 2.
        width: Channels of the first layer.
        blocks: Residual blocks in each layer.

    Raises:
        ConfigError: A setting out of its range.

    Example:
        >>> import torch
        >>> network = Classifier(channels=3, classes=10)
        >>> network(torch.rand(2, 3, 32, 32)).shape, network(torch.rand(2, 1, 8, 8)).shape
        (torch.Size([2, 10]), torch.Size([2, 10]))
    """

    def __init__(self, channels: int, classes: int, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        if channels < 1 or classes < 2 or width < 1 or blocks < 1:
            raise ConfigError(
                f"a classifier needs channels, width and blocks of at least 1 and at least 2 classes, "
                f"got {channels}, {width}, {blocks} and {classes}"
            )
        self.channels, self.classes, self.width, self.blocks = channels, classes, width, blocks
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.layer1 = _layer(width, width, blocks, stride=1)
        self.layer2 = _layer(width, 2 * width, blocks, stride=2)
        self.layer3 = _layer(2 * width, 4 * width, blocks, stride=2)
        self.head = nn.Linear(4 * width, classes)

    def settings(self) -> dict[str, int]:
        """The arguments that make another of its kind."""
        return {"channels": self.channels, "classes": self.classes, "width": self.width, "blocks": self.blocks}

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W) in [0, 1].

        Raises:
            ConfigError: Images of another number of channels.
        """
        if images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        if images.shape[1] != self.channels:
            raise ConfigError(f"the classifier sees images of {self.channels} channels, not {images.shape[1]}")
        features = F.relu(self.stem(2 * images - 1))
        features = self.layer3(self.layer2(self.layer1(features)))
        return self.head(features.mean(dim=(2, 3)))


class _Block(nn.Module):
    """Two convolutions beside an identity, or beside a convolution 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


def _layer(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _Block(inputs, outputs, stride), *(_Block(outputs, outputs, stride=1) for _ in range(blocks - 1))
    )
