"""Data sets: three deterministic splits each, held in memory and batched on the device they live on."""

from bridle.data.base import Batch, DataSet, Split, SplitName, TensorSplit
from bridle.data.celeba import CelebA
from bridle.data.cifar10 import CIFAR10
from bridle.data.colored import ColoredMNIST
from bridle.data.digits import Digits
from bridle.data.folder import ImageFolder
from bridle.data.hub import HuggingFace
from bridle.data.mnist import MNIST
from bridle.data.order import BatchOrder
from bridle.data.triplets import ColorMNIST, MNISTRotate, MNISTSum, MNISTSumHard, MNISTTriplets, TripletSplit

__all__ = [
    "CIFAR10",
    "MNIST",
    "Batch",
    "BatchOrder",
    "CelebA",
    "ColorMNIST",
    "ColoredMNIST",
    "DataSet",
    "Digits",
    "HuggingFace",
    "ImageFolder",
    "MNISTRotate",
    "MNISTSum",
    "MNISTSumHard",
    "MNISTTriplets",
    "Split",
    "SplitName",
    "TensorSplit",
    "TripletSplit",
]
