"""Stable-Baselines3: single environments, environments by id, and its VecEnv with one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

import latentwrap

PENDULUM = "latentwrap/PixelPendulum-v0"
STEPS = 1000
VEC_ENVS = {"dummy": (DummyVecEnv, {}), "spawn": (SubprocVecEnv, {"start_method": "spawn"})}


def frames_of(kind: str, num: int, **env_kwargs: object) -> VecEnv:
    """Pixels as SB3 vectorises them; the workers know nothing of a model."""
    vec_env_cls, vec_env_kwargs = VEC_ENVS[kind]
    return make_vec_env(
        PENDULUM,
        n_envs=num,
        wrapper_class=latentwrap.RenderFrame,
        env_kwargs=env_kwargs,
        vec_env_cls=vec_env_cls,
        vec_env_kwargs=vec_env_kwargs,
    )


@pytest.fixture
def latents(checkpoint: Path, request: pytest.FixtureRequest) -> Iterator[VecEnv]:
    from latentwrap.integrations.sb3 import VecLatentObservation

    # Episodes of 25 steps, so that many end.
    env = VecLatentObservation(frames_of(request.param, 2, max_episode_steps=25), checkpoint)
    yield env
    env.close()


@pytest.mark.parametrize("algorithm", ["SAC", "PPO", "TD3"])
def test_a_latent_environment_trains(algorithm: str, train_example: Callable[..., None]) -> None:
    train_example(algorithm, "sb3_pendulum", "--algorithm", algorithm)


@pytest.mark.parametrize("workers", ["SubprocVecEnv", "DummyVecEnv"])
def test_one_model_filters_the_frames_of_workers(
    workers: str, train_example: Callable[..., None]
) -> None:
    train_example(f"SAC, {workers}", "sb3_workers", "--workers", workers)


@pytest.mark.parametrize("latents", VEC_ENVS, indirect=True)
def test_vec_env_gives_the_latents_of_a_single_environment(
    latents: VecEnv, checkpoint: Path
) -> None:
    single = latentwrap.LatentObservation(gym.make(PENDULUM, max_episode_steps=25), checkpoint)
    latents.seed(7)
    seen, (expected, _) = latents.reset(), single.reset(seed=7)
    assert np.allclose(seen[0], expected, atol=1e-4)
    actions = np.random.default_rng(0).uniform(-2, 2, (25, 2, 1)).astype(np.float32)
    for action in actions:
        seen, _, dones, infos = latents.step(action)
        expected, *_ = single.step(action[0])
        last = infos[0]["terminal_observation"] if dones[0] else seen[0]
        assert np.allclose(last, expected, atol=1e-4)
    assert dones.all()
    # What follows is the first latent of the next episode, not the last of this one.
    assert not np.allclose(seen[0], expected, atol=1e-2)


def test_an_environment_by_its_id_trains(checkpoint: Path, record: Callable[..., None]) -> None:
    kwargs = {"env_id": PENDULUM, "ckpt": str(checkpoint)}
    env = make_vec_env("latentwrap/Latent-v0", n_envs=2, seed=0, env_kwargs=kwargs)
    model = PPO("MlpPolicy", env, n_steps=256, seed=0, device="cpu")
    before = [weight.clone() for weight in model.policy.parameters()]
    model.learn(STEPS)
    after = model.policy.parameters()
    assert model.num_timesteps >= STEPS
    assert all(not old.equal(new) for old, new in zip(before, after, strict=True))
    mean, std = evaluate_policy(model, env, n_eval_episodes=3)
    result = f"return {mean:.0f} ± {std:.0f} over 3 episodes"
    record(algorithm="PPO, latentwrap/Latent-v0", steps=model.num_timesteps, result=result)


@pytest.mark.filterwarnings("error")
def test_the_environment_checker_has_nothing_to_say(checkpoint: Path) -> None:
    registered = gym.make("latentwrap/Latent-v0", env_id=PENDULUM, ckpt=str(checkpoint))
    wrapped = latentwrap.LatentObservation(gym.make(PENDULUM), checkpoint)
    for env in (registered, wrapped):
        # SB3 recommends actions in [-1, 1], which is not for the observation to mend.
        check_env(gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1)))
