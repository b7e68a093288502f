"""PixelPendulum against Gymnasium's own Pendulum-v1."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import latentwrap  # noqa: F401 - registers the environment
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import EnvironmentMismatch


def test_physics_reward_and_limit_are_those_of_pendulum_v1() -> None:
    ours, theirs = gym.make(PIXEL_PENDULUM), gym.make("Pendulum-v1")
    _, info = ours.reset(seed=3)
    state, _ = theirs.reset(seed=3)
    np.testing.assert_array_equal(info["state"], state)
    theirs.action_space.seed(0)
    truncated = False
    for _ in range(200):
        assert not truncated
        action = theirs.action_space.sample()
        _, reward, terminated, truncated, info = ours.step(action)
        state, expected, *ends, _ = theirs.step(action)
        np.testing.assert_array_equal(info["state"], state)
        assert reward == expected
        assert [terminated, truncated] == ends
    assert truncated


def test_gymnasium_has_nothing_to_say() -> None:
    env = gym.make(PIXEL_PENDULUM, render_mode="rgb_array").unwrapped
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env)
    # Torques in [-2, 2] are Pendulum-v1's own.
    assert [w for w in caught if "Box action spaces" not in str(w.message)] == []


def rod_angle(frame: np.ndarray) -> float:
    """θ from the centre of mass of the coloured pixels."""
    rows, columns = np.nonzero(frame.astype(int).max(2) - frame.min(2) > 60)
    centre = (len(frame) - 1) / 2
    return float(np.arctan2(-(columns - centre).mean(), -(rows - centre).mean()))


@pytest.mark.parametrize("size", [32, 64, 84])
def test_the_frame_shows_the_angle(size: int) -> None:
    env = gym.make(PIXEL_PENDULUM, size=size)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(100):
        frame, *_, info = env.step(env.action_space.sample())
        expected = np.arctan2(info["state"][1], info["state"][0])
        error = np.angle(np.exp(1j * (rod_angle(frame) - expected)))
        assert abs(error) < 0.12


def test_the_frame_does_not_show_the_velocity() -> None:
    env = gym.make(PIXEL_PENDULUM).unwrapped
    env.reset(seed=0)
    frames = []
    for velocity in (-8.0, 0.0, 8.0):
        env.state = np.array([1.0, velocity])
        frames.append(env.render())
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[1], frames[2])


def test_a_fresh_frame_is_given_each_time() -> None:
    env = gym.make(PIXEL_PENDULUM)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(np.float32([2.0]))
    np.testing.assert_array_equal(first, kept)


def test_a_tiny_size_is_refused() -> None:
    with pytest.raises(EnvironmentMismatch, match="at least 8, got 4"):
        gym.make(PIXEL_PENDULUM, size=4)
