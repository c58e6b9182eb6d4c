"""Where a run trains."""

from __future__ import annotations

import pytest
import torch

from bridle.training import TrainConfig
from bridle.training.state import device_for


def test_the_device_is_the_accelerator_unless_told_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert device_for(TrainConfig()).type == "cuda" and device_for(TrainConfig(device="cpu")).type == "cpu"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device_for(TrainConfig()).type == "cpu"
