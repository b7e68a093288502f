"""The scenes of the benchmarks hide what they say they hide."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from latentwrap_test_scenes import CROWD, HOVER, OCCLUSION, HiddenBalls


@pytest.mark.parametrize("scene", [OCCLUSION, CROWD])
def test_a_hidden_ball_changes_no_pixel(scene: str) -> None:
    env = gym.make(scene)
    bare: HiddenBalls = env.unwrapped  # type: ignore[assignment]
    hidden_frames, area = 0, np.pi * (0.04 * 64) ** 2
    for seed in range(10):
        env.reset(seed=seed)
        for _ in range(200):
            frame, reward, _, _, info = env.step(env.action_space.sample())
            assert reward == 0.0
            hidden = info["state"]["hidden"] > 0
            hidden_frames += int(hidden.sum())
            positions = bare.position.copy()
            bare.position[hidden] = 9.0  # far outside
            np.testing.assert_array_equal(bare._draw(), frame)
            shown = info["state"]["shown"] > 0
            assert not (hidden & shown).any()
            bare.position[:] = 9.0
            empty = bare._draw()
            for ball in np.flatnonzero(shown):
                bare.position[ball] = positions[ball]
                changed = (bare._draw() != empty).any(axis=-1).sum()
                assert 0.9 * area < changed < 3 * area  # anti-aliasing adds a rim
                bare.position[ball] = 9.0
            bare.position = positions
    assert hidden_frames > 100


def test_states_are_where_the_ball_is_drawn() -> None:
    env = gym.make(OCCLUSION)
    frame, info = env.reset(seed=3)
    x, y = info["state"]["position"]
    rows, columns = np.nonzero(
        np.abs(frame.astype(int) - frame[0, 0]).max(-1)
        * (np.abs(frame.astype(int) - 122).max(-1) > 20)
    )
    seen = (columns < 20) | (columns > 43)
    assert np.abs(columns[seen].mean() + 0.5 - 64 * x) < 1
    assert np.abs(rows[seen].mean() + 0.5 - 64 * y) < 1


def test_the_push_is_the_action() -> None:
    env = gym.make(OCCLUSION)
    env.reset(seed=0)
    bare: HiddenBalls = env.unwrapped  # type: ignore[assignment]
    bare.position[:], bare.velocity[:] = 0.2, 0.01  # neither at a border nor fast
    before = bare.velocity.copy()
    _, _, _, _, info = env.step(np.array([1.0, -1.0], np.float32))
    moved = info["state"]["velocity"] - before.reshape(-1)
    np.testing.assert_allclose(moved, [0.004, -0.004], atol=1e-6)


def test_hovering_is_rewarded_by_the_distance_from_the_middle() -> None:
    hover, plain = gym.make(HOVER), gym.make(OCCLUSION)
    hover.reset(seed=5)
    plain.reset(seed=5)
    hover.action_space.seed(0)
    for _ in range(50):
        action = hover.action_space.sample()
        frame, reward, _, _, info = hover.step(action)
        np.testing.assert_array_equal(frame, plain.step(action)[0])
        x, y = info["state"]["position"]
        assert reward == pytest.approx(-(((x - 0.5) ** 2 + (y - 0.5) ** 2) ** 0.5), rel=1e-5)
