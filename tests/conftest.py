"""Settings and fixtures for all tests."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import settings

import latentwrap  # noqa: F401 - registers the environments
from latentwrap.actions import ActionSpec
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.exporting import export_onnx
from latentwrap.models import LatentModel, build_model, save_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

# A slow machine is no failure.
settings.register_profile("latentwrap", deadline=None, max_examples=50)
settings.load_profile("latentwrap")
# A shell that starts the tests in its background may have them ignore Ctrl-C, which some send.
signal.signal(signal.SIGINT, signal.default_int_handler)

_TINY = {"network": "patch", "patch": 8, "widths": (4, 8), "features": 12, "hidden": (16, 16)}
TINY = {
    "rssm": {**_TINY, "memory": 5, "stochastic": 3},
    "discrete": {**_TINY, "memory": 4, "stochastic": 2, "classes": 2},
    "slac": {**_TINY, "z1": 3, "z2": 5},
    "deterministic": {**_TINY, "z": 8},
}
"""Options of models that train in milliseconds, by kind; `discrete` is a form of `rssm`."""


STOCHASTIC = [kind for kind in TINY if kind != "deterministic"]


def make_tiny_model(
    *,
    kind: str = "rssm",
    action_space: spaces.Space | None = None,
    frame: FrameSpec | None = None,
    frame_skip: int = 1,
    vectors: VectorSpec | None = None,
    sees_vectors: bool = False,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> LatentModel:
    """An untrained model with statistics: it filters, quickly, whatever it sees.

    With `vectors` it has statistics of such vectors too, and with `sees_vectors` it takes them;
    `options` are hyperparameters other than those of `TINY`.
    """
    model = build_model(
        "rssm" if kind == "discrete" else kind,
        {**TINY[kind], "vectors": sees_vectors, **(options or {})},
        frame_spec=frame or FrameSpec(height=16, width=16, source_height=64, source_width=64),
        action_spec=ActionSpec(spaces.Box(-2, 2, (1,)) if action_space is None else action_space),
        frame_skip=frame_skip,
        vector_spec=vectors,
        generator=torch.Generator().manual_seed(seed),
    )
    rng = np.random.default_rng(seed)
    model.normalizer = make_statistics(model.latent_size, rng)
    if vectors is not None:
        model.vector_normalizer = make_statistics(vectors.size, rng)
    return model.eval()


def make_statistics(size: int, rng: np.random.Generator) -> LatentNormalizer:
    mean, std = rng.normal(size=size), rng.uniform(0.2, 1, size)
    return LatentNormalizer(np.float32(mean), np.float32(std))


@pytest.fixture(params=TINY)
def tiny_model(request: pytest.FixtureRequest) -> LatentModel:
    """One of every kind: nobody outside of `models` may notice which."""
    return make_tiny_model(kind=request.param)


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, tiny_model: LatentModel) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, tiny_model, training={})
    return path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoints of the kinds in `TINY` with exported graphs beside them; not to be changed."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(kind: str) -> Path:
        path = folder / f"{kind}.safetensors"
        save_model(path, make_tiny_model(kind=kind), training={})
        export_onnx(path)
        return path

    return export


@pytest.fixture
def pendulum() -> gym.Env:
    return gym.make(PIXEL_PENDULUM, render_mode="rgb_array")
