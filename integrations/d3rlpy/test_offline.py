"""d3rlpy, offline, on the files that `latentwrap encode` writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import d3rlpy
import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest

import latentwrap
from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset, DatasetInfo, DatasetWriter, Episode
from latentwrap.encoding import encode
from latentwrap.pixels import FrameSpec

PENDULUM = "latentwrap/PixelPendulum-v0"
EPISODES = 40
NOISE = (0.2, 0.5, 1.0)
STEPS = 1000
SEED = 5


def swing_up(state: np.ndarray) -> float:
    """A torque that gives the pendulum energy until it can be balanced."""
    cos, sin, speed = state
    if cos > 0.9:
        return -10 * np.arctan2(sin, cos) - 2 * speed
    energy = speed**2 / 6 + 5 * cos
    return (5 - energy) * np.sign(speed)


def record_episode(env: gym.Env[Any, Any], share: float, rng: np.random.Generator) -> Episode:
    """An episode whose actions are noise to some share."""
    frame, info = env.reset(seed=int(rng.integers(2**31)))
    frames, actions, rewards, over = [frame], [], [], False
    while not over:
        torque = (1 - share) * swing_up(info["state"]) + share * rng.uniform(-2, 2)
        actions.append(np.clip([torque], -2, 2).astype(np.float32))
        frame, reward, _, over, info = env.step(actions[-1])
        frames.append(frame)
        rewards.append(reward)
    return Episode(
        frames=np.stack(frames),
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        terminated=False,
        truncated=True,
    )


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes of mixed quality."""
    path, rng = tmp_path_factory.mktemp("offline") / "pixels.h5", np.random.default_rng(0)
    env = gym.make(PENDULUM)
    with DatasetWriter(path, DatasetInfo(PENDULUM, ActionSpec(env.action_space), FrameSpec())) as w:
        for number in range(EPISODES):
            w.add(record_episode(env, NOISE[number % len(NOISE)], rng))
    return path


@pytest.fixture(scope="module")
def flat(pixels: Path, checkpoint: Path) -> Path:
    return encode(checkpoint, pixels, pixels.with_name("flat.hdf5"), form="d4rl").path


def read_flat(path: Path) -> d3rlpy.dataset.MDPDataset:
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    with h5py.File(path) as file:
        return d3rlpy.dataset.MDPDataset(**{name: file[name][:] for name in names})


def test_both_forms_give_the_same_episodes(pixels: Path, flat: Path, checkpoint: Path) -> None:
    folder = encode(checkpoint, pixels, pixels.with_name("minari"), form="minari").path
    episodes = list(minari.MinariDataset(folder / "data").iterate_episodes())
    ours, pictures = read_flat(flat), Dataset(pixels)
    assert len(ours.episodes) == len(episodes) == EPISODES
    for number, (found, wanted) in enumerate(zip(ours.episodes, episodes, strict=True)):
        np.testing.assert_allclose(found.observations, wanted.observations[:-1], atol=1e-4)
        np.testing.assert_array_equal(found.actions, pictures.episode(number).actions)
        assert found.compute_return() == pytest.approx(pictures.returns()[number], rel=1e-4)
        assert not found.terminated
        assert found.transition_count == 199  # the last next state of a timeout is not known


@pytest.mark.parametrize(
    ("name", "config"),
    [("IQL", d3rlpy.algos.IQLConfig), ("TD3+BC", d3rlpy.algos.TD3PlusBCConfig)],
)
def test_a_policy_of_the_file_knows_what_to_do_in_the_pixel_environment(
    flat: Path, checkpoint: Path, record: Callable[..., None], name: str, config: Any
) -> None:
    learner = train(config, read_flat(flat))

    # Where the controller leads, on an episode that was not recorded, seen through the wrapper.
    frames = gym.make(PENDULUM)
    env = latentwrap.LatentObservation(frames, checkpoint)
    latent, info = env.reset(seed=SEED)
    proposed, wanted, over = [], [], False
    while not over:
        proposed.append(learner.predict(latent[None])[0, 0])
        wanted.append(np.clip(swing_up(info["state"]), -2, 2))
        latent, _, _, over, info = env.step(np.array(wanted[-1:], np.float32))
    agreement = float(np.corrcoef(proposed, wanted)[0, 1])
    assert agreement > 0.6  # of 200 random actions: 0 ± 0.07
    result = f"correlation {agreement:.2f} with the actions of a controller"
    record(algorithm=f"{name}, offline", steps=STEPS, result=result)


@pytest.mark.skipif("LATENTWRAP_DEMO" not in os.environ, reason="names the folder of a demo")
def test_a_policy_of_the_file_beats_what_was_recorded(
    run_example: Callable[..., str], record: Callable[..., None]
) -> None:
    """Needs a model that sees well and an agent to record, which take longer than all tests here.

    LATENTWRAP_DEMO is the folder that `latentwrap demo` wrote.
    """
    demo, steps = Path(os.environ["LATENTWRAP_DEMO"]).resolve(), 10_000
    options = {
        "--model": demo / "pendulum.safetensors",
        "--agent": demo / "agent",
        "--steps": steps,
        "--episodes": 5,
        "--seeds": 0,
    }
    output = run_example("offline_d3rlpy", *(word for pair in options.items() for word in pair))
    told = re.search(r"Return (-?\d+) with IQL, ([+-]\d+) on the behaviour", output)
    assert told is not None, output
    assert int(told[2]) > 0
    result = f"return {told[1]}, {told[2]} on the behaviour"
    record(algorithm="IQL, offline, of a demo", steps=steps, result=result)


def train(config: Any, dataset: d3rlpy.dataset.MDPDataset) -> Any:
    """A small learner, which has no more than the file."""
    d3rlpy.seed(SEED)
    networks = {
        field: d3rlpy.models.VectorEncoderFactory([128, 128])
        for field in ("actor_encoder_factory", "critic_encoder_factory", "value_encoder_factory")
        if field in config.__dataclass_fields__
    }
    learner = config(
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        batch_size=128,
        action_scaler=d3rlpy.preprocessing.MinMaxActionScaler(minimum=[-2.0], maximum=[2.0]),
        reward_scaler=d3rlpy.preprocessing.StandardRewardScaler(),
        **networks,
    ).create(device="cpu:0")
    learner.fit(
        dataset,
        n_steps=STEPS,
        n_steps_per_epoch=STEPS,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    return learner
