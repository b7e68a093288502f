"""RLlib on its new API stack: environment runners in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

import latentwrap

PENDULUM = "latentwrap/PixelPendulum-v0"
EPISODE = 12  # steps, so that many episodes end
SEED = 3
RUNNERS = ENVS = 2


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Ray tells nobody that it was used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=RUNNERS, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module", params=["sync", "vector_entry_point"])
def algorithm(cluster: None, checkpoint: Path, request: pytest.FixtureRequest) -> Iterator[PPO]:
    """Two runners with two environments each, either one model an environment or one a runner."""
    latents = {"env_id": PENDULUM, "ckpt": str(checkpoint)}
    limited = {**latents, "env_kwargs": {"max_episode_steps": EPISODE}}
    config = (
        PPOConfig()
        .environment("latentwrap:latentwrap/Latent-v0", env_config=limited)
        .env_runners(
            num_env_runners=RUNNERS,
            num_envs_per_env_runner=ENVS,
            gym_env_vectorize_mode=request.param,
        )
        .training(train_batch_size_per_learner=200, minibatch_size=100, num_epochs=1)
        .debugging(seed=SEED)
    )
    algorithm = config.build_algo()
    yield algorithm
    algorithm.stop()


def ask_runners(algorithm: PPO, question: Callable[[Any], Any]) -> list[Any]:
    """What `question` returns in the process of each runner."""
    answers: list[Any] = algorithm.env_runner_group.foreach_env_runner(
        question, local_env_runner=False
    )
    assert len(answers) == RUNNERS
    return answers


def test_a_latent_environment_trains(train_example: Callable[..., None]) -> None:
    train_example("SAC, 2 env runners", "rllib_pendulum")


def test_many_runners_train_on_one_model_each(train_example: Callable[..., None]) -> None:
    counts = ("--runners", RUNNERS, "--envs", ENVS)
    train_example("PPO, 2 env runners of 2 environments", "rllib_runners", *counts)


def test_episodes_hold_the_latents_of_a_single_environment(
    algorithm: PPO, checkpoint: Path
) -> None:
    # Runners are seeded when they first sample, so this test comes before the others. A lambda
    # travels whole; this module is unknown to the runners.
    sampled = ask_runners(
        algorithm, lambda runner: (runner._seed, runner.sample(num_episodes=6, random_actions=True))
    )
    assert [seed for seed, _ in sampled] == [SEED + 1, SEED + 2]
    for seed, episodes in sampled:
        assert len(episodes) == 6
        for env in range(ENVS):  # whose episodes end together, in order
            check_against_filter(episodes[env::ENVS], checkpoint, seed + env)


def check_against_filter(episodes: list[SingleAgentEpisode], checkpoint: Path, seed: int) -> None:
    """Run the episodes again on pixels and the bare filter; the last observation included."""
    pixels = gym.make(PENDULUM, max_episode_steps=EPISODE)
    latents = latentwrap.LatentFilter(checkpoint)
    for index, episode in enumerate(episodes):
        frame, _ = pixels.reset(seed=None if index else seed)
        expected = [latents.reset(frame)]
        actions = episode.get_actions()
        expected += [latents.step(action, pixels.step(action)[0]) for action in actions]
        assert episode.is_truncated
        assert len(expected) == EPISODE + 1
        np.testing.assert_allclose(episode.get_observations(), expected, atol=1e-4)


def test_runners_load_the_model_once_each_and_use_one_thread(algorithm: PPO) -> None:
    def describe(runner: Any) -> tuple[int, int, int]:
        import gc

        import torch

        from latentwrap import LatentModel

        models = sum(isinstance(thing, LatentModel) for thing in gc.get_objects())
        return os.getpid(), torch.get_num_threads(), models

    told = ask_runners(algorithm, describe)
    batched = algorithm.config.gym_env_vectorize_mode == "vector_entry_point"
    assert len({os.getpid(), *(process for process, _, _ in told)}) == 1 + RUNNERS
    assert {(threads, models) for _, threads, models in told} == {(1, 1 if batched else ENVS)}


def test_metrics_read_back(algorithm: PPO) -> None:
    metrics = algorithm.train()["env_runners"]
    assert metrics["num_env_steps_sampled_lifetime"] >= 200
    assert metrics["episode_len_mean"] == EPISODE
    assert -16.3 * EPISODE <= metrics["episode_return_mean"] < 0
