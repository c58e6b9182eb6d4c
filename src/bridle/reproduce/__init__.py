"""The paper's figures and its table, made again from runs trained here.

:mod:`~bridle.reproduce.scales` says what a scale means; each figure or table has a file of its own that names the runs
it needs, draws them in the paper's layout and judges the paper's claim by their numbers. Everything that several of
them need is trained once.
"""

from bridle.reproduce.make import EXHIBITS, Reproduced, reproduce
from bridle.reproduce.scales import SCALES, Scale, Source

__all__ = ["EXHIBITS", "SCALES", "Reproduced", "Scale", "Source", "reproduce"]
