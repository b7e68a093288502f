"""The recorder, its replay, and what is played."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentwrap_test_envs import CountingEnv
from latentwrap_test_noise import RenderedNoise

from latentwrap.errors import LatentwrapError
from latentwrap.testing import End, Plan, Recorder
from latentwrap.testing.recording import Replay

ACTION = np.zeros(2, np.float32)


def run(env: gym.Env, steps: int) -> list[tuple[bool, bool]]:
    """Step, reset after each end, and tell how episodes ended."""
    env.reset(seed=0)
    ends = []
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            ends.append((terminated, truncated))
            env.reset()
    return ends


def test_episodes_end_as_asked_in_turn_and_again() -> None:
    ends = [End(2), End(1, terminated=True, truncated=False), End(3, terminated=True)]
    env = Recorder(CountingEnv(lengths=(9,)), ends)
    assert run(env, 12) == [(False, True), (True, False), (True, True)] * 2
    assert [len(episode.actions) for episode in env.recorded] == [2, 1, 3, 2, 1, 3, 0]


def test_the_environment_may_end_an_episode_earlier() -> None:
    env = Recorder(CountingEnv(lengths=(2, 9), end="terminated"), [End(4)])
    assert run(env, 6) == [(True, False), (False, True)]


def test_without_ends_all_is_left_to_the_environment() -> None:
    assert run(Recorder(CountingEnv(lengths=(2, 3))), 5) == [(False, True)] * 2


def test_it_records_what_was_given_even_if_the_memory_is_used_again() -> None:
    class OneBuffer(CountingEnv):
        buffer = np.zeros((8, 8, 3), np.uint8)

        def frame(self) -> np.ndarray:
            self.buffer[:] = super().frame()
            return self.buffer

    env = Recorder(OneBuffer(), [End(3)])
    run(env, 3)
    # CountingEnv draws the number of the step into the first colour.
    assert [int(frame[0, 0, 0]) for frame in env.recorded[0].observations] == [0, 1, 2, 3]


def test_it_records_the_first_image_after_each_step() -> None:
    env = Recorder(RenderedNoise())
    env.reset(seed=0)
    first, second = env.render(), env.render()
    assert not np.array_equal(first, second)
    env.step(np.zeros(1))
    np.testing.assert_array_equal(env.recorded[0].images[0], first)
    assert env.recorded[0].images[1] is None


def test_a_replay_gives_the_same_again_and_no_more() -> None:
    env = Recorder(CountingEnv(lengths=(9,)), [End(2)])
    run(env, 3)
    replay = Replay(env.recorded[0], env)
    for _ in range(2):
        assert replay.reset()[0][0, 0].tolist() == [0, 0, 0]
        assert replay.step(ACTION)[3] is False
        frame, _, terminated, truncated, _ = replay.step(ACTION)
        assert (frame[0, 0, 0], terminated, truncated) == (2, False, False)
    with pytest.raises(LatentwrapError, match="has 2 steps"):
        replay.step(ACTION)


@given(length=st.integers(0, 20), skip=st.integers(1, 6))
def test_frames_of_an_agent_that_repeats_actions(length: int, skip: int) -> None:
    env = Recorder(CountingEnv(lengths=(99,)))
    env.reset()
    for _ in range(length):
        env.step(ACTION)
    expected = [0, *(t for t in range(1, length + 1) if t % skip == 0 or t == length)]
    assert env.recorded[0].frames_at(skip) == expected


@given(seed=st.integers(0, 2**31), num=st.integers(1, 4), steps=st.integers(1, 50))
def test_a_plan_is_drawn_from_its_seed(seed: int, num: int, steps: int) -> None:
    plan = Plan.draw(seed, num_envs=num, steps=steps)
    assert plan == Plan.draw(seed, num_envs=num, steps=steps)
    assert plan.num_envs == num
    every = [end for ends in plan.ends for end in ends]
    assert all(end.after >= 1 and (end.terminated or end.truncated) for end in every)
