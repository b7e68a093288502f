"""A small dataset that the training tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentwrap.datasets import collect
from latentwrap.envs import PIXEL_PENDULUM

FAST_ENOUGH = {
    "batch_size": 4,
    "window": 4,
    "evaluate_every": 5,
    "log_every": 2,
    "heldout_windows": 8,
}
"""Training options of a run that takes milliseconds."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pendulum.h5"
    collect(PIXEL_PENDULUM, path, steps=1000, seed=0, height=16, width=16)
    return path
