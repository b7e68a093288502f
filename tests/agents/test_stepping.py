"""Learning from many environments: what enters the replay is what truly happened, in every mode."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import make_tiny_model

from latentwrap import SAC, LatentObservation, VectorLatentObservation
from latentwrap.agents import Callback, EpisodeStats
from latentwrap.agents.callbacks import SaveEvery
from latentwrap.agents.stepping import Stepper
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, EnvironmentMismatch
from latentwrap.models import save_model

MODES = list(AutoresetMode)
QUICK: dict[str, Any] = {"hidden": (16, 16), "batch_size": 16, "learning_starts": 10}


class Episode(NamedTuple):
    length: int
    terminates: bool


class Scripted(gym.Env[np.ndarray, int]):
    """Plays a script of episodes over and over; its observation says where it is."""

    def __init__(self, number: int, script: list[Episode]) -> None:
        self.observation_space = spaces.Box(0, 1e6, (3,))
        self.action_space = spaces.Discrete(3, start=5)
        self._number, self._script = number, script
        self._episode = -1
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self._episode, self._time = self._episode + 1, 0
        return self._look(), {}

    def step(self, action: int) -> Any:
        assert self.action_space.contains(action)
        assert self._time < self._current.length, "an ended episode was stepped"
        self._time += 1
        ends = self._time == self._current.length
        flags = (ends and self._current.terminates, ends and not self._current.terminates)
        return self._look(), reward(self._number, self._time, action), *flags, {}

    @property
    def _current(self) -> Episode:
        return self._script[self._episode % len(self._script)]

    def _look(self) -> np.ndarray:
        return np.float32([self._number, self._episode, self._time])


def reward(number: int, time: int, action: int) -> float:
    return 100.0 * number + 10 * time + action


class Row(NamedTuple):
    """A transition as the replay should have it, but for its action."""

    observation: list[float]
    next_observation: list[float]
    terminated: bool


def by_hand(scripts: list[list[Episode]], mode: AutoresetMode | None) -> Iterator[list[Row]]:
    """The transitions of one step of all environments after the other."""
    places = [(0, 0) for _ in scripts]  # episode, time
    resting = [False for _ in scripts]
    while True:
        rows = []
        for number, (script, (episode, time)) in enumerate(zip(scripts, places, strict=True)):
            if resting[number]:
                resting[number] = False
                continue
            length, terminates = script[episode % len(script)]
            ended = time + 1 == length
            here, there = [number, episode, time], [number, episode, time + 1]
            rows.append(Row(here, there, ended and terminates))
            places[number] = (episode + 1, 0) if ended else (episode, time + 1)
            resting[number] = ended and mode is AutoresetMode.NEXT_STEP
        yield rows


class Episodes(Callback):
    """Notes the episodes, and at which steps it was asked."""

    def __init__(self) -> None:
        self.stats: list[EpisodeStats] = []
        self.steps: list[int] = []

    def on_episode(self, agent: SAC, stats: EpisodeStats) -> None:
        self.stats.append(stats)

    def on_step(self, agent: SAC) -> bool:
        self.steps.append(agent.num_timesteps)
        return True


SCRIPT = st.lists(st.builds(Episode, st.integers(1, 4), st.booleans()), min_size=1, max_size=4)


def vector(
    scripts: list[list[Episode]], mode: AutoresetMode, *, copy: bool = True
) -> SyncVectorEnv:
    makers = [lambda n=n, s=s: Scripted(n, s) for n, s in enumerate(scripts)]
    return SyncVectorEnv(makers, autoreset_mode=mode, copy=copy)


@settings(max_examples=150)
@given(
    scripts=st.lists(SCRIPT, min_size=1, max_size=4),
    mode=st.sampled_from([None, *MODES]),
    steps=st.integers(1, 40),
    starts=st.sampled_from([0, 1000]),
    copy=st.booleans(),
)
def test_the_replay_holds_what_happened(
    scripts: list[list[Episode]],
    mode: AutoresetMode | None,
    steps: int,
    starts: int,
    copy: bool,
) -> None:
    if mode is None:
        scripts, env = scripts[:1], Scripted(0, scripts[0])
    else:
        env = vector(scripts, mode, copy=copy)
    agent = SAC(env, seed=0, hidden=(4,), batch_size=2, learning_starts=starts)
    # Random at first or the policy's, never learned.
    agent._learn_after = lambda *_, **__: None  # type: ignore[method-assign]
    watcher = Episodes()
    agent.learn(steps, callback=watcher)

    expected: list[Row] = []
    for rows in by_hand(scripts, mode):
        if len(expected) >= steps:
            break
        expected += rows
    assert agent.num_timesteps == len(agent.replay) == len(expected)
    assert watcher.steps == list(range(1, len(expected) + 1))
    columns, _ = agent.replay.state()
    assert columns["observation"].tolist() == [row.observation for row in expected]
    assert columns["next_observation"].tolist() == [row.next_observation for row in expected]
    assert columns["terminated"].tolist() == [row.terminated for row in expected]
    rewards = [
        reward(row.next_observation[0], row.next_observation[2], 5 + int(action))
        for row, action in zip(expected, columns["action"][:, 0], strict=True)
    ]
    assert columns["reward"].tolist() == rewards

    ends, running = [], dict.fromkeys(range(len(scripts)), (0.0, 0))
    for row, earned in zip(expected, rewards, strict=True):
        number, episode, time = row.next_observation
        total, length = running[number]
        running[number] = total + earned, length + 1
        if time == scripts[number][episode % len(scripts[number])].length:
            ends.append(EpisodeStats(*running[number]))
            running[number] = 0.0, 0
    assert watcher.stats == ends


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("mode", MODES)
def test_a_vector_of_one_learns_as_a_single_environment(env_id: str, mode: AutoresetMode) -> None:
    def make() -> gym.Env:
        return gym.make(env_id, max_episode_steps=20)

    single = SAC(make(), seed=3, **QUICK)
    many = SAC(SyncVectorEnv([make], autoreset_mode=mode), seed=3, **QUICK)
    for agent in (single, many):
        agent.learn(45)
        agent.learn(20)  # goes on from a reset without a seed
    for ours, theirs in (
        (many.learner.state(), single.learner.state()),
        (many.replay.state()[0], single.replay.state()[0]),
    ):
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0, msg=name)


def test_updates_are_made_for_every_transition() -> None:
    class Updates(Callback):
        count = 0

        def on_update(self, agent: SAC, metrics: dict[str, torch.Tensor]) -> None:
            self.count += 1

    updates = Updates()
    env = gym.make_vec("CartPole-v1", num_envs=4)
    agent = SAC(env, seed=0, gradient_steps=2, **QUICK).learn(40, callback=updates)
    assert updates.count == 2 * (agent.num_timesteps - QUICK["learning_starts"])


def test_a_step_that_has_been_taken_is_learned_from_whole() -> None:
    class Stop(Callback):
        def on_step(self, agent: SAC) -> bool:
            return agent.num_timesteps != 2

    scripts = [[Episode(9, False)]] * 4
    agent = SAC(vector(scripts, AutoresetMode.NEXT_STEP), seed=0, **QUICK)
    assert agent.learn(5).num_timesteps == 8
    agent = SAC(vector(scripts, AutoresetMode.NEXT_STEP), seed=0, **QUICK)
    assert agent.learn(100, callback=Stop()).num_timesteps == 4


def test_environments_are_seeded_one_after_the_other() -> None:
    env = vector([[Episode(2, True)]] * 3, AutoresetMode.SAME_STEP)
    SAC(env, seed=0, **QUICK).learn(12)
    firsts = [each.seeds[0] for each in env.envs]
    assert firsts == [firsts[0] + i for i in range(3)]
    assert all(seed is None for each in env.envs for seed in each.seeds[1:])
    again = vector([[Episode(2, True)]] * 3, AutoresetMode.SAME_STEP)
    SAC(again, seed=0, **QUICK).learn(3)
    assert again.envs[0].seeds == firsts[:1]


class Without(VectorWrapper):
    """Takes away what a careless vector environment does not give."""

    def step(self, actions: Any) -> Any:
        return *self.env.step(actions)[:4], {}


def test_a_vector_that_names_no_mode_is_taken_for_next_step() -> None:
    env = vector([[Episode(2, True)], [Episode(3, True)]], AutoresetMode.NEXT_STEP)
    env.metadata = {}
    with pytest.warns(UserWarning, match="taken for NEXT_STEP"):
        agent = SAC(env, seed=0, **QUICK).learn(8)
    columns, _ = agent.replay.state()
    assert (columns["next_observation"][:, 2] == columns["observation"][:, 2] + 1).all()


def test_a_vector_that_hides_its_last_observations_is_refused() -> None:
    env = Without(vector([[Episode(2, True)]] * 2, AutoresetMode.SAME_STEP))
    with pytest.raises(EnvironmentMismatch, match=r"requires infos\['final_obs'\]"):
        SAC(env, seed=0, **QUICK).learn(8)


def test_a_mode_that_does_not_exist_is_refused() -> None:
    env = vector([[Episode(2, True)]], AutoresetMode.NEXT_STEP)
    env.metadata = {"autoreset_mode": "Sometimes"}
    with pytest.raises(EnvironmentMismatch, match="got 'Sometimes'"):
        Stepper(env)


def test_an_agent_goes_from_one_environment_to_many_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    agent = SAC(gym.make("CartPole-v1"), seed=0, **QUICK).learn(20)
    agent.save(path)
    many = gym.make_vec("CartPole-v1", num_envs=3)
    agent = SAC.load(path, many).learn(21)
    assert agent.num_timesteps == 41
    actions, _ = agent.predict(many.reset(seed=0)[0], deterministic=True)
    assert many.action_space.contains(actions)
    agent.set_env(gym.make("CartPole-v1"))
    assert agent.learn(1).num_timesteps == 42
    shifted = gym.make("CartPole-v1")
    shifted.action_space = spaces.Discrete(2, start=1)
    for other in (shifted, SyncVectorEnv([lambda: shifted])):
        with pytest.raises(CheckpointError, match=r"expects the action space Discrete\(2\)"):
            agent.set_env(other)


def test_the_latents_of_many_and_of_one_are_learned_alike(tmp_path: Path) -> None:
    model, path = tmp_path / "m.safetensors", tmp_path / "a.safetensors"
    save_model(model, make_tiny_model(), training={})
    envs = gym.make_vec(PIXEL_PENDULUM, num_envs=2, vectorization_mode="sync")
    agent = SAC(VectorLatentObservation(envs, model), seed=0, **QUICK).learn(30)
    agent.save(path)
    single = LatentObservation(gym.make(PIXEL_PENDULUM), model)
    assert SAC.load(path, single).learn(5).num_timesteps == 35


class FromModel(VectorWrapper):
    """A vector of latents, as an agent sees it."""

    model_fingerprint = "abc"


def test_the_model_of_a_vector_is_found() -> None:
    env = vector([[Episode(2, True)]] * 2, AutoresetMode.NEXT_STEP)
    assert SAC(env, **QUICK).model_fingerprint is None
    assert SAC(RecordEpisodeStatistics(env), **QUICK).model_fingerprint is None
    assert SAC(RecordEpisodeStatistics(FromModel(env)), **QUICK).model_fingerprint == "abc"


def test_the_models_inside_of_a_vector_must_be_one(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        save_model(path, make_tiny_model(seed=seed), training={})

    def latents(*which: int) -> VectorEnv:
        return SyncVectorEnv(
            [lambda i=i: LatentObservation(gym.make(PIXEL_PENDULUM), paths[i]) for i in which]
        )

    agent = SAC(latents(0, 0), seed=0, **QUICK)
    single = LatentObservation(gym.make(PIXEL_PENDULUM), paths[0])
    assert agent.model_fingerprint == single.model_fingerprint is not None
    agent.save(tmp_path / "a.safetensors")
    SAC.load(tmp_path / "a.safetensors", single)
    with pytest.raises(CheckpointError, match="latents of another model"):
        SAC.load(tmp_path / "a.safetensors", latents(1, 1))
    with pytest.raises(EnvironmentMismatch, match="must use one latent model, got 2"):
        SAC(latents(0, 1), seed=0, **QUICK)


def recorded(env: VectorEnv, steps: int) -> list[Any]:
    """What comes of the same actions."""
    stepper, found = Stepper(env), []
    stepper.begin(seed=0)
    for t in range(steps):
        stepper.send(np.array([5 + (t + i) % 3 for i in range(stepper.num)]))
        found.append([(each, stepper.overlaps) for each in stepper.receive()])
        stepper.restart()
    env.close()
    return found


@pytest.mark.parametrize("mode", MODES)
def test_processes_of_their_own_give_the_same_transitions(mode: AutoresetMode) -> None:
    scripts = [[Episode(3, terminates=True)], [Episode(2, terminates=False), Episode(4, True)]]
    makers = [partial(Scripted, number, script) for number, script in enumerate(scripts)]
    here = recorded(SyncVectorEnv(makers, autoreset_mode=mode), 20)
    apart = recorded(AsyncVectorEnv(makers, context="spawn", autoreset_mode=mode), 20)
    for ours, theirs in zip(here, apart, strict=True):
        for (mine, waited), (other, overlapped) in zip(ours, theirs, strict=True):
            assert (waited, overlapped) == (False, True)
            for name in ("number", "reward", "terminated", "ended"):
                assert getattr(mine, name) == getattr(other, name)
            np.testing.assert_array_equal(mine.observation, other.observation)
            np.testing.assert_array_equal(mine.next_observation, other.next_observation)


def test_a_wrapper_that_may_have_something_to_do_is_asked_in_one_call() -> None:
    makers = [partial(Scripted, 0, [Episode(3, terminates=True)])]
    env = RecordEpisodeStatistics(AsyncVectorEnv(makers, context="spawn"))
    stepper = Stepper(env)
    assert not stepper.overlaps
    stepper.begin(seed=0)
    for _ in range(4):
        stepper.step(np.array([5]))
    assert list(env.return_queue) == [100 * 0 + 10 + 5 + 20 + 5 + 30 + 5]
    env.close()


class Timeline(Callback):
    """At which step each update was made."""

    def __init__(self) -> None:
        self.updates: list[int] = []

    def on_update(self, agent: Any, metrics: Any) -> None:
        self.updates.append(agent.num_timesteps)


def test_it_learns_while_the_environments_step_and_misses_no_update() -> None:
    makers = [partial(Scripted, number, [Episode(5, terminates=True)]) for number in range(2)]
    timelines = []
    for make in (SyncVectorEnv, partial(AsyncVectorEnv, context="spawn")):
        env, timeline = make(makers), Timeline()
        agent = SAC(env, seed=0, device="cpu", **QUICK).learn(40, callback=timeline)
        env.close()
        assert len(agent.replay) == agent.num_timesteps
        timelines.append(timeline.updates)
    here, apart = timelines
    assert here == apart


class Watched(AsyncVectorEnv):
    """Notes when it is sent actions and when it is waited for."""

    def __init__(self, *arguments: Any) -> None:
        self.notes = ""
        super().__init__(*arguments, context="spawn")

    def step_async(self, actions: np.ndarray) -> None:
        self.notes += "s"
        super().step_async(actions)

    def step_wait(self, timeout: float | None = None) -> Any:
        self.notes += "w"
        return super().step_wait(timeout)


class Noting(Callback):
    """Notes updates there too, and ends learning, or fails, at a step."""

    def __init__(self, env: Watched, *, stop: int = 10**9, fail: int = 10**9) -> None:
        self._env, self._stop, self._fail = env, stop, fail

    def on_update(self, agent: Any, metrics: Any) -> None:
        self._env.notes += "u"

    def on_step(self, agent: Any) -> bool:
        if agent.num_timesteps == self._fail:
            raise ValueError("the callback broke")
        return bool(agent.num_timesteps < self._stop)


def test_updates_are_made_between_sending_actions_and_waiting() -> None:
    env = Watched([partial(Scripted, number, [Episode(50, True)]) for number in range(2)])
    agent = SAC(env, seed=0, device="cpu", **QUICK).learn(40, callback=Noting(env))
    # Ten steps are taken before the first update, two at a time, and the last two learn at the end.
    assert env.notes == "sw" * 6 + "suuw" * 14 + "uu"
    env.notes = ""
    # Noticed one step later, when the next one is on its way already.
    agent.learn(40, callback=Noting(env, stop=46))
    assert env.notes == "sw" + "suuw" * 3 + "uu"
    env.close()


def test_a_callback_that_breaks_leaves_environments_that_can_be_reset() -> None:
    env = Watched([partial(Scripted, number, [Episode(50, True)]) for number in range(2)])
    agent = SAC(env, seed=0, device="cpu", **QUICK)
    with pytest.raises(ValueError, match="the callback broke"):
        agent.learn(40, callback=Noting(env, fail=20))
    before = agent.num_timesteps
    assert agent.learn(10).num_timesteps == before + 10
    env.close()


def test_what_is_saved_while_it_overlaps_has_learned_all_that_it_counts(tmp_path: Path) -> None:
    makers = [partial(Scripted, number, [Episode(5, terminates=True)]) for number in range(4)]
    updates = {}
    for name, make in (
        ("here", SyncVectorEnv),
        ("apart", partial(AsyncVectorEnv, context="spawn")),
    ):
        timeline, path = Timeline(), tmp_path / f"{name}.safetensors"
        env = make(makers)
        agent = SAC(env, seed=0, device="cpu", **QUICK)
        agent.learn(40, callback=[timeline, SaveEvery(path, 20)])
        resumed = SAC.load(path, env, device="cpu")
        assert resumed.num_timesteps == 40
        resumed.learn(20, callback=timeline)
        updates[name] = timeline.updates
        env.close()
    assert updates["here"] == updates["apart"]


def test_latents_are_those_of_one_call(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    save_model(checkpoint, make_tiny_model(), training={})
    make = partial(gym.make_vec, PIXEL_PENDULUM, num_envs=2, vectorization_mode="async")
    one = VectorLatentObservation(make(vector_kwargs={"context": "spawn"}), checkpoint)
    two = VectorLatentObservation(make(vector_kwargs={"context": "spawn"}), checkpoint)
    np.testing.assert_array_equal(one.reset(seed=0)[0], two.reset(seed=0)[0])
    action = np.float32([[0.5], [-0.5]])
    for _ in range(3):
        two.step_async(action)
        for ours, theirs in zip(one.step(action)[:4], two.step_wait()[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    one.close()
    two.close()
    here = VectorLatentObservation(gym.make_vec(PIXEL_PENDULUM, num_envs=1), checkpoint)
    with pytest.raises(EnvironmentMismatch, match="AsyncVectorEnv"):
        here.step_async(action[:1])
