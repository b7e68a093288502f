"""SAC as a user meets it: learn, predict, save, load, resume, refuse."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3 import SAC as SB3SAC
from tests.conftest import make_tiny_model

from latentwrap import SAC, LatentObservation, storage
from latentwrap.agents import (
    Callback,
    EpisodeStats,
    EvaluateEvery,
    LogMetrics,
    SaveEvery,
    evaluate_policy,
)
from latentwrap.errors import CheckpointError, ConfigError, EnvironmentMismatch
from latentwrap.models import save_model
from latentwrap.runlog import read_metrics

QUICK: dict[str, Any] = {"hidden": (16, 16), "batch_size": 16, "learning_starts": 10}


class Target(gym.Env[np.ndarray, np.ndarray]):
    """One step long: the reward is highest where the action is half the observation."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Box(np.float32([-3, 0]), np.float32([3, 2]))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.goal, {}

    def step(self, action: np.ndarray) -> Any:
        wanted = np.array([2 * self.goal[0], 1 + self.goal[1] / 2])
        return self.goal, -float(np.square(action - wanted).sum()), True, False, {}


class Corridor(gym.Env[np.ndarray, np.ndarray]):
    """Always the same state and reward 1; ends after three steps, truly or by a time limit."""

    def __init__(self, *, terminates: bool) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,))
        self.action_space = spaces.Box(-1, 1, (1,))
        self._terminates = terminates

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self._left = 3
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        self._left -= 1
        over = self._left == 0
        ends = (over and self._terminates, over and not self._terminates)
        return np.zeros(1, np.float32), 1.0, *ends, {}


def test_it_learns_an_easy_task_almost_perfectly() -> None:
    agent = SAC(Target(), seed=0, hidden=(64, 64), batch_size=64, learning_rate=3e-3)
    agent.learn(1500)
    assert evaluate_policy(agent, Target(), 50, seed=100).mean > -0.05


class Signs(gym.Env[np.ndarray, int]):
    """One step long: the action that is the sign of the observation earns 1."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,))
        self.action_space = spaces.Discrete(3, start=-1)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.sign = int(self.np_random.integers(-1, 2))
        return np.float32([self.sign * self.np_random.uniform(0.3, 1)]), {}

    def step(self, action: int) -> Any:
        assert self.action_space.contains(action)
        return np.zeros(1, np.float32), float(action == self.sign), True, False, {}


class Ring(gym.Env[np.ndarray, int]):
    """Eight places in a ring: each step costs 1 until the first place is reached."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (8,))
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self._left = int(self.np_random.integers(1, 8)), 30
        return np.eye(8, dtype=np.float32)[self.place], {}

    def step(self, action: int) -> Any:
        self.place, self._left = (self.place + action - 1) % 8, self._left - 1
        there = self.place == 0
        return np.eye(8, dtype=np.float32)[self.place], -1.0, there, self._left == 0, {}


@pytest.mark.parametrize("num", [1, 4])
def test_it_finds_the_shortest_ways(num: int) -> None:
    env = Ring() if num == 1 else SyncVectorEnv([Ring] * num)
    agent = SAC(env, seed=0, hidden=(32, 32), batch_size=64, learning_rate=3e-3, tau=0.05)
    agent.learn(600)
    found = evaluate_policy(agent, Ring(), 40, seed=100).returns
    ring, shortest = Ring(), []
    for seed in range(100, 140):
        ring.reset(seed=seed)
        shortest.append(-min(ring.place, 8 - ring.place))
    assert list(found) == shortest


def test_discrete_actions_have_the_form_that_the_environment_takes(tmp_path: Path) -> None:
    agent = SAC(Signs(), seed=0, **QUICK).learn(40)
    one, _ = agent.predict(np.zeros(1, np.float32))
    assert agent.action_space.contains(one)
    observations = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    agent.save(tmp_path / "a.safetensors")
    loaded = SAC.load(tmp_path / "a.safetensors", Signs())
    drawn, _ = agent.predict(observations)
    assert drawn.shape == (300,)
    assert drawn.dtype == np.int64
    assert set(drawn) == {-1, 0, 1}
    np.testing.assert_array_equal(loaded.predict(observations)[0], drawn)
    best = [agent.predict(observations, deterministic=True)[0] for _ in range(2)]
    np.testing.assert_array_equal(*best)
    for each in (agent, loaded):
        for _ in range(10):
            each.learner.update(each.replay.sample(16))
    for name, tensor in agent.learner.state().items():
        torch.testing.assert_close(loaded.learner.state()[name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("terminates", "share"), [(True, 2 / 3), (False, 1.0)])
def test_truncation_bootstraps_and_termination_does_not(terminates: bool, share: float) -> None:
    # All states look alike, so Q = 1 + γ · P(goes on) · Q with P = 2/3 or 1, once the entropy
    # counts for nothing.
    env = Corridor(terminates=terminates)
    agent = SAC(
        env, seed=0, gamma=0.8, tau=0.05, learning_rate=3e-3, hidden=(32, 32), batch_size=64,
        initial_temperature=1e-8, target_entropy=-1e4,
    )  # fmt: skip
    agent.learn(1200)
    batch = agent.replay.sample(256)
    value = agent.learner.critics(batch.observation, batch.action).mean().item()
    assert value == pytest.approx(1 / (1 - 0.8 * share), rel=0.08)


def test_pendulum_from_state_is_solved_as_by_stable_baselines3() -> None:
    def mean_return(agent: Any) -> float:
        agent.learn(3500)
        return evaluate_policy(agent, gym.make("Pendulum-v1"), 10, seed=100).mean

    ours = SAC(gym.make("Pendulum-v1"), seed=0, learning_rate=1e-3, hidden=(64, 64))
    theirs = SB3SAC(
        "MlpPolicy",
        gym.make("Pendulum-v1"),
        seed=0,
        device="cpu",
        learning_rate=1e-3,
        policy_kwargs={"net_arch": [64, 64]},
    )
    result = mean_return(ours)
    assert result >= -250
    assert result >= mean_return(theirs) - 50


def test_actions_have_the_shape_and_bounds_of_the_environment() -> None:
    env = Target()
    agent = SAC(env, seed=0, **QUICK)
    one, state = agent.predict(np.zeros(2, np.float32))
    assert one.shape == (2,)
    assert one.dtype == np.float32
    assert state is None
    many, _ = agent.predict(np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32))
    assert many.shape == (200, 2)
    assert all(env.action_space.contains(action) for action in many)
    assert len(np.unique(many[:, 0])) > 100


def test_the_deterministic_action_is_the_mean() -> None:
    agent = SAC(Target(), seed=0, **QUICK)
    observation = np.float32([0.3, -0.2])
    first, _ = agent.predict(observation, deterministic=True)
    np.testing.assert_array_equal(first, agent.predict(observation, deterministic=True)[0])
    squashed = agent.learner.actor.best(torch.from_numpy(observation)[None])[0].detach()
    np.testing.assert_allclose(first, [3 * squashed[0], 1 + squashed[1]], rtol=1e-5)


def test_a_seed_repeats_a_run_whatever_the_global_generators_do() -> None:
    def weights(seed: int, noise: int) -> torch.Tensor:
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002 - the global one is what must not matter
        agent = SAC(Target(), seed=seed, **QUICK).learn(40)
        return torch.cat([p.detach().flatten() for p in agent.learner.actor.parameters()])

    torch.testing.assert_close(weights(0, 1), weights(0, 2), rtol=0, atol=0)
    assert not torch.equal(weights(0, 1), weights(1, 1))


def test_a_loaded_agent_acts_the_same(tmp_path: Path) -> None:
    agent = SAC(Target(), seed=0, **QUICK).learn(40)
    agent.save(tmp_path / "a.safetensors")
    loaded = SAC.load(tmp_path / "a.safetensors")
    observations = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        agent.predict(observations, deterministic=True)[0],
        loaded.predict(observations, deterministic=True)[0],
    )
    np.testing.assert_array_equal(agent.predict(observations)[0], loaded.predict(observations)[0])
    assert loaded.num_timesteps == 40
    with pytest.raises(EnvironmentMismatch, match="requires an environment"):
        loaded.learn(1)


def test_a_resumed_agent_makes_the_same_updates(tmp_path: Path) -> None:
    agent = SAC(Target(), seed=0, **QUICK).learn(40)
    agent.save(tmp_path / "a.safetensors")
    loaded = SAC.load(tmp_path / "a.safetensors", Target())
    for each in (agent, loaded):
        for _ in range(10):
            each.learner.update(each.replay.sample(16))
    for name, tensor in agent.learner.state().items():
        torch.testing.assert_close(loaded.learner.state()[name], tensor, rtol=0, atol=0, msg=name)
    assert loaded.learn(5).num_timesteps == 45


def test_without_its_replay_a_file_is_small_and_still_acts(tmp_path: Path) -> None:
    agent = SAC(Target(), seed=0, **QUICK).learn(500)
    agent.save(tmp_path / "with.safetensors")
    agent.save(tmp_path / "without.safetensors", replay=False)
    sizes = [
        (tmp_path / name).stat().st_size for name in ("with.safetensors", "without.safetensors")
    ]
    assert sizes[1] < sizes[0] - 500 * 5 * 4
    assert len(SAC.load(tmp_path / "without.safetensors").replay) == 0


@pytest.mark.parametrize(("space", "bounds"), [("observation", (3,)), ("action", (1,))])
def test_another_environment_is_refused(tmp_path: Path, space: str, bounds: tuple[int]) -> None:
    SAC(Target(), seed=0, **QUICK).save(tmp_path / "a.safetensors")
    other = Target()
    setattr(other, f"{space}_space", spaces.Box(-1, 1, bounds))
    with pytest.raises(CheckpointError, match=f"expects the {space} space"):
        SAC.load(tmp_path / "a.safetensors", other)


def test_an_agent_refuses_the_latents_of_another_model(tmp_path: Path, pendulum: gym.Env) -> None:
    for seed in (0, 1):
        save_model(tmp_path / f"{seed}.safetensors", make_tiny_model(seed=seed), training={})
    first, second = (LatentObservation(pendulum, tmp_path / f"{s}.safetensors") for s in (0, 1))
    SAC(first, seed=0, **QUICK).save(tmp_path / "a.safetensors")
    SAC.load(tmp_path / "a.safetensors", first)
    with pytest.raises(CheckpointError, match="latents of another model"):
        SAC.load(tmp_path / "a.safetensors", second)


def test_other_spaces_are_refused_in_one_sentence() -> None:
    several = Target()
    for space in (spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(3)):
        several.action_space = space
        with pytest.raises(EnvironmentMismatch, match=r"Box or Discrete action.*TransformAction"):
            SAC(several)
    with pytest.raises(EnvironmentMismatch, match="requires a Box observation"):
        SAC(gym.make("FrozenLake-v1"))
    endless = Target()
    endless.action_space = spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(EnvironmentMismatch, match="finite bounds"):
        SAC(endless)


def test_unknown_hyperparameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gamma'"):
        SAC(Target(), gama=0.9)
    with pytest.raises(ConfigError, match="invalid tau"):
        SAC(Target(), tau=2.0)


def test_a_file_of_something_else_is_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="expected 'latentwrap-agent'"):
        SAC.load(tiny_checkpoint)
    SAC(Target(), seed=0, **QUICK).save(tmp_path / "a.safetensors")
    stored = storage.load(tmp_path / "a.safetensors", file_format="latentwrap-agent", what="agent")
    storage.save(tmp_path / "b.safetensors", {}, stored.document)
    with pytest.raises(CheckpointError, match="not of this version"):
        SAC.load(tmp_path / "b.safetensors")


class Recorder(Callback):
    """Notes which hooks were called."""

    def __init__(self, stop_at: int = 10**9) -> None:
        self.calls: list[str] = []
        self.episodes: list[EpisodeStats] = []
        self._stop_at = stop_at

    def on_start(self, agent: SAC, total: int) -> None:
        self.calls.append(f"start {total}")

    def on_step(self, agent: SAC) -> bool:
        self.calls.append("step")
        return agent.num_timesteps < self._stop_at

    def on_update(self, agent: SAC, metrics: dict[str, torch.Tensor]) -> None:
        self.calls.append("update")

    def on_episode(self, agent: SAC, stats: EpisodeStats) -> None:
        self.episodes.append(stats)

    def on_end(self, agent: SAC) -> None:
        self.calls.append("end")


def test_callbacks_are_told_what_happens() -> None:
    recorder = Recorder()
    SAC(Corridor(terminates=True), seed=0, **QUICK).learn(12, callback=recorder)
    assert recorder.calls == ["start 12", *["step"] * 10, *["update", "step"] * 2, "end"]
    assert recorder.episodes == [EpisodeStats(3.0, 3)] * 4


def test_a_callback_can_end_learning() -> None:
    recorder = Recorder(stop_at=5)
    agent = SAC(Target(), seed=0, **QUICK).learn(100, callback=[recorder, Callback()])
    assert agent.num_timesteps == 5
    assert recorder.calls[-1] == "end"


def test_ctrl_c_ends_after_the_step() -> None:
    class Press(Callback):
        def on_step(self, agent: SAC) -> bool:
            if agent.num_timesteps == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return True

    agent = SAC(Target(), seed=0, **QUICK).learn(100, callback=Press())
    assert agent.interrupted
    assert agent.num_timesteps == 7
    assert not agent.learn(3).interrupted


def test_an_error_in_the_environment_still_ends_the_callbacks() -> None:
    class Broken(Target):
        def step(self, action: np.ndarray) -> Any:
            raise RuntimeError("broken")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="broken"):
        SAC(Broken(), seed=0, **QUICK).learn(5, callback=recorder)
    assert recorder.calls[-1] == "end"


def test_metrics_evaluations_and_agents_are_written(tmp_path: Path) -> None:
    agent = SAC(Target(), seed=0, **QUICK)
    evaluate = EvaluateEvery(Target(), 20, 3, seed=5, folder=tmp_path)
    callbacks = [
        LogMetrics(tmp_path, every=20),
        evaluate,
        SaveEvery(tmp_path / "a.safetensors", 20),
    ]
    agent.learn(60, callback=callbacks)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows if "train/critic_loss" in row] == [20, 40, 60]
    assert sum("episode/return" in row for row in rows) == 60
    history = read_metrics(tmp_path / "evaluations" / "metrics.csv")
    assert [row["step"] for row in history] == [20, 40, 60]
    assert [row["evaluation/return"] for row in history] == [r.mean for _, r in evaluate.history]
    assert SAC.load(tmp_path / "a.safetensors").num_timesteps == 60
    best = max(evaluate.history, key=lambda item: item[1].mean)
    assert SAC.load(tmp_path / "best.safetensors").num_timesteps == best[0]


def test_a_run_that_goes_on_goes_on_in_its_log(tmp_path: Path) -> None:
    agent = SAC(Target(), seed=0, **QUICK).learn(40, callback=LogMetrics(tmp_path, every=20))
    agent.learn(40, callback=LogMetrics(tmp_path, every=20))
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows if "train/critic_loss" in row] == [20, 40, 60, 80]


class Still(gym.Env[np.ndarray, np.ndarray]):
    """Its first action dimension cannot move; its observation needs float64."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1e300, 1e300, (2,), np.float64)
        self.action_space = spaces.Box(np.float32([0, -2]), np.float32([0, 2]))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.normal(size=2), {}

    def step(self, action: np.ndarray) -> Any:
        assert np.isfinite(action).all()
        return self.np_random.normal(size=2), 0.0, True, False, {}


def test_bounds_that_are_equal_or_huge_do_no_harm(tmp_path: Path) -> None:
    agent = SAC(Still(), seed=0, **QUICK).learn(30)
    columns, _ = agent.replay.state()
    assert columns["action"].abs().max() <= 1
    action, _ = agent.predict(np.zeros(2), deterministic=True)
    assert action[0] == 0
    agent.save(tmp_path / "a.safetensors")
    assert SAC.load(tmp_path / "a.safetensors", Still()).num_timesteps == 30


def test_remembered_actions_are_clipped_to_the_bounds() -> None:
    agent = SAC(Still(), seed=0, **QUICK)
    agent.remember(np.zeros((3, 2)), np.array([[0, 5], [0, -1]]), np.zeros(2), terminated=False)
    columns, _ = agent.replay.state()
    assert columns["action"][:, 1].tolist() == [1, -0.5]
