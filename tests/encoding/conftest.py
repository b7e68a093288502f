"""Pixels to encode, and models to encode them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from tests.conftest import make_tiny_model

from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset, DatasetInfo, DatasetWriter, Episode, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.models import LatentModel, save_model
from latentwrap.pixels import FrameSpec

FRAME = FrameSpec(height=16, width=16)
BOX = spaces.Box(-2, 2, (2,))
ENDS = ((True, False), (False, True), (False, False), (True, True))
"""Terminated and truncated: every way in which an episode can end, one that just stops included."""


@pytest.fixture(scope="session")
def pendulum_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes: 200, 200 and 50 transitions."""
    path = tmp_path_factory.mktemp("pixels") / "pendulum.h5"
    collect(PIXEL_PENDULUM, path, steps=450, seed=3, height=16, width=16)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint for the pendulum."""
    path = tmp_path / "pendulum.safetensors"
    save_model(path, make_tiny_model(), training={})
    return path


def write_noise(
    path: Path, *, space: spaces.Space = BOX, rewards: bool = True, frame: FrameSpec = FRAME
) -> Dataset:
    """One short episode for each of `ENDS`, of noise."""
    rng, action = np.random.default_rng(0), ActionSpec(space)
    space.seed(0)
    with DatasetWriter(path, DatasetInfo("Noise-v0", action, frame)) as writer:
        for steps, (terminated, truncated) in enumerate(ENDS, start=3):
            writer.add(
                Episode(
                    frames=rng.integers(0, 256, (steps + 1, *frame.shape), np.uint8),
                    actions=np.stack([action.flatten(space.sample()) for _ in range(steps)]),
                    rewards=rng.normal(size=steps).astype(np.float32) if rewards else None,
                    terminated=terminated,
                    truncated=truncated,
                    states={"angle": rng.normal(size=(steps + 1, 2)).astype(np.float32)},
                )
            )
    return Dataset(path)


def noise_model(space: spaces.Space = BOX) -> LatentModel:
    """Takes what `write_noise` writes."""
    return make_tiny_model(action_space=space, frame=FRAME)
