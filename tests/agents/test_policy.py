"""A policy by itself: saved with its agent, it acts as the agent does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.conftest import make_tiny_model
from tests.joint.worlds import BOX, DISCRETE, QUICK, Diary, framed, make_model

from latentwrap import SAC, SLAC, LatentObservation, load_model
from latentwrap.agents.evaluate import evaluate_policy
from latentwrap.agents.policy import Policy
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, EnvironmentMismatch
from latentwrap.models import save_model
from latentwrap.wrappers.history import HistoryObservation

SPACES = pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
VIEWS = pytest.mark.parametrize("actor_input", ["latent", "history"])
SMALL: dict[str, Any] = {"hidden": (8,), "batch_size": 4, "learning_starts": 5}


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_it_acts_as_the_agent_that_was_saved(tmp_path: Path, env_id: str) -> None:
    env, path = gym.make(env_id), tmp_path / "a.safetensors"
    agent = SAC(env, seed=0, **SMALL).learn(12)
    agent.save(path)
    policy = Policy.load(path, env)
    assert policy.observation_space == agent.observation_space
    assert policy.action_space == agent.action_space
    assert policy.model_fingerprint is None
    observations = np.stack([env.observation_space.sample() for _ in range(5)])
    observations = np.clip(observations, -3, 3)
    for given in (observations, observations[0]):
        for deterministic in (True, False, False):
            ours, _ = policy.predict(given, deterministic=deterministic)
            theirs, _ = agent.predict(given, deterministic=deterministic)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == env.action_space.dtype
    assert env.action_space.contains(policy.predict(observations[0])[0])
    assert policy.predict(observations[0], state="kept")[1] == "kept"


def model_path_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}-model.safetensors")


def make_agent(actor_input: str, actions: spaces.Space, *, vectors: bool = False) -> SLAC:
    env = framed(Diary(actions=actions, vectors=vectors), vectors=vectors)
    model = make_model(actions=actions, vectors=vectors)
    options = {**QUICK, "actor_input": actor_input, "batch_size": 4}
    training = {"batch_size": 2, "window": 4}
    return SLAC(env, model, model_options=training, seed=0, device="cpu", **options).learn(25)


def observing(path: Path, env: gym.Env, actor_input: str) -> gym.Env:
    """An environment of the saved model, without the agent."""
    if actor_input == "latent":
        return LatentObservation(env, model_path_of(path))
    return HistoryObservation(env, model_path_of(path), length=QUICK["history"])


@pytest.mark.parametrize("vectors", [False, True])
@SPACES
@VIEWS
def test_that_of_slac_acts_on_the_saved_model(
    tmp_path: Path, actor_input: str, actions: spaces.Space, vectors: bool
) -> None:
    agent = make_agent(actor_input, actions, vectors=vectors)
    path = tmp_path / "agent.safetensors"
    agent.save_policy(path)

    def world() -> gym.Env:
        return framed(Diary(actions=actions, vectors=vectors), vectors=vectors)

    ours = observing(path, world(), actor_input)
    theirs = agent.watch(world())
    policy = Policy.load(path, ours)
    assert policy.model_fingerprint == load_model(model_path_of(path)).fingerprint
    for deterministic in (True, False):
        policy.noise.manual_seed(3)
        agent.policy.noise.manual_seed(3)
        played = [
            evaluate_policy(each, env, 4, seed=0, deterministic=deterministic).returns
            for each, env in ((policy, ours), (agent.policy, theirs))
        ]
        np.testing.assert_allclose(played[0], played[1], rtol=1e-5)


def test_it_is_refused_on_another_model(tmp_path: Path) -> None:
    agent = make_agent("latent", BOX)
    path = tmp_path / "agent.safetensors"
    agent.save_policy(path)
    other = tmp_path / "other.safetensors"
    save_model(other, make_model(), training={})
    with pytest.raises(CheckpointError, match="latents of another model"):
        Policy.load(path, LatentObservation(framed(Diary()), other))
    with pytest.raises(CheckpointError, match="latents of another model"):
        Policy.load(path, LatentObservation(framed(Diary()), make_model()))


def test_it_is_refused_in_another_environment(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    SAC(gym.make("Pendulum-v1"), seed=0, **SMALL).save(path)
    with pytest.raises(CheckpointError, match="expects the observation space"):
        Policy.load(path, gym.make("CartPole-v1"))


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, make_tiny_model(), training={})
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Policy.load(path)
    with pytest.raises(CheckpointError, match="missing"):
        Policy.load(tmp_path / "missing.safetensors")


def test_choosing_draws_from_its_own_noise_alone() -> None:
    env = LatentObservation(gym.make(PIXEL_PENDULUM), make_tiny_model())
    agent = SAC(env, seed=0, **SMALL)
    seen = torch.randn(6, agent.observation_space.shape[0])
    agent.policy.noise.manual_seed(1)
    torch.manual_seed(0)
    first = agent.policy.choose(seen, deterministic=False)
    assert agent.policy.noise is agent.learner.noise
    agent.policy.noise.manual_seed(1)
    torch.manual_seed(1)
    np.testing.assert_array_equal(agent.policy.choose(seen, deterministic=False), first)
    best = agent.policy.choose(seen, deterministic=True)
    np.testing.assert_array_equal(agent.policy.choose(seen, deterministic=True), best)
    assert not np.allclose(first, best)
    assert first.shape == (6, 1)
    assert first.dtype == np.float32


def test_it_acts_as_the_actor_is_at_each_call() -> None:
    agent = SAC(gym.make("Pendulum-v1"), seed=0, **SMALL)
    observation = np.float32([1, 0, 0.5])
    before, _ = agent.policy.predict(observation, deterministic=True)
    with torch.no_grad():
        agent.learner.actor.net[-1].bias.add_(0.5)
    after, _ = agent.policy.predict(observation, deterministic=True)
    assert after > before


@VIEWS
def test_an_agent_that_learned_with_its_model_is_not_gone_on_with_by_sac(
    tmp_path: Path, actor_input: str
) -> None:
    agent, path = make_agent(actor_input, BOX), tmp_path / "agent.safetensors"
    agent.save_policy(path)
    with pytest.raises(CheckpointError, match=r"SLAC\.load of its folder"):
        SAC.load(path, agent.watch(framed(Diary(actions=BOX))))


@VIEWS
def test_slac_acts_on_what_it_watches(actor_input: str) -> None:
    agent = make_agent(actor_input, BOX)
    watched = agent.watch(framed(Diary(actions=BOX)))
    observation, _ = watched.reset()
    action, state = agent.predict(observation, state="kept", deterministic=True)
    expected = agent.policy.choose(torch.from_numpy(observation[None]), deterministic=True)
    np.testing.assert_allclose(action, 2 * expected[0] + [0, 2], rtol=1e-5)  # of [-2, 2] and [0, 4]
    assert watched.action_space.contains(action)
    assert state == "kept"
    with pytest.raises(EnvironmentMismatch, match=r"watch\(env\)"):
        agent.predict(watched.unwrapped.diary[-1].frames[-1])


@pytest.mark.parametrize("shape", [(), (2,), (5, 2), (3, 1), (1, 5, 3)])
def test_observations_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    agent = SAC(gym.make("Pendulum-v1"), seed=0, **SMALL)
    with pytest.raises(EnvironmentMismatch, match=rf"got {re.escape(str(shape))}"):
        agent.predict(np.zeros(shape, np.float32))
