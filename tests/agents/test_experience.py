"""Transitions of a dataset are those that the agent would have lived through itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_envs import counting
from tests.conftest import make_tiny_model

from latentwrap import SAC, LatentObservation
from latentwrap.agents.experience import remember_dataset
from latentwrap.datasets import Dataset, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import DatasetError
from latentwrap.models import LatentModel
from latentwrap.pixels import FrameSpec


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.h5"
    collect(PIXEL_PENDULUM, path, steps=250, seed=4, height=16, width=16)
    return path


def make_agent(model: LatentModel) -> tuple[SAC, LatentObservation]:
    env = LatentObservation(gym.make(PIXEL_PENDULUM), model)
    return SAC(env, seed=0, hidden=(8,), device="cpu"), env


def test_the_replay_holds_what_the_wrapper_shows(data: Path, tiny_model: LatentModel) -> None:
    agent, env = make_agent(tiny_model)
    dataset = Dataset(data)
    assert remember_dataset(agent, env, dataset) == 250 == len(agent.replay)
    columns, _ = agent.replay.state()
    episode = dataset.episode(0)
    latent, _ = env.reset(seed=4)
    for t, action in enumerate(episode.actions):
        following, reward, *_ = env.step(action)
        np.testing.assert_allclose(columns["observation"][t], latent, atol=1e-4)
        np.testing.assert_allclose(columns["next_observation"][t], following, atol=1e-4)
        np.testing.assert_allclose(columns["action"][t], action / 2, atol=1e-6)
        np.testing.assert_allclose(columns["reward"][t], reward, rtol=1e-5)
        latent = following
    assert columns["terminated"].sum() == 0  # a time limit is no termination


def test_discrete_actions_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "cartpole.h5"
    collect("CartPole-v1", path, steps=60, seed=4, height=16, width=16)
    frame = FrameSpec(height=16, width=16, source_height=400, source_width=600)
    model = make_tiny_model(frame=frame, action_space=spaces.Discrete(2))
    env = LatentObservation(gym.make("CartPole-v1", render_mode="rgb_array"), model)
    agent, dataset = SAC(env, seed=0, hidden=(8,), device="cpu"), Dataset(path)
    assert remember_dataset(agent, env, dataset) == 60
    columns, _ = agent.replay.state()
    actions = [dataset.episode(i).actions[:, 0] for i in range(dataset.num_episodes)]
    assert columns["action"][:, 0].tolist() == np.concatenate(actions).tolist()
    assert columns["terminated"].sum() == dataset.terminations[:].sum() > 0
    latent, _ = env.reset(seed=4)
    for t, action in enumerate(actions[0]):
        following, *_ = env.step(action)
        np.testing.assert_allclose(columns["observation"][t], latent, atol=1e-4)
        latent = following


def test_only_the_last_transition_terminates(tiny_model: LatentModel) -> None:
    agent, _ = make_agent(tiny_model)
    agent.remember(np.zeros((4, 8)), np.zeros((3, 1)), np.ones(3), terminated=True)
    columns, _ = agent.replay.state()
    assert columns["terminated"].tolist() == [0, 0, 1]


def test_learning_goes_on_from_there(data: Path, tiny_model: LatentModel) -> None:
    agent, env = make_agent(tiny_model)
    remember_dataset(agent, env, Dataset(data))
    agent.learn(10)
    assert agent.num_timesteps == 10
    assert len(agent.replay) == 260


def without_rewards(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["rewards"]


def test_a_dataset_without_rewards_is_refused(data: Path, tiny_model: LatentModel) -> None:
    without_rewards(data)
    agent, env = make_agent(tiny_model)
    with pytest.raises(DatasetError, match="has none: leave it out"):
        remember_dataset(agent, env, Dataset(data))


FRAME = FrameSpec(height=32, width=32, source_height=64, source_width=64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": FRAME}, r"frames of shape \(16, 16, 3\), the model requires \(32, 32, 3\)"),
        ({"frame_skip": 2}, "frame skip 1, the (model requires|environment) 2"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(
    data: Path, changes: dict[str, object], message: str
) -> None:
    agent, env = make_agent(make_tiny_model(**changes))
    with pytest.raises(DatasetError, match=message):
        remember_dataset(agent, env, Dataset(data))


def test_a_dataset_of_other_actions_is_refused(data: Path, tmp_path: Path) -> None:
    model = make_tiny_model(action_space=spaces.Box(-2, 2, (1,)))
    agent, env = make_agent(model)
    other = tmp_path / "other.h5"
    collect("CartPole-v1", other, steps=20, height=16, width=16)
    with pytest.raises(DatasetError, match=r"has the action space Discrete\(2\), the model"):
        remember_dataset(agent, env, Dataset(other))


KEYS = {"image_keys": ("front", "robot.wrist"), "vector_keys": ("joints", "robot.mode")}


def cameras(path: Path, vector_keys: Sequence[str]) -> tuple[Dataset, LatentObservation]:
    """What two cameras and some vectors gave, and an environment that observes all vectors."""
    spec = counting("CamerasEnv", lengths=(5, 3, 8), state="none")
    collect(spec, path, steps=16, seed=4, height=8, width=8, **{**KEYS, "vector_keys": vector_keys})
    dataset = Dataset(path)
    model = make_tiny_model(
        frame=dataset.info.frame,
        action_space=dataset.info.action.space,
        vectors=dataset.info.vectors,
    )
    return dataset, LatentObservation(gym.make(spec), model, vector_keys=KEYS["vector_keys"])


def test_vectors_are_remembered_beside_latents(tmp_path: Path) -> None:
    dataset, env = cameras(tmp_path / "cameras.h5", KEYS["vector_keys"])
    agent = SAC(env, seed=0, hidden=(8,), device="cpu")
    assert remember_dataset(agent, env, dataset) == 16
    columns, _ = agent.replay.state()
    latent, _ = env.reset(seed=4)
    assert latent.shape == (env.model.latent_size + 5,)
    for t, action in enumerate(dataset.episode(0).actions):
        np.testing.assert_allclose(columns["observation"][t], latent, atol=1e-4)
        latent, *_ = env.step(action)
    np.testing.assert_allclose(columns["next_observation"][4], latent, atol=1e-4)


def test_a_dataset_without_the_vectors_is_refused(tmp_path: Path) -> None:
    dataset, env = cameras(tmp_path / "cameras.h5", ["joints"])
    agent = SAC(env, seed=0, hidden=(8,), device="cpu")
    with pytest.raises(DatasetError, match=r"'robot\.mode', .* has none: collect it"):
        remember_dataset(agent, env, dataset)
