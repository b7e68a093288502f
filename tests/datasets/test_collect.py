"""collect: every frame, action, reward and flag in its place, and nothing lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from latentwrap_test_data import assert_same_episode, names_in
from latentwrap_test_envs import SEED, SIZE, CountingEnv, counting

from latentwrap.datasets import Dataset, Episode, RandomPolicy, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import (
    ConfigError,
    DatasetError,
    EnvironmentFailed,
    EnvironmentMismatch,
    OutputExists,
)
from latentwrap.files import remove

LENGTHS = (5, 3, 8, 1)


def run(path: Path, spec: str | EnvSpec, steps: int, **kwargs: Any) -> Any:
    return collect(
        spec, path, steps=steps, **{"height": SIZE, "width": SIZE, "seed": SEED, **kwargs}
    )


def check_episode(episode: Episode, *, skip: int, whole: bool, end: str) -> tuple[int, int]:
    """Prove one episode from its frames alone; gives its environment and number."""
    steps, numbers, seeds = (episode.frames[:, 0, 0, channel] for channel in range(3))
    assert (episode.frames == episode.frames[:, :1, :1]).all()
    env, number = int(seeds[0]) - SEED, int(numbers[0])
    assert (numbers == number).all()
    assert (seeds == seeds[0]).all()
    length = LENGTHS[number % len(LENGTHS)]
    transitions = len(episode.actions)
    # Frames are every skip-th step from 0; the last one is the terminal one.
    expected = np.minimum(np.arange(transitions + 1) * skip, length)
    np.testing.assert_array_equal(steps, expected)
    np.testing.assert_allclose(episode.rewards, np.diff(expected) * episode.actions[:, 0], 1e-5)
    np.testing.assert_array_equal(episode.states["state"][:, 0], expected)
    np.testing.assert_array_equal(episode.states["state"][:, 1], numbers)
    kind = ("terminated", "truncated")[number % 2] if end == "turns" else end
    if whole:
        assert expected[-1] == length
        assert episode.terminated == (kind in ("terminated", "both"))
        assert episode.truncated == (kind in ("truncated", "both"))
    elif expected[-1] < length:
        assert (episode.terminated, episode.truncated) == (False, True)
    return env, number


@pytest.mark.parametrize(
    ("num_envs", "skip", "end"),
    [
        (1, 1, "turns"),
        (1, 3, "terminated"),
        (1, 1, "both"),
        (1, 2, "truncated"),
        (3, 1, "turns"),
        (3, 3, "truncated"),
    ],
)
def test_every_row_is_in_its_place(path: Path, num_envs: int, skip: int, end: str) -> None:
    spec = counting(lengths=LENGTHS, end=end)
    result = run(path, spec, 61, num_envs=num_envs, frame_skip=skip)
    data = Dataset(path)
    assert data.num_transitions == result.transitions == 61
    assert data.num_episodes == result.episodes
    assert data.num_frames == result.frames
    assert not result.interrupted
    found: dict[int, list[int]] = {env: [] for env in range(num_envs)}
    whole = data.num_episodes - num_envs
    for number in range(data.num_episodes):
        env, episode = check_episode(data.episode(number), skip=skip, whole=number < whole, end=end)
        found[env].append(episode)
    # No episode of any environment is missing or repeated.
    for numbers in found.values():
        assert sorted(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    assert data.info.frame_skip == skip
    assert len(np.unique(data.actions, axis=0)) > 50


@pytest.mark.parametrize("steps", range(1, 19))
def test_the_file_holds_exactly_the_steps_asked_for(path: Path, steps: int) -> None:
    run(path, counting(lengths=LENGTHS), steps)
    data = Dataset(path)
    assert data.num_transitions == steps
    assert data.truncations.sum() == data.num_episodes
    for number in range(data.num_episodes):
        check_episode(data.episode(number), skip=1, whole=False, end="truncated")


@pytest.mark.parametrize("num_envs", [1, 2])
def test_frames_are_the_environments_own(path: Path, num_envs: int) -> None:
    """Replaying the stored actions in gym.make's environment gives the stored episodes."""
    collect(PIXEL_PENDULUM, path, steps=num_envs * 250, num_envs=num_envs, seed=11)
    data = Dataset(path)
    assert data.info.env_id == PIXEL_PENDULUM
    seen = {}
    for start in range(num_envs):
        env = gym.make(PIXEL_PENDULUM)
        frame, info = env.reset(seed=11 + start)
        for number in _episodes_from(data, frame):
            replay(env, frame, info, data.episode(number))
            seen[number] = True
            frame, info = env.reset()
    assert len(seen) == data.num_episodes == num_envs * 2


def _episodes_from(data: Dataset, first: Any) -> list[int]:
    """Numbers of the episodes of the environment whose first frame this is."""
    firsts = [data.frames(slice(s, s + 1))[0] for s in data.starts]
    match = [number for number, frame in enumerate(firsts) if np.array_equal(frame, first)]
    assert len(match) == 1
    # Environments of equal episode lengths take turns.
    return list(range(match[0], data.num_episodes, data.num_episodes // 2))


def replay(env: gym.Env, frame: Any, info: dict[str, Any], episode: Episode) -> None:
    frames, states, rewards = [frame], [info["state"]], []
    for action in episode.actions:
        frame, reward, _, truncated, info = env.step(action)
        frames.append(frame)
        states.append(info["state"])
        rewards.append(reward)
    np.testing.assert_array_equal(episode.frames, np.stack(frames))
    np.testing.assert_allclose(episode.states["state"], np.stack(states), atol=1e-6)
    np.testing.assert_allclose(episode.rewards, rewards, rtol=1e-5, atol=1e-6)
    assert episode.truncated
    assert truncated == (len(episode.actions) == 200)


def test_a_picture_that_is_only_in_render(path: Path) -> None:
    run(path, counting("RenderedEnv", lengths=LENGTHS), 30)
    data = Dataset(path)
    for number in range(data.num_episodes):
        # Making the environment took one reset to see the size of the picture.
        episode = data.episode(number)
        steps = episode.frames[:, 0, 0, 0]
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
        np.testing.assert_array_equal(episode.states["state"][:, 0], steps)


def test_frames_are_resized(path: Path) -> None:
    collect(counting(), path, steps=3, height=4, width=6)
    info = Dataset(path).info
    assert info.frame.shape == (4, 6, 3)
    assert (info.frame.source_height, info.frame.source_width) == (SIZE, SIZE)


def test_the_same_seed_gives_the_same_experience(path: Path, tmp_path: Path) -> None:
    prints = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        file = tmp_path / f"{name}.h5"
        collect(PIXEL_PENDULUM, file, steps=40, seed=seed, policy="noise", height=16, width=16)
        prints.append(Dataset(file).fingerprint())
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiBinary(3),
        spaces.Box(-1, 1, (2, 2), np.float64),
        spaces.Box(-np.inf, np.inf, (1,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("policy", ["random", "noise"])
def test_every_action_space(path: Path, space: spaces.Space, policy: str) -> None:
    run(path, counting(space=space), 20, policy=policy)
    data = Dataset(path)
    for number in range(data.num_episodes):
        episode = data.episode(number)
        np.testing.assert_allclose(episode.rewards, episode.actions[:, 0], rtol=1e-6)


def test_a_dict_of_states_becomes_columns(path: Path) -> None:
    for num_envs in (1, 2):
        run(path, counting(state="dict"), 20, num_envs=num_envs, force=True)
        data = Dataset(path)
        assert sorted(data.states) == ["step", "where"]
        steps = data.frames(slice(0, data.num_frames))[:, 0, 0, 0]
        np.testing.assert_array_equal(data.states["step"][:, 0], steps)
        np.testing.assert_array_equal(data.states["where"][:, 0], steps)


def test_without_a_state_there_is_no_column(path: Path) -> None:
    run(path, counting(state="none"), 20)
    assert Dataset(path).states == {}


def test_a_rendered_environment_shows_its_truth_in_what_it_observes(path: Path) -> None:
    for num_envs in (1, 2):
        spec = counting("ObservingEnv", lengths=LENGTHS, state="none")
        run(path, spec, 40, num_envs=num_envs, force=True)
        data = Dataset(path)
        assert sorted(data.states) == ["mode", "where.step"]
        steps = data.frames(slice(0, data.num_frames))[:, 0, 0, 0]
        np.testing.assert_array_equal(data.states["where.step"][:, 0], steps)
        np.testing.assert_array_equal(data.states["mode"], np.eye(3)[steps % 3])


def test_the_state_that_an_environment_gives_wins(path: Path) -> None:
    run(path, counting("ObservingEnv", state="array"), 20)
    assert list(Dataset(path).states) == ["state"]


def test_a_box_that_is_observed_beside_the_picture_is_the_state(path: Path) -> None:
    run(path, "CartPole-v1", 20, num_envs=1)
    data = Dataset(path)
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=SEED)
    for t, action in enumerate(data.episode(0).actions):
        np.testing.assert_allclose(data.states["observation"][t], observation, rtol=1e-5)
        observation = env.step(int(action[0]))[0]


def test_a_state_that_is_missing_at_times_is_refused(path: Path) -> None:
    with pytest.raises(DatasetError, match=r"info\['state'\] must always hold the same names"):
        run(path, counting(state="late"), 20)
    assert names_in(path.parent) == []


def test_arguments_and_module_ids(path: Path) -> None:
    name = "latentwrap_test_envs:latentwrap-test/Counting-v0"
    run(path, name, 12, env_kwargs={"lengths": (2,)})
    data = Dataset(path)
    assert data.info.env_id == name
    assert data.lengths.tolist() == [3] * 6
    assert '"lengths": [2]' in str(data.info.env_spec)


def test_what_is_recorded_about_the_making(path: Path) -> None:
    run(path, counting(), 12, policy="noise")
    info = Dataset(path).info
    made = {name: info.provenance[name] for name in ("policy", "seed")}
    assert made == {"policy": "noise", "seed": SEED}
    assert {"latentwrap", "created"} <= info.provenance.keys()
    rebuilt = EnvSpec.from_json(info.env_spec or "").make()
    assert isinstance(rebuilt.unwrapped, CountingEnv)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_specification_that_cannot_be_written_is_stored_as_its_id(
    path: Path, num_envs: int
) -> None:
    run(path, EnvSpec("Local-v0", entry_point=CountingEnv), 12, num_envs=num_envs)
    info = Dataset(path).info
    assert (info.env_id, info.env_spec) == ("Local-v0", None)


def test_a_policy_of_ones_own(path: Path) -> None:
    """It sees the frames that its actions follow, and where an episode began."""
    seen = []

    class Mine:
        def __init__(self, space: spaces.Space, seed: int) -> None:
            self.buffer = np.zeros((1, 2), np.float32)

        def __call__(self, frames: Any, started: Any) -> Any:
            seen.append((frames[0, 0, 0, 0], started[0]))
            self.buffer[:] = frames[0, 0, 0, 0] / 100
            return self.buffer

    run(path, counting(lengths=LENGTHS), 17, policy=Mine)
    data = Dataset(path)
    assert data.info.provenance["policy"] == "Mine"
    assert [started for _, started in seen] == [step == 0 for step, _ in seen]
    for number in range(data.num_episodes):
        episode = data.episode(number)
        shown = episode.frames[:-1, 0, 0, 0]
        np.testing.assert_allclose(episode.actions[:, 0], shown / 100, rtol=1e-6)


def test_return_mean_counts_whole_episodes(path: Path) -> None:
    result = run(path, counting(lengths=LENGTHS), 19)
    data = Dataset(path)
    returns = data.returns()
    assert returns is not None
    assert data.num_episodes == 5
    assert result.return_mean == pytest.approx(float(returns[:4].mean()), rel=1e-5)
    assert np.isnan(run(path, counting(), 2, force=True).return_mean)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"steps": 0}, ConfigError, "steps of at least 1, got 0"),
        ({"num_envs": 0}, ConfigError, "num_envs of at least 1"),
        ({"frame_skip": 0}, ConfigError, "frame_skip of at least 1"),
        ({"policy": "randon"}, ConfigError, "did you mean 'random'"),
        ({"spec": "Nowhere-v0"}, EnvironmentMismatch, "knows no environment 'Nowhere-v0'"),
        ({"spec": "no_such_module:A-v0"}, EnvironmentMismatch, "no_such_module"),
        ({"spec": counting("BlindEnv")}, EnvironmentMismatch, "gives no image"),
        ({"env_kwargs": {"mass": 3}}, EnvironmentMismatch, "cannot be made.*mass"),
        (
            {"spec": counting(space=spaces.Tuple([spaces.Discrete(2)]))},
            EnvironmentMismatch,
            "Actions must be",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        run(path, **{"spec": counting(), "steps": 10, **changes})
    assert names_in(path.parent) == []


def test_an_existing_file_is_refused_and_untouched(path: Path) -> None:
    path.write_bytes(b"mine")
    with pytest.raises(OutputExists, match="--force"):
        run(path, counting(), 10)
    with pytest.raises(EnvironmentFailed, match="simulator"):
        run(path, counting(fail_at=12), 20, force=True)
    assert path.read_bytes() == b"mine"
    run(path, counting(), 10, force=True)
    assert Dataset(path).num_transitions == 10


@pytest.mark.filterwarnings("ignore:.*ERROR")  # how Gymnasium reports a worker's traceback
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    ("failure", "error", "sentence"),
    [
        ("raise", EnvironmentFailed, "raised RuntimeError: the simulator broke .* are kept"),
        ("nan", DatasetError, "reward nan at step"),
    ],
)
def test_an_error_keeps_the_episodes_for_resume(
    path: Path,
    num_envs: int,
    failure: str,
    error: type[Exception],
    sentence: str,
    capfd: pytest.CaptureFixture,
) -> None:
    broken = counting(fail_at=14, failure=failure)
    with pytest.raises(error, match=sentence):
        run(path, broken, 60, num_envs=num_envs)
    assert names_in(path.parent) == ["data.h5.partial"]
    result = run(path, broken, 20, num_envs=num_envs, resume=True)
    data = Dataset(path)
    assert data.num_transitions == result.transitions == 20
    assert data.lengths[:2].tolist() == ([6, 4] if num_envs == 1 else [6, 6])
    assert names_in(path.parent) == ["data.h5"]


@pytest.mark.filterwarnings("ignore:.*ERROR")
@pytest.mark.parametrize("num_envs", [1, 2])
def test_an_error_before_the_first_episode_is_a_sentence_too(path: Path, num_envs: int) -> None:
    with pytest.raises(EnvironmentFailed, match="raised RuntimeError: the simulator broke: mend"):
        run(path, counting(fail_at=2), 60, num_envs=num_envs)
    with pytest.raises(EnvironmentFailed, match="raised KeyError: 'nothing there': mend or wrap"):
        run(path, counting("UnmakeableEnv"), 60, num_envs=num_envs, force=True)


def test_a_resumed_run_does_not_repeat_itself(path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="broke"):
        run(path, counting(fail_at=14), 60)
    run(path, counting(fail_at=14), 20, resume=True)
    data = Dataset(path)
    transitions = np.concatenate([data.episode(n).actions for n in range(data.num_episodes)])
    assert len(np.unique(transitions, axis=0)) == 20
    seeds = data.frames(slice(0, data.num_frames))[data.starts, 0, 0, 2]
    assert (seeds[:2] == SEED).all()  # the kept episodes: 5 and 3 transitions
    assert (seeds[2:] != SEED).all()


def test_a_resume_with_nothing_left_to_do_finishes(path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="broke"):
        run(path, counting(fail_at=14), 60)
    assert run(path, counting(fail_at=14), 8, resume=True).transitions == 8


def interrupting(after: int, signals: Callable[[], None]) -> type[RandomPolicy]:
    class Interrupting(RandomPolicy):
        calls = 0

        def __call__(self, frames: Any, started: Any) -> Any:
            self.calls += 1
            if self.calls == after:
                signals()
            return super().__call__(frames, started)

    return Interrupting


def test_ctrl_c_keeps_what_there_is(path: Path) -> None:
    policy = interrupting(9, lambda: signal.raise_signal(signal.SIGINT))
    result = run(path, counting(lengths=LENGTHS), 1000, policy=policy)
    assert result.interrupted
    data = Dataset(path)
    assert 0 < data.num_transitions == result.transitions < 1000
    for number in range(data.num_episodes):
        check_episode(data.episode(number), skip=1, whole=False, end="truncated")
    assert names_in(path.parent) == ["data.h5"]


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_parts(path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(path, counting(), 1000, policy=interrupting(9, twice))
    assert names_in(path.parent) == ["data.h5.partial"]


SCRIPT = """
import os, signal, sys
from latentwrap_test_data import names_in
from latentwrap_test_envs import counting
from latentwrap.datasets import RandomPolicy, collect

class Stopping(RandomPolicy):
    calls = 0
    def __call__(self, frames, started):
        self.calls += 1
        if self.calls == 30:
            {stop}
        return super().__call__(frames, started)

if __name__ == "__main__":
    result = collect(counting(), sys.argv[1], steps=200, num_envs={num_envs}, policy=Stopping)
    print(result.interrupted, result.transitions)
"""


def run_script(path: Path, stop: str, num_envs: int) -> subprocess.CompletedProcess:
    """In a session of its own, so that a signal to all its processes spares the tests."""
    script = path.parent.parent / f"{path.parent.name}.py"  # spawn needs a file to import
    script.write_text(SCRIPT.format(stop=stop, num_envs=num_envs), encoding="utf-8")
    command = [sys.executable, str(script), str(path)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, start_new_session=True
    )


def test_ctrl_c_reaches_the_workers_of_a_terminal_and_does_no_harm(path: Path) -> None:
    result = run_script(path, "os.killpg(0, signal.SIGINT)", num_envs=2)
    assert result.returncode == 0, result.stderr
    transitions = Dataset(path).num_transitions
    assert result.stdout.split() == ["True", str(transitions)]
    assert 40 < transitions <= 60
    assert names_in(path.parent) == ["data.h5"]


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("whom", ["os.kill(os.getpid()", "os.killpg(0"])
def test_sigterm_keeps_what_there_is(path: Path, num_envs: int, whom: str) -> None:
    """A scheduler sends it to the process alone, or to those of the environments as well."""
    result = run_script(path, f"{whom}, signal.SIGTERM)", num_envs=num_envs)
    assert result.returncode == 0, result.stderr
    data = Dataset(path)
    assert result.stdout.split() == ["True", str(data.num_transitions)]
    # 29 calls before it, a few of them resets; all but perhaps the step in progress is kept.
    assert 24 * num_envs - 2 <= data.num_transitions <= 30 * num_envs
    for number in range(data.num_episodes):
        steps = data.episode(number).frames[:, 0, 0, 0]
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
    assert names_in(path.parent) == ["data.h5"]
    stopping = type("Stopping", (RandomPolicy,), {})
    again = collect(counting(), path, steps=100, resume=True, policy=stopping)
    assert (again.transitions, again.interrupted) == (100, False)


def test_a_killed_run_loses_only_the_episode_in_progress(path: Path) -> None:
    result = run_script(path, "os.kill(os.getpid(), signal.SIGKILL)", num_envs=1)
    assert result.returncode == -signal.SIGKILL
    assert names_in(path.parent) == ["data.h5.partial"]
    with pytest.raises(OutputExists, match="--resume"):
        collect(counting(), path, steps=200)
    with pytest.raises(DatasetError, match="begun with policy Stopping, now it is random"):
        collect(counting(), path, steps=100, resume=True)
    stopping = type("Stopping", (RandomPolicy,), {})
    collect(counting(), path, steps=100, resume=True, policy=stopping)
    data = Dataset(path)
    assert data.num_transitions == 100
    # 29 calls: episodes of 5, 3, 8, 5 and 3 steps, a reset after each, none of the last 8.
    assert data.lengths[:5].tolist() == [6, 4, 9, 6, 4]
    assert names_in(path.parent) == ["data.h5"]


def test_a_finished_file_is_continued(path: Path) -> None:
    collect(counting(), path, steps=40)
    before = Dataset(path)
    kept = [before.episode(number) for number in range(before.num_episodes)]
    with pytest.raises(DatasetError, match="begun with seed 0, now it is 5"):
        collect(counting(), path, steps=70, seed=5, resume=True)
    result = collect(counting(), path, steps=70, resume=True)
    assert result.transitions == 70
    data = Dataset(path)
    for number, episode in enumerate(kept):
        assert_same_episode(data.episode(number), episode)
    assert data.num_transitions == 70
    assert names_in(path.parent) == ["data.h5"]


def test_a_worker_that_dies_is_an_error_and_the_parts_stay(path: Path) -> None:
    spec = counting(fail_at=14, failure="die")
    with pytest.raises(DatasetError, match="process of an environment ended"):
        run(path, spec, 100, num_envs=2)
    assert names_in(path.parent) == ["data.h5.partial"]
    remove(path.with_name("data.h5.partial"))
