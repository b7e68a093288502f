"""Environments of every make give their frames."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.envs.registration import EnvSpec

from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.envs.frames import Renderer, RenderFrame
from latentwrap.envs.making import make_env
from latentwrap.errors import EnvironmentMismatch


def make_pendulum(**kwargs: Any) -> PendulumEnv:
    return PendulumEnv(**kwargs)


def test_a_function_that_makes_the_environment_is_asked_for_images() -> None:
    assert make_env(EnvSpec("Made-v0", make_pendulum)).render_mode == "rgb_array"
    assert make_env(EnvSpec("Made-v0", make_pendulum), render_mode=None).render_mode is None


def test_the_bundled_task_renders() -> None:
    env = gym.make(PIXEL_PENDULUM, render_mode="rgb_array")
    frame, _ = env.reset(seed=0)
    assert env.render_mode == "rgb_array"
    np.testing.assert_array_equal(env.render(), frame)


def test_observing_frames_does_not_seed_the_environment() -> None:
    firsts = []
    for _ in range(2):
        env = RenderFrame(gym.make("CartPole-v1", render_mode="rgb_array"))
        env.reset()
        firsts.append(env.unwrapped.state)
    assert not np.array_equal(*firsts)


class Broken(PendulumEnv):
    """Its renderer is not installed."""

    def render(self) -> Any:
        raise gym.error.DependencyNotInstalled("pygame is not installed")


def test_a_missing_renderer_is_one_sentence() -> None:
    render = Renderer(Broken(render_mode="rgb_array"))
    with pytest.raises(EnvironmentMismatch, match="cannot be rendered: pygame is not installed"):
        render()
