"""Environments that observe frames: found, wrapped, or refused."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from tests.conftest import make_tiny_model
from tests.joint.worlds import BOX, DISCRETE, FRAME, SIDE, VECTORS, Diary, framed, make_model

from latentwrap import FrameSkip, LatentObservation, RenderFrame, VectorLatentObservation
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import DEFAULT_SIZE, FrameSpec
from latentwrap.vectors import VectorSpec
from latentwrap.wrappers.frame_envs import observe_frames


def many(*makers: Any, mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> SyncVectorEnv:
    return SyncVectorEnv(list(makers), autoreset_mode=mode)


def test_a_single_environment_is_wrapped() -> None:
    found = observe_frames(gym.make(PIXEL_PENDULUM), None)
    assert isinstance(found.env, RenderFrame)
    assert found.frame.shape == (DEFAULT_SIZE, DEFAULT_SIZE, 3)
    assert (found.num, found.frame_skip, found.vectors) == (1, 1, VectorSpec())
    assert found.action_space == found.env.action_space


def test_one_that_is_wrapped_stays_as_it_is() -> None:
    env = FrameSkip(framed(Diary(vectors=True), vectors=True), 3)
    found = observe_frames(env, None)
    assert found.env is env
    assert found.frame.shape == FRAME.shape
    assert found.vectors == VECTORS
    assert found.frame_skip == 3


def test_it_is_wrapped_as_the_model_was_trained() -> None:
    model = make_tiny_model(frame_skip=4)
    found = observe_frames(gym.make(PIXEL_PENDULUM), model)
    assert found.frame.shape == model.frame_spec.shape
    assert found.frame_skip == 4
    inside = observe_frames(FrameSkip(gym.make(PIXEL_PENDULUM), 4), model)
    assert inside.frame_skip == 4
    seeing = make_model(sees=True)
    found = observe_frames(Diary(vectors=True), seeing)
    assert found.vectors == VECTORS


def test_a_vector_is_taken_as_it_is() -> None:
    env = many(*[lambda: framed(Diary())] * 3)
    found = observe_frames(env, make_model())
    assert found.env is env
    assert found.num == 3
    assert found.action_space == BOX
    assert found.vectors == VectorSpec()


def test_rows_are_copies_of_batches_and_lists() -> None:
    plain = observe_frames(framed(Diary()), None)
    frames = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    for given in (frames, list(frames)):
        rows = plain.rows(given)
        np.testing.assert_array_equal(rows["frame"], frames)
        assert rows["vectors"].shape == (2, 0)
        assert not np.shares_memory(rows, frames)
    both = observe_frames(framed(Diary(vectors=True), vectors=True), None)
    vectors = np.float32([[1, 2, 3], [4, 5, 6]])
    batch = {"frame": frames, "vectors": vectors}
    listed = [{"frame": f, "vectors": v} for f, v in zip(frames, vectors, strict=True)]
    for given in (batch, listed):
        rows = both.rows(given)
        np.testing.assert_array_equal(rows["frame"], frames)
        np.testing.assert_array_equal(rows["vectors"], vectors)
        assert not np.shares_memory(rows, vectors)
    assert rows.dtype == both.dtype


LATENTS = "observes the latents of a model already"
MODEL = make_model()


@pytest.mark.parametrize("model", [None, MODEL])
def test_latents_are_refused(model: Any) -> None:
    with pytest.raises(EnvironmentMismatch, match=LATENTS):
        observe_frames(LatentObservation(Diary(), MODEL), model)
    with pytest.raises(EnvironmentMismatch, match=LATENTS):
        observe_frames(many(lambda: LatentObservation(Diary(), MODEL)), model)


def test_a_vector_of_latents_is_refused() -> None:
    env = VectorLatentObservation(many(lambda: framed(Diary())), MODEL)
    with pytest.raises(EnvironmentMismatch):
        observe_frames(env, None)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_without_render_frame_is_refused(mode: AutoresetMode) -> None:
    with pytest.raises(EnvironmentMismatch, match=r"RenderFrame where it runs.*wrappers="):
        observe_frames(many(Diary, mode=mode), None)


def test_an_environment_without_pixels_is_refused() -> None:
    with pytest.raises(EnvironmentMismatch, match="gives no image"):
        observe_frames(gym.make("CartPole-v1"), None)


def test_other_frames_than_the_models_are_refused() -> None:
    large = RenderFrame(Diary(), height=32, width=32)
    with pytest.raises(EnvironmentMismatch, match=r"shape \(16, 16, 3\), .*\(32, 32, 3\)"):
        observe_frames(large, MODEL)
    with pytest.raises(EnvironmentMismatch, match=r"shape \(16, 16, 3\), .*\(32, 32, 3\)"):
        observe_frames(many(lambda: RenderFrame(Diary(), height=32, width=32)), MODEL)


def test_other_vectors_actions_and_skips_are_refused() -> None:
    seeing = make_model(sees=True)
    blind = RenderFrame(Diary(vectors=True), height=SIDE, width=SIDE)
    with pytest.raises(EnvironmentMismatch, match=r"the vectors joints \(2\), grip \(1\), .* none"):
        observe_frames(blind, seeing)
    other = RenderFrame(
        Diary(vectors=True), height=SIDE, width=SIDE, vector_keys=("grip", "joints")
    )
    with pytest.raises(EnvironmentMismatch, match=r"gives grip \(1\), joints \(2\)"):
        observe_frames(other, seeing)
    with pytest.raises(EnvironmentMismatch, match="expects the action space Box"):
        observe_frames(framed(Diary(actions=DISCRETE)), MODEL)
    with pytest.raises(EnvironmentMismatch, match="so often: 1, the environment gives 2"):
        observe_frames(FrameSkip(framed(Diary()), 2), MODEL)


def test_frames_of_other_images_are_refused() -> None:
    """Both are squares in the end; one of them would show a distorted world."""
    wide = spaces.Box(0, 255, (SIDE, 2 * SIDE, 3), np.uint8)
    env = Diary()
    env.observation_space = wide
    square = make_tiny_model(action_space=BOX, frame=FrameSpec(
        height=SIDE, width=SIDE, source_height=2 * SIDE, source_width=2 * SIDE))  # fmt: skip
    with pytest.raises(
        EnvironmentMismatch, match="aspect ratio 32:32, the environment gives 32:16"
    ):
        observe_frames(framed(env), square)


def test_frames_of_another_rendering_are_refused() -> None:
    fast = FrameSpec(height=SIDE, width=SIDE, rendering="fast")
    env = framed(Diary())
    env.frame_spec = fast
    with pytest.raises(EnvironmentMismatch, match="expects frames of full rendering"):
        observe_frames(env, MODEL)


class Longer(Diary):
    """Its joints have one number more."""

    def __init__(self) -> None:
        super().__init__(vectors=True)
        assert isinstance(self.observation_space, spaces.Dict)
        joints = spaces.Box(-np.inf, np.inf, (3,))
        self.observation_space = spaces.Dict({**self.observation_space.spaces, "joints": joints})


def test_vectors_of_another_size_are_refused() -> None:
    with pytest.raises(EnvironmentMismatch):
        observe_frames(framed(Longer(), vectors=True), make_model(sees=True))


def test_the_name_of_a_single_camera_does_not_matter() -> None:
    env = RenderFrame(Diary(vectors=True), height=SIDE, width=SIDE)
    assert env.frame_spec.names == ("image",) != MODEL.frame_spec.names
    LatentObservation(RenderFrame(Diary(vectors=True), height=SIDE, width=SIDE), MODEL)
    assert observe_frames(env, MODEL).frame.shape == FRAME.shape
