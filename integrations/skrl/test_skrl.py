"""skrl: a single environment, and a batch of them with one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from skrl.envs.wrappers.torch import wrap_env
from skrl.utils import set_seed

import latentwrap

PENDULUM = "latentwrap/PixelPendulum-v0"


@pytest.mark.parametrize("envs", [1, 2])
def test_a_latent_environment_trains(envs: int, train_example: Callable[..., None]) -> None:
    algorithm = "SAC" if envs == 1 else f"SAC, vector of {envs}"
    train_example(algorithm, "skrl_pendulum", "--envs", envs)


def test_skrl_sees_the_latents_of_a_single_environment(checkpoint: Path) -> None:
    def make() -> gym.Env:
        frames = gym.make(PENDULUM, max_episode_steps=10)
        return latentwrap.LatentObservation(frames, checkpoint)

    # skrl's first reset takes its own seed, later ones none.
    set_seed(3)
    wrapped, single, seed = wrap_env(make()), make(), 3
    assert wrapped.observation_space == single.observation_space
    assert wrapped.action_space == single.action_space
    generator = np.random.default_rng(0)
    for _ in range(3):
        (seen, _), (expected, _) = wrapped.reset(), single.reset(seed=seed)
        assert np.allclose(seen[0].numpy(), expected, atol=1e-4)
        seed, ended = None, False
        while not ended:
            action = generator.uniform(-2, 2, 1).astype(np.float32)
            seen, _, _, truncated, _ = wrapped.step(torch.as_tensor(action)[None])
            expected, _, _, ended, _ = single.step(action)
            assert np.allclose(seen[0].numpy(), expected, atol=1e-4)
            assert bool(truncated) == ended
