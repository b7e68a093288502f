"""The wrapper for Stable-Baselines3's vector environments."""

from __future__ import annotations

import functools
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_envs import SIZE, CountingEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack
from tests.conftest import STOCHASTIC, make_tiny_model

from latentwrap import FrameSkip, LatentObservation
from latentwrap.errors import EnvironmentMismatch
from latentwrap.integrations.sb3 import VecLatentObservation
from latentwrap.models import LatentModel, save_model
from latentwrap.pixels import FrameSpec

make_counting = functools.partial(CountingEnv, lengths=(5, 3, 8))


def model_of_counting(kind: str = "rssm", frame_skip: int = 1) -> LatentModel:
    return make_tiny_model(
        kind=kind,
        frame=FrameSpec(height=SIZE, width=SIZE),
        action_space=spaces.Box(-1, 1, (2,), np.float32),
        frame_skip=frame_skip,
    )


def episodes_of(env: gym.Env, actions: list[np.ndarray], seed: int) -> list[list[np.ndarray]]:
    """Latents of each episode of a single environment."""
    episodes = [[env.reset(seed=seed)[0]]]
    for action in actions:
        latent, _, terminated, truncated, _ = env.step(action)
        episodes[-1].append(latent)
        if terminated or truncated:
            episodes.append([env.reset()[0]])
    return episodes


@pytest.mark.parametrize("kind", STOCHASTIC)
@pytest.mark.parametrize("deterministic", [True, False])
def test_latents_and_terminal_observations_are_those_of_the_single_wrapper(
    kind: str, deterministic: bool
) -> None:
    model, rng = model_of_counting(kind), np.random.default_rng(0)
    actions = [rng.uniform(-1, 1, (2, 2)).astype(np.float32) for _ in range(20)]
    venv = DummyVecEnv([make_counting] * 2)
    envs = VecLatentObservation(venv, model, deterministic=deterministic)
    envs.seed(7)
    found = [[[latent]] for latent in envs.reset()]
    for action in actions:
        latents, _, dones, infos = envs.step(action)
        for stream in range(2):
            if dones[stream]:
                found[stream][-1].append(infos[stream]["terminal_observation"])
                found[stream].append([])
            found[stream][-1].append(latents[stream])
    for stream in range(2):
        env = LatentObservation(make_counting(), model, deterministic=deterministic)
        expected = episodes_of(env, [action[stream] for action in actions], 7 + stream)
        assert len(expected) == len(found[stream]) > 3
        for ours, theirs in zip(found[stream], expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_spawned_environments_learn(tmp_path: Path) -> None:
    path = tmp_path / "counting.safetensors"
    save_model(path, model_of_counting(), training={})
    envs = VecLatentObservation(SubprocVecEnv([make_counting] * 2, "spawn"), path)
    assert envs.model_fingerprint is not None
    agent = PPO("MlpPolicy", envs, n_steps=16, batch_size=16, seed=0, device="cpu").learn(32)
    assert agent.num_timesteps == 32
    envs.close()


def test_stacked_frames_give_the_newest() -> None:
    model = model_of_counting()
    plain = VecLatentObservation(DummyVecEnv([make_counting]), model)
    stacked = VecFrameStack(DummyVecEnv([make_counting]), 3, channels_order="last")
    envs = VecLatentObservation(stacked, model, layout="HW(TC)")
    np.testing.assert_array_equal(envs.reset(), plain.reset())
    for _ in range(12):
        action = np.zeros((1, 2), np.float32)
        np.testing.assert_array_equal(envs.step(action)[0], plain.step(action)[0])


def test_frame_skip_is_required_inside() -> None:
    model = model_of_counting(frame_skip=2)
    with pytest.raises(EnvironmentMismatch, match=r"FrameSkip\(env, 2\) where it runs"):
        VecLatentObservation(DummyVecEnv([make_counting]), model)
    VecLatentObservation(DummyVecEnv([lambda: FrameSkip(make_counting(), 2)]), model)


def test_diagnostics_are_in_the_infos() -> None:
    envs = VecLatentObservation(
        DummyVecEnv([make_counting] * 2), model_of_counting(), diagnostics=True
    )
    envs.reset()
    assert set(envs.reset_infos[1]["latentwrap"]) == {"reconstruction_error", "kl", "belief_std"}
    for _ in range(5):
        *_, dones, infos = envs.step(np.zeros((2, 2), np.float32))
    assert dones.all()
    assert np.isfinite(infos[0]["latentwrap"]["kl"])
