"""dm_control through shimmy: drawn fast, from named cameras, its truth beside the frames."""

from __future__ import annotations

import ctypes.util
import os
from pathlib import Path
from typing import Any

# dm_control chooses its backend when it is imported.
os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")

import gymnasium as gym
import numpy as np
import pytest
import shimmy

import latentwrap
from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset, collect
from latentwrap.envs.frames import RenderFrame
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import build_model
from latentwrap.normalizer import LatentNormalizer

gym.register_envs(shimmy)
ENV = "shimmy:dm_control/cheetah-run-v0"
SIDE = 32


def play(env: gym.Env, steps: int = 8) -> list[np.ndarray]:
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 6))
    frames = [env.reset(seed=3)[0]]
    frames += [env.step(action)[0] for action in actions]
    env.close()
    return frames


def framed(env: gym.Env | None = None, **options: Any) -> RenderFrame:
    bare = env or gym.make(ENV, render_mode="rgb_array")
    return RenderFrame(bare, height=SIDE, width=SIDE, **options)


def test_fast_pictures_show_the_same_scene() -> None:
    fast, full = framed(cameras=["side"]), framed(cameras=["side"], rendering="full")
    assert fast.frame_spec.rendering == "fast"
    assert full.frame_spec.panels[0].source_width == 320
    env = gym.make(ENV, render_mode="rgb_array", render_kwargs={"height": 240, "width": 240})
    square = np.stack(play(framed(env, cameras=["side"], rendering="full"))).astype(float)
    found = np.stack(play(fast)).astype(float)
    assert found.std() > 10
    assert 0 < np.abs(found - square).mean() < 20
    assert np.corrcoef(found.ravel(), square.ravel())[0, 1] > 0.9


def test_pictures_do_not_depend_on_what_was_drawn_before() -> None:
    env = gym.make(ENV, render_mode="rgb_array")
    env.reset()
    assert env.render().shape == (240, 320, 3)
    np.testing.assert_array_equal(play(framed(env)), play(framed()))


@pytest.mark.parametrize("num_envs", [1, 2])
def test_the_wrapper_serves_the_pictures_of_the_dataset(tmp_path: Path, num_envs: int) -> None:
    path = tmp_path / "cheetah.h5"
    cameras = ["side", "back"]
    collect(
        ENV, path, steps=20 * num_envs, seed=3, height=SIDE, width=SIDE, cameras=cameras,
        num_envs=num_envs,
    )  # fmt: skip
    data = Dataset(path)
    assert sorted(data.states) == ["position", "qpos", "qvel", "velocity"]
    assert data.info.frame.names == ("side", "back")
    env = latentwrap.LatentObservation(gym.make(ENV, render_mode="rgb_array"), make_model(data))
    first = [data.episode(n) for n in range(data.num_episodes)]
    env.reset(seed=3)
    episode = next(e for e in first if np.array_equal(e.frames[0], env.frame))
    for action, frame, qpos in zip(
        episode.actions, episode.frames[1:], episode.states["qpos"][1:], strict=True
    ):
        env.step(action)
        np.testing.assert_array_equal(env.frame, frame)
        np.testing.assert_allclose(env.unwrapped.physics.data.qpos, qpos, atol=1e-5)
    env.close()


def make_model(data: Dataset) -> Any:
    model = build_model(
        "slac",
        {"network": "patch", "patch": 8, "widths": (4, 8), "features": 12, "hidden": (16, 16)},
        frame_spec=data.info.frame,
        action_spec=ActionSpec(data.info.action.space),
    )
    size = model.latent_size
    model.normalizer = LatentNormalizer(np.zeros(size, np.float32), np.ones(size, np.float32))
    return model.eval()


def test_an_unknown_camera_is_one_sentence() -> None:
    with pytest.raises(EnvironmentMismatch, match="has no camera 'front', but side, back"):
        framed(cameras=["front"])
