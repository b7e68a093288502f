"""Policies: in the space, as random as they say, and from their seed alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest
from gymnasium import spaces

from latentwrap.datasets import NoisePolicy, RandomPolicy
from latentwrap.datasets.policies import Policy

SPACES = [
    spaces.Box(np.float32([-2, 0]), np.float32([2, 1])),
    spaces.Box(-1, 1, (2, 3), np.float64),
    spaces.Box(-np.inf, np.inf, (2,)),
    spaces.Box(-3.4e38, 3.4e38, (1,)),
    spaces.Discrete(4, start=3),
    spaces.MultiDiscrete([2, 5]),
    spaces.MultiBinary(4),
]


def run(policy: Policy, steps: int, envs: int = 1, starts: Collection[int] = ()) -> np.ndarray:
    """Actions (steps, envs, ...), with new episodes in all environments at `starts`."""
    frames = np.zeros((envs, 4, 4, 3), np.uint8)
    return np.stack([policy(frames, np.full(envs, t == 0 or t in starts)) for t in range(steps)])


@pytest.mark.parametrize("kind", [RandomPolicy, NoisePolicy])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_actions_lie_in_the_space(kind: type, space: spaces.Space) -> None:
    actions = run(kind(space, 0), 30, envs=3)
    assert actions.shape == (30, 3, *space.shape)
    assert all(space.contains(action) for step in actions for action in step)
    assert len(np.unique(actions.reshape(90, -1), axis=0)) > 3


@pytest.mark.parametrize("kind", [RandomPolicy, NoisePolicy])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_seed_gives_the_same_actions_whatever_the_space_did(
    kind: type, space: spaces.Space
) -> None:
    first = run(kind(space, 1), 20, envs=2)
    space.seed(5)
    before = space.np_random.bit_generator.state
    np.testing.assert_array_equal(run(kind(space, 1), 20, envs=2), first)
    assert space.np_random.bit_generator.state == before
    assert not np.array_equal(run(kind(space, 2), 20, envs=2), first)


def test_random_actions_are_uniform_and_independent() -> None:
    actions = run(RandomPolicy(SPACES[0], 0), 20_000)[:, 0]
    np.testing.assert_allclose(actions.mean(axis=0), [0, 0.5], atol=0.03)
    np.testing.assert_allclose(actions.std(axis=0), np.array([4, 1]) / np.sqrt(12), rtol=0.02)
    assert abs(np.corrcoef(actions[1:, 0], actions[:-1, 0])[0, 1]) < 0.03


def test_noise_is_autoregressive() -> None:
    """Clipping at one standard deviation takes little of the correlation and fills the range."""
    actions = run(NoisePolicy(SPACES[0], 0), 40_000)[:, 0]
    for column in actions.T:
        assert 0.85 < np.corrcoef(column[1:], column[:-1])[0, 1] < 0.9
        assert np.corrcoef(column[20:], column[:-20])[0, 1] < 0.2
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.05
    inside = np.abs(actions[:, 0]) < 2
    assert abs(inside.mean() - 0.683) < 0.02  # a standard normal within one deviation
    np.testing.assert_allclose(actions.mean(axis=0), [0, 0.5], atol=0.1)


def test_noise_starts_afresh_with_an_episode() -> None:
    starts = range(0, 20_000, 2)
    actions = run(NoisePolicy(SPACES[0], 0), 20_000, starts=starts)[:, 0, 0]
    assert np.corrcoef(actions[0::2], actions[1::2])[0, 1] > 0.85
    assert abs(np.corrcoef(actions[1:-1:2], actions[2::2])[0, 1]) < 0.03


def test_noise_differs_between_environments() -> None:
    actions = run(NoisePolicy(SPACES[0], 0), 20_000, envs=2)[:, :, 0]
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.1


def test_discrete_noise_is_sticky_and_uniform() -> None:
    actions = run(NoisePolicy(SPACES[4], 0), 40_000)[:, 0]
    kept = actions[1:] == actions[:-1]
    assert abs(kept.mean() - (0.8 + 0.2 / 4)) < 0.01
    share = np.bincount(actions[1:][~kept] - 3, minlength=4) / (~kept).sum()
    np.testing.assert_allclose(share, 0.25, atol=0.02)


def test_discrete_noise_starts_afresh_with_an_episode() -> None:
    actions = run(NoisePolicy(SPACES[4], 0), 8000, starts=range(8000))[:, 0]
    assert abs((actions[1:] == actions[:-1]).mean() - 0.25) < 0.02
