"""Data sets: three deterministic splits each, held in memory and batched on the device they live on."""

from bridle.data.base import Batch, DataSet, Split, SplitName, TensorSplit
from bridle.data.cifar10 import CIFAR10
from bridle.data.digits import Digits
from bridle.data.folder import ImageFolder
from bridle.data.mnist import MNIST
from bridle.data.order import BatchOrder

__all__ = [
    "CIFAR10",
    "MNIST",
    "Batch",
    "BatchOrder",
    "DataSet",
    "Digits",
    "ImageFolder",
    "Split",
    "SplitName",
    "TensorSplit",
]
