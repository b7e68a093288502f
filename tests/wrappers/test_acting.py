"""A policy on latents sees those of its own episode, whatever the other environments do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from latentwrap_test_envs import SIZE, counting
from tests.conftest import make_tiny_model

from latentwrap.datasets import Dataset, collect
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import Explorer
from latentwrap.errors import CheckpointError, EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.vectors import VectorSpec
from latentwrap.wrappers import LatentFilter
from latentwrap.wrappers.acting import CollectedHistory, ObservingPolicy, latent_observer

SPACE = spaces.Box(-1, 1, (2,), np.float32)
FRAME = FrameSpec(height=SIZE, width=SIZE, source_height=SIZE, source_width=SIZE)
VECTORS = VectorSpec(names=("joints",), sizes=(2,))
CAMERAS = FrameSpec(
    height=SIZE,
    width=2 * SIZE,
    cameras=(
        Camera(name="front", source_height=SIZE, source_width=SIZE),
        Camera(name="robot.wrist", source_height=2 * SIZE, source_width=SIZE),
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.h5"


def act(latents: np.ndarray) -> np.ndarray:
    """Actions that say which latents they were chosen for; the last one counts vectors too."""
    return np.tanh(latents[:, [0, -1]])


def weigh(observed: np.ndarray) -> np.ndarray:
    """Actions in which every number counts, each by another weight."""
    weights = np.cos(np.arange(observed.shape[1]))[:, None] * [1, -2]
    return np.tanh(observed @ weights / 10).astype(np.float32)


class Telling:
    """Collects with `act`, by latents or by a history of some frames."""

    name = "telling"
    options: dict[str, Any] = {}

    def __init__(
        self, model: LatentModel, epsilon: float = 0.0, history: int | None = None
    ) -> None:
        self.model, self.epsilon, self.history = model, epsilon, history

    def fit(self, info: DatasetInfo) -> Callable[[int], ObservingPolicy]:
        explorer = Explorer(info.action.space, self.epsilon, 1)
        if self.history is not None:
            length = self.history
            return lambda seed: ObservingPolicy(
                lambda _: CollectedHistory(self.model, info, length), weigh, explorer
            )
        observer = partial(latent_observer, self.model, info)
        return lambda seed: ObservingPolicy(observer, act, explorer)


def expected(model: LatentModel, data: Dataset, number: int) -> np.ndarray:
    """What `act` says to an episode that is filtered alone."""
    episode, rows = data.episode(number), []
    latents = LatentFilter(model)
    for t, frame in enumerate(episode.frames[:-1]):
        vectors = None if not data.vectors else episode.vectors["joints"][t]
        z = (
            latents.reset(frame, vectors=vectors)
            if t == 0
            else latents.step(episode.actions[t - 1], frame, vectors=vectors)
        )
        if vectors is not None:
            z = np.concatenate([z, model.vector_normalizer.normalize(vectors[None])[0]])
        rows.append(z)
    return act(np.stack(rows))


def expected_of_history(model: LatentModel, data: Dataset, number: int, length: int) -> np.ndarray:
    """Likewise of the latest features and actions, by hand."""
    episode, spec = data.episode(number), model.action_spec
    joints = episode.vectors["joints"]
    with torch.no_grad():
        seen = model.see(torch.from_numpy(episode.frames), model.prepare_vectors(joints)).numpy()
    scaled, rows = model.vector_normalizer.normalize(joints), []
    actions = [np.zeros(2, np.float32)] * (length - 1) + list(spec.encode(episode.actions))
    for t in range(len(episode.actions)):
        features = [seen[max(0, t - back)] for back in reversed(range(length))]
        rows.append(np.concatenate([scaled[t], *features, *actions[t : t + length - 1]]))
    return weigh(np.stack(rows))


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("length", [1, 4])
def test_actions_follow_from_the_history_of_their_episode(
    path: Path, num_envs: int, length: int
) -> None:
    model = make_tiny_model(action_space=SPACE, frame=CAMERAS, vectors=VECTORS, sees_vectors=True)
    collect(
        counting("CamerasEnv", lengths=(5, 3, 8, 1)), path, steps=50, num_envs=num_envs,
        height=SIZE, width=SIZE, image_keys=["front", "robot.wrist"], vector_keys=["joints"],
        policy=Telling(model, history=length),
    )  # fmt: skip
    data = Dataset(path)
    for number in range(data.num_episodes):
        found = data.episode(number).actions
        by_hand = expected_of_history(model, data, number, length)
        np.testing.assert_allclose(found, by_hand, atol=2e-4)


def test_a_history_has_the_vectors_of_the_model_in_its_order() -> None:
    """A dataset may keep more of them, in another order."""
    names, sizes = ("joints", "grip"), (2, 1)
    model = make_tiny_model(
        action_space=SPACE, frame=FRAME, vectors=VectorSpec(names=names, sizes=sizes)
    )
    kept = VectorSpec(names=("grip", "force", "joints"), sizes=(1, 3, 2))
    observer = CollectedHistory(model, describe(vectors=kept), length=2)
    frames = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    shown = {"frame": frames, "vectors": np.float32([[1, 20, 21, 22, 30, 31]])}
    found = observer.step(None, shown, first=np.array([True]))
    assert observer.space.shape == found[0].shape
    scaled = model.vector_normalizer.normalize(np.float32([[30, 31, 1]]))
    np.testing.assert_array_equal(found[:, :3], scaled)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_actions_follow_from_the_latents_of_their_episode(path: Path, num_envs: int) -> None:
    model = make_tiny_model(action_space=SPACE, frame=FRAME)
    policy = Telling(model)
    spec = counting(lengths=(5, 3, 8, 1))
    collect(spec, path, steps=50, num_envs=num_envs, height=SIZE, width=SIZE, policy=policy)
    data = Dataset(path)
    assert data.info.provenance["policy"] == "telling"
    for number in range(data.num_episodes):
        found = data.episode(number).actions
        np.testing.assert_allclose(found, expected(model, data, number), atol=2e-4)


def test_vectors_are_seen_beside_the_frames(path: Path) -> None:
    model = make_tiny_model(action_space=SPACE, frame=CAMERAS, vectors=VECTORS, sees_vectors=True)
    collect(
        counting("CamerasEnv"), path, steps=40, num_envs=2, height=SIZE, width=SIZE,
        image_keys=["front", "robot.wrist"], vector_keys=["joints"], policy=Telling(model),
    )  # fmt: skip
    data = Dataset(path)
    for number in range(data.num_episodes):
        found = data.episode(number).actions
        np.testing.assert_allclose(found, expected(model, data, number), atol=2e-4)


def test_the_filter_takes_the_actions_that_were_really_done(path: Path) -> None:
    model = make_tiny_model(action_space=SPACE, frame=FRAME)
    collect(counting(), path, steps=300, height=SIZE, width=SIZE, policy=Telling(model, 0.5))
    data = Dataset(path)
    kept = []
    for number in range(data.num_episodes):
        near = np.isclose(data.episode(number).actions, expected(model, data, number), atol=2e-4)
        kept.extend(near.all(axis=1).tolist())
    assert 0.35 < np.mean(kept) < 0.65


def describe(**changes: Any) -> DatasetInfo:
    from latentwrap.actions import ActionSpec

    values = {"env_id": "Test-v0", "frame": FRAME, "action": ActionSpec(SPACE), **changes}
    return DatasetInfo(**values)


@pytest.mark.parametrize(
    ("model", "changes", "sentence"),
    [
        ({}, {"frame": FRAME.replace(height=9)}, r"\(8, 8, 3\).*\(9, 8, 3\): pass --size 8x8"),
        ({"frame": CAMERAS}, {}, "--image-key front --image-key robot.wrist"),
        ({"frame_skip": 2}, {}, "frame skip 2, the dataset would have 1: pass --frame-skip 2"),
        ({}, {"frame": FRAME.replace(rendering="fast")}, "full rendering.*pass --rendering full"),
        ({"vectors": VECTORS}, {}, "knows the vector 'joints'.*pass --vector-key joints"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    model: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    made = make_tiny_model(**{"action_space": SPACE, "frame": FRAME, **model})
    with pytest.raises(CheckpointError, match=sentence):
        latent_observer(made, describe(**changes), num=1)
    with pytest.raises(CheckpointError, match=sentence):
        CollectedHistory(made, describe(**changes), length=3)


def test_another_action_space_is_refused() -> None:
    made = make_tiny_model(action_space=spaces.Discrete(3), frame=FRAME)
    with pytest.raises(EnvironmentMismatch, match="action space"):
        latent_observer(made, describe(), num=1)
