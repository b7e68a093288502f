"""d3rlpy: online training and evaluation, with gymnasium 1.0.0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import d3rlpy
import gymnasium as gym
import numpy as np
import pytest

import latentwrap

PENDULUM = "latentwrap/PixelPendulum-v0"
EPISODE = 40
SEED = 3


def frames() -> gym.Env[Any, Any]:
    """The pixels, in episodes so short that many end."""
    return gym.make(PENDULUM, max_episode_steps=EPISODE)


@pytest.fixture
def env(checkpoint: Path) -> gym.Env[Any, Any]:
    env = latentwrap.LatentObservation(frames(), checkpoint)
    d3rlpy.seed(SEED)
    d3rlpy.envs.seed_env(env, SEED)
    env.action_space.seed(SEED)
    return env


def make_sac() -> d3rlpy.algos.SAC:
    scaler = d3rlpy.preprocessing.MinMaxActionScaler()
    return d3rlpy.algos.SACConfig(batch_size=8, action_scaler=scaler).create(device="cpu:0")


def fit(sac: d3rlpy.algos.SAC, env: gym.Env[Any, Any], **options: Any) -> Any:
    """Train online without logs; what d3rlpy remembers of it."""
    buffer = d3rlpy.dataset.create_fifo_replay_buffer(limit=1000, env=env)
    adapter = d3rlpy.logging.NoopAdapterFactory()
    sac.fit_online(env, buffer, logger_adapter=adapter, show_progress=False, **options)
    return buffer


def test_a_latent_environment_trains(train_example: Callable[..., None]) -> None:
    train_example("SAC, online", "d3rlpy_pendulum")


def test_d3rlpy_remembers_the_latents_of_each_episode(
    checkpoint: Path, env: gym.Env[Any, Any]
) -> None:
    episodes = fit(make_sac(), env, n_steps=3 * EPISODE, random_steps=EPISODE).episodes

    # The same episodes by hand: the same seed, the actions that d3rlpy stored, the bare filter.
    pixels, latents = frames(), latentwrap.LatentFilter(checkpoint)
    pixels.reset(seed=SEED)
    assert len(episodes) == 3
    for episode in episodes:
        expected = [latents.reset(pixels.reset()[0])]
        expected += [latents.step(action, pixels.step(action)[0]) for action in episode.actions]
        # d3rlpy stores no observation after the last action.
        np.testing.assert_allclose(episode.observations, expected[:-1], atol=1e-4)
        assert not episode.terminated


def test_evaluation_gives_the_return_on_latents(checkpoint: Path, env: gym.Env[Any, Any]) -> None:
    sac = make_sac()
    buffer = fit(sac, env, n_steps=EPISODE, random_steps=EPISODE)
    env.reset(seed=SEED)
    score = d3rlpy.metrics.EnvironmentEvaluator(env, n_trials=2)(sac, buffer)

    pixels, latents = frames(), latentwrap.LatentFilter(checkpoint)
    pixels.reset(seed=SEED)
    total = 0.0
    for _ in range(2):
        latent, truncated = latents.reset(pixels.reset()[0]), False
        while not truncated:
            action = sac.predict(latent[None])[0]
            frame, reward, _, truncated, _ = pixels.step(action)
            latent, total = latents.step(action, frame), total + reward
    assert score == pytest.approx(total / 2, rel=1e-4)
