"""Images and vectors are found in observations of every kind."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from latentwrap_test_envs import CountingEnv

from latentwrap import RenderFrame
from latentwrap.envs.observing import ObservationReader
from latentwrap.errors import EnvironmentMismatch

IMAGE = spaces.Box(0, 255, (8, 9, 3), np.uint8)
ROBOT = spaces.Dict(
    front=IMAGE,
    hand=spaces.Box(0, 255, (3, 8, 8), np.uint8),
    joints=spaces.Box(-2, 2, (2, 2)),
    gripper=spaces.Discrete(3),
    inner=spaces.Dict(force=spaces.Box(-np.inf, np.inf, (1,))),
)


def observed(value: float = 0.5) -> dict[str, Any]:
    return {
        "front": np.full((8, 9, 3), 10, np.uint8),
        "hand": np.full((3, 8, 8), 20, np.uint8),
        "joints": np.array([[value, 1], [2, -2]], np.float32),
        "gripper": 2,
        "inner": {"force": np.array([7], np.float32)},
    }


def test_images_and_vectors_of_a_dict() -> None:
    reader = ObservationReader(
        ROBOT, image_keys=["hand", "front"], vector_keys=["inner.force", "joints", "gripper"]
    )
    images = reader.images(observed())
    assert images is not None
    assert [image.shape for image in images] == [(8, 8, 3), (8, 9, 3)] == list(reader.shapes)
    assert (images[0] == 20).all()
    assert reader.cameras == ("hand", "front")
    vectors = reader.vectors(observed())
    assert vectors.tolist() == [7, 0.5, 1, 2, -2, 0, 0, 1]  # the gripper is one-hot
    assert reader.vector_spec.names == ("inner.force", "joints", "gripper")
    assert reader.vector_spec.sizes == (1, 4, 3)
    low, high = reader.bounds()
    assert low.tolist() == [-np.inf, -2, -2, -2, -2, 0, 0, 0]
    assert high.tolist() == [np.inf, 2, 2, 2, 2, 1, 1, 1]


def test_the_only_image_of_a_dict_needs_no_key() -> None:
    reader = ObservationReader(spaces.Dict(camera=IMAGE, joints=spaces.Box(-1, 1, (2,))))
    assert reader.cameras == ("camera",)
    with pytest.raises(EnvironmentMismatch, match=r"the images front, hand: name one or several"):
        ObservationReader(ROBOT)


def test_a_key_may_hold_dots() -> None:
    space = spaces.Dict({"observation.images.top": IMAGE})
    reader = ObservationReader(space, image_keys=["observation.images.top"])
    assert reader.images({"observation.images.top": np.zeros((8, 9, 3), np.uint8)}) is not None


@pytest.mark.parametrize("dropped", [None, np.full((8, 9, 3), np.nan)])
def test_a_dropped_image_is_none(dropped: Any) -> None:
    reader = ObservationReader(ROBOT, image_keys=["hand", "front"])
    assert reader.images({**observed(), "front": dropped}) is None
    assert reader.images(None) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_keys": ["back"]}, r"no 'back', but front, hand, joints, gripper, inner\.force"),
        ({"image_keys": ["joints"], "layout": "HWC"}, r"HWC does not fit an image of shape"),
        ({"image_keys": ["gripper"]}, r"is no image whose layout"),
        ({"image_keys": ["front"], "vector_keys": ["elbow"]}, r"no 'elbow'"),
        ({"image_keys": ["front"], "vector_keys": ["hand"]}, r"'hand' is an image"),
        ({"image_keys": ["front", "front"]}, r"list of different names"),
        ({"image_keys": "front"}, r"list of different names"),
    ],
)
def test_wrong_keys_are_refused_in_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObservationReader(ROBOT, **arguments)


def test_keys_require_a_dict() -> None:
    with pytest.raises(EnvironmentMismatch, match="image_keys require a Dict"):
        ObservationReader(IMAGE, image_keys=["front"])
    with pytest.raises(EnvironmentMismatch, match="AddRenderObservation"):
        ObservationReader(IMAGE, vector_keys=["joints"])


def test_floats_are_an_image_once_their_layout_is_named() -> None:
    space = spaces.Box(0, 1, (3, 8, 8), np.float32)
    assert ObservationReader(space).shapes == ()
    assert ObservationReader(space, layout="CHW").shapes == ((8, 8, 3),)


def test_of_stacked_frames_the_newest_is_seen() -> None:
    env = RenderFrame(FrameStackObservation(CountingEnv(lengths=(5,)), 3), height=8, width=8)
    env.reset(seed=0)
    for step in range(1, 5):
        frame = env.step(np.zeros(2, np.float32))[0]
        assert frame[0, 0, 0] == step


class Robot(gym.Env[Any, Any]):
    """Two cameras that show step number and action, and joints."""

    def __init__(self) -> None:
        self.observation_space = ROBOT
        self.action_space = spaces.Box(0, 100, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return observed(0.0), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        given = observed(self.steps)
        given["front"][:] = self.steps
        given["hand"][:] = int(action[0])
        return given, 0.0, False, False, {}


def test_render_frame_lays_cameras_side_by_side_and_joins_vectors() -> None:
    env = RenderFrame(
        Robot(), height=8, width=8, image_keys=["hand", "front"], vector_keys=["joints", "gripper"]
    )
    assert env.frame_spec.shape == (8, 16, 3)
    assert [panel.source_width for panel in env.frame_spec.panels] == [8, 9]
    env.reset()
    observation, *_ = env.step(np.array([77], np.float32))
    assert env.observation_space.contains(observation)
    assert np.unique(observation["frame"][:, :8]).tolist() == [77]
    assert np.unique(observation["frame"][:, 8:]).tolist() == [1]
    assert observation["vectors"].tolist() == [1, 1, 2, -2, 0, 0, 1]
