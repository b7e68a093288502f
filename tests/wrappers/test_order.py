"""Which side of LatentObservation another wrapper belongs on, and what it does on each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import (
    ClipAction,
    FrameStackObservation,
    RecordEpisodeStatistics,
    RecordVideo,
    RescaleAction,
    TimeLimit,
    TransformAction,
)
from gymnasium.wrappers import vector as vector_wrappers
from latentwrap_test_noise import BOX, SIDE, NoiseEnv
from tests.conftest import make_tiny_model

from latentwrap import FrameSkip, LatentFilter, LatentObservation, VectorLatentObservation
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.pixels import FrameSpec
from latentwrap.testing import End, Recorder

Wrap = Callable[[gym.Env], gym.Env]
FRAME = FrameSpec(height=SIDE, width=SIDE)
MODEL = make_tiny_model(frame=FRAME)
UNBOUNDED = make_tiny_model(frame=FRAME, action_space=spaces.Box(-np.inf, np.inf, (1,)))


def rollout(env: gym.Env, actions: Sequence[Any], seed: int = 0) -> np.ndarray:
    observations = [env.reset(seed=seed)[0]]
    for action in actions:
        observation, _, terminated, truncated, _ = env.step(np.float32([action]))
        observations.append(observation)
        if terminated or truncated:
            break
    return np.stack(observations)


def latents_of(recorder: Recorder, model: LatentModel = MODEL) -> np.ndarray:
    """What the filter makes of the frames that were given and the actions that were received."""
    episode, latents = recorder.recorded[-1], LatentFilter(model)
    series = [latents.reset(episode.observations[0])]
    for action, frame in zip(episode.actions, episode.observations[1:], strict=True):
        series.append(latents.step(action, frame))
    return np.stack(series)


def halve(env: gym.Env) -> gym.Env:
    return TransformAction(env, lambda action: action / 2, env.action_space)


@pytest.mark.parametrize(
    ("outside", "actions", "received"),
    [
        (lambda env: RescaleAction(env, -1, 1), [1.0, -0.5], [2.0, -1.0]),
        (ClipAction, [5.0, -0.5], [2.0, -0.5]),
        (halve, [2.0, -1.0], [1.0, -0.5]),
    ],
    ids=["RescaleAction", "ClipAction", "TransformAction"],
)
def test_action_wrappers_outside_change_what_the_filter_sees_too(
    outside: Wrap, actions: list[float], received: list[float]
) -> None:
    recorder = Recorder(NoiseEnv())
    found = rollout(outside(LatentObservation(recorder, MODEL)), actions)
    assert [float(action[0]) for action in recorder.recorded[-1].actions] == received
    np.testing.assert_array_equal(found, latents_of(recorder))


@pytest.mark.parametrize(
    ("inside", "model"),
    [
        (
            lambda env: RescaleAction(env, -1, 1),
            make_tiny_model(frame=FRAME, action_space=spaces.Box(-1, 1, (1,))),
        ),
        (ClipAction, UNBOUNDED),
        (halve, MODEL),
    ],
    ids=["RescaleAction", "ClipAction", "TransformAction"],
)
def test_action_wrappers_inside_are_part_of_the_environment_that_was_pretrained_on(
    inside: Wrap, model: LatentModel
) -> None:
    # The filter sees what is passed on to the wrapped environment, in the units of its data.
    recorder = Recorder(inside(NoiseEnv()))
    found = rollout(LatentObservation(recorder, model), [1.0, -0.75])
    assert [float(action[0]) for action in recorder.recorded[-1].actions] == [1.0, -0.75]
    np.testing.assert_array_equal(found, latents_of(recorder, model))


@pytest.mark.parametrize("inside", [lambda env: RescaleAction(env, -1, 1), ClipAction])
def test_action_wrappers_inside_that_the_data_did_not_have_are_refused(inside: Wrap) -> None:
    with pytest.raises(EnvironmentMismatch, match="wrap the environment so that its actions"):
        LatentObservation(inside(NoiseEnv()), MODEL)


def test_frame_stacks_outside_hold_latents() -> None:
    recorder = Recorder(NoiseEnv())
    found = rollout(FrameStackObservation(LatentObservation(recorder, MODEL), 3), [1, 2, -1])
    latents = latents_of(recorder)
    assert found.shape == (4, 3, MODEL.latent_size)
    np.testing.assert_array_equal(found[:, -1], latents)
    np.testing.assert_array_equal(found[3], latents[1:])


@pytest.mark.parametrize("padding", ["reset", "zero"])
def test_of_frame_stacks_inside_the_newest_is_seen(padding: str) -> None:
    recorder = Recorder(NoiseEnv())
    stacked = FrameStackObservation(recorder, 4, padding_type=padding)
    found = rollout(LatentObservation(stacked, MODEL), [1, 2, -1])
    np.testing.assert_array_equal(found, latents_of(recorder))


def test_frame_stacks_outside_begin_anew_with_each_episode() -> None:
    env = FrameStackObservation(LatentObservation(NoiseEnv(), MODEL), 3)
    first = rollout(env, [1.0])
    rollout(env, [2.0, 2.0], seed=1)
    np.testing.assert_array_equal(rollout(env, [1.0]), first)


@pytest.mark.parametrize(
    ("wrap", "count"),
    [(lambda env: TimeLimit(env, 3), 4), (RecordEpisodeStatistics, 5)],
    ids=["TimeLimit", "RecordEpisodeStatistics"],
)
def test_on_both_sides_the_latents_are_the_same(wrap: Wrap, count: int) -> None:
    actions = [1.0, 0.5, -1.0, 2.0]
    inside, outside = Recorder(NoiseEnv(), [End(4)]), Recorder(NoiseEnv(), [End(4)])
    one = rollout(LatentObservation(wrap(inside), MODEL), actions)
    other = rollout(wrap(LatentObservation(outside, MODEL)), actions)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, latents_of(inside))
    assert len(one) == count  # the last observation is a latent


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_statistics_are_those_of_the_environment(order: str) -> None:
    class Rewarded(NoiseEnv):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float(action[0]), *rest

    env: gym.Env = TimeLimit(Rewarded(), 2)
    env = RecordEpisodeStatistics(env) if order == "inside" else env
    env = LatentObservation(env, MODEL)
    env = RecordEpisodeStatistics(env) if order == "outside" else env
    env.reset(seed=0)
    env.step(np.float32([0.5]))
    info = env.step(np.float32([1.0]))[4]
    assert (info["episode"]["r"], info["episode"]["l"]) == (1.5, 2)


def test_inside_with_repeated_actions_all_steps_are_counted() -> None:
    model = make_tiny_model(frame=FRAME, frame_skip=4)
    inside = LatentObservation(TimeLimit(NoiseEnv(), 6), model)
    outside = TimeLimit(LatentObservation(NoiseEnv(), model), 6)
    assert len(rollout(inside, [0.0] * 9)) == 1 + 2  # 4 + 2 steps of the environment
    assert len(rollout(outside, [0.0] * 9)) == 1 + 6


def test_a_frame_skip_outside_hides_frames_from_the_agent_but_not_from_the_filter() -> None:
    recorder = Recorder(NoiseEnv())
    found = rollout(FrameSkip(LatentObservation(recorder, MODEL), 3), [1.0, -0.5])
    np.testing.assert_array_equal(found, latents_of(recorder)[::3])


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[list[np.ndarray]]:
    """The films that RecordVideo hands to moviepy, which need not be installed."""
    films: list[list[np.ndarray]] = []

    class ImageSequenceClip:
        def __init__(self, frames: list[np.ndarray], fps: int) -> None:
            films.append(list(frames))

        def write_videofile(self, path: str, logger: Any) -> None:
            Path(path).write_bytes(b"film")

    names = ["moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[names[-1]].ImageSequenceClip = ImageSequenceClip
    return films


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_videos_show_pixels(
    order: str, clips: list[list[np.ndarray]], tmp_path: Path, pendulum: gym.Env
) -> None:
    def film(env: gym.Env) -> gym.Env:
        return RecordVideo(env, str(tmp_path / "films"), fps=30)

    model = make_tiny_model()
    env = (
        LatentObservation(film(pendulum), model)
        if order == "inside"
        else film(LatentObservation(pendulum, model))
    )
    found = rollout(env, [1.0, -1.0])
    env.close()
    assert found.shape == (3, model.latent_size)
    assert [frame.shape for frame in clips[0]] == [(64, 64, 3)] * 3


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_statistics_go_around_vector_latents(mode: AutoresetMode) -> None:
    ends = [End(2)]
    envs = SyncVectorEnv([lambda: Recorder(NoiseEnv(), ends)] * 2, autoreset_mode=mode)
    counted = vector_wrappers.RecordEpisodeStatistics(VectorLatentObservation(envs, MODEL))
    latents, _ = counted.reset(seed=0)
    counted.step(np.zeros((2, 1), np.float32))
    latents, *_, infos = counted.step(np.zeros((2, 1), np.float32))
    assert infos["episode"]["l"].tolist() == [2, 2]
    last = infos["final_obs"][1] if mode is AutoresetMode.SAME_STEP else latents[1]
    expected = LatentFilter(MODEL)
    episode = envs.envs[1].recorded[0]
    expected.reset(episode.observations[0])
    for action, frame in zip(episode.actions, episode.observations[1:], strict=True):
        final = expected.step(action, frame)
    np.testing.assert_allclose(last, final, atol=1e-5)


def test_actions_of_a_vector_are_rescaled_outside() -> None:
    envs = SyncVectorEnv([lambda: Recorder(NoiseEnv(BOX))] * 2)
    env = vector_wrappers.RescaleAction(VectorLatentObservation(envs, MODEL), -1, 1)
    env.reset(seed=0)
    latents = env.step(np.float32([[1.0], [-0.5]]))[0]
    assert [float(inner.recorded[0].actions[0][0]) for inner in envs.envs] == [2.0, -1.0]
    np.testing.assert_allclose(latents[1], latents_of(envs.envs[1])[1], atol=1e-5)
