"""Tianshou 2: both of its own vector environments, in one process and in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from tianshou.algorithm.algorithm_base import Policy
from tianshou.data import Batch, Collector, VectorReplayBuffer
from tianshou.env import BaseVectorEnv, DummyVectorEnv, SubprocVectorEnv

import latentwrap

PENDULUM = "latentwrap/PixelPendulum-v0"
LENGTH = 10
VECTORS = {
    "dummy": (DummyVectorEnv, {}),
    "fork": (SubprocVectorEnv, {"context": "fork"}),
    "spawn": (SubprocVectorEnv, {"context": "spawn"}),
    "shared memory": (SubprocVectorEnv, {"share_memory": True}),
}


class Still(Policy):
    """Pushes the pendulum neither way."""

    def forward(self, batch: Batch, state: object = None, **_: object) -> Batch:
        return Batch(act=np.zeros((len(batch.obs), 1), np.float32), state=state)


def make_latent(checkpoint: Path) -> gym.Env:
    frames = gym.make(PENDULUM, max_episode_steps=LENGTH)
    return latentwrap.LatentObservation(frames, checkpoint)


@pytest.fixture
def envs(checkpoint: Path, request: pytest.FixtureRequest) -> Iterator[BaseVectorEnv]:
    vector, options = VECTORS[request.param]
    made = vector([lambda: make_latent(checkpoint)] * 2, **options)
    yield made
    made.close()


@pytest.mark.parametrize("vector", ["DummyVectorEnv", "SubprocVectorEnv"])
def test_a_latent_environment_trains(vector: str, train_example: Callable[..., None]) -> None:
    workers = ["--workers"] if vector == "SubprocVectorEnv" else []
    train_example(f"SAC, {vector}", "tianshou_pendulum", *workers)


@pytest.mark.parametrize("envs", VECTORS, indirect=True)
def test_vector_environments_give_the_latents_of_a_single_one(
    envs: BaseVectorEnv, checkpoint: Path
) -> None:
    singles = [make_latent(checkpoint) for _ in range(2)]
    # Tianshou seeds environment i with seed + i.
    envs.seed(5)
    for index, single in enumerate(singles):
        single.reset(seed=5 + index)
    generator = np.random.default_rng(0)
    for _ in range(2):
        seen, _ = envs.reset()
        assert_equal(seen, [single.reset()[0] for single in singles])
        for _ in range(LENGTH):
            actions = generator.uniform(-2, 2, (2, 1)).astype(np.float32)
            seen, _, _, truncated, _ = envs.step(actions)
            stepped = [single.step(a) for single, a in zip(singles, actions, strict=True)]
            assert_equal(seen, [latent for latent, *_ in stepped])
        assert truncated.all()


@pytest.mark.parametrize("envs", ["dummy"], indirect=True)
def test_the_replay_holds_the_last_latent_of_an_episode(
    envs: BaseVectorEnv, checkpoint: Path
) -> None:
    """The collector resets by itself; what it stores must be this episode's last latent."""
    single, buffer = make_latent(checkpoint), VectorReplayBuffer(100, 2)
    collector = Collector(Still(single.action_space), envs, buffer)
    collector.reset(gym_reset_kwargs={"seed": 9})
    collector.collect(n_step=2 * LENGTH + 2)
    single.reset(seed=9)
    latents = [single.step(np.zeros(1, np.float32))[0] for _ in range(LENGTH)]
    assert_equal(buffer.buffers[0].obs_next[:LENGTH], latents)
    assert buffer.buffers[0].truncated[:LENGTH].nonzero()[0].tolist() == [LENGTH - 1]


def assert_equal(seen: np.ndarray, expected: list[np.ndarray]) -> None:
    assert np.allclose(seen, np.stack(expected), atol=1e-4)
