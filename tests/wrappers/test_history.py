"""HistoryObservation: the latest features and actions, by hand."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from tests.conftest import TINY, make_tiny_model
from tests.joint.worlds import BOX, DISCRETE, FRAME, Diary, framed, make_model, random_actions

from latentwrap import FrameSkip, LatentObservation, RenderFrame, VectorLatentObservation
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, EnvironmentMismatch, LatentwrapError
from latentwrap.models import LatentModel, save_model
from latentwrap.wrappers.history import HistoryObservation


class ByHand:
    """A deque of features and one of actions."""

    def __init__(self, model: LatentModel, length: int) -> None:
        self.model, self.length = model, length

    def reset(self, frame: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        seen, size = self.see(frame, vectors), self.model.action_spec.size
        self.features = deque([seen] * self.length, maxlen=self.length)
        nothing = [np.zeros(size, np.float32)] * (self.length - 1)
        self.actions = deque(nothing, maxlen=self.length - 1)
        return self.joined(vectors)

    def step(self, action: Any, frame: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        spec = self.model.action_spec
        self.actions.append(spec.encode(spec.flatten(action)[None])[0])
        self.features.append(self.see(frame, vectors))
        return self.joined(vectors)

    def joined(self, vectors: np.ndarray) -> np.ndarray:
        scale = self.model.vector_normalizer
        first = [] if scale is None else [scale.normalize(vectors)]
        return np.concatenate([*first, *self.features, *self.actions])

    @torch.no_grad()
    def see(self, frame: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        seen = self.model.prepare_vectors(vectors[None])
        return self.model.see(torch.from_numpy(frame)[None], seen)[0].numpy()


@pytest.mark.parametrize("vectors", ["none", "beside", "seen"])
@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_it_is_what_deques_hold(length: int, actions: spaces.Space, vectors: str) -> None:
    has = vectors != "none"
    model = make_model(actions=actions, vectors=has, sees=vectors == "seen")
    diary = Diary(actions=actions, vectors=has)
    env = HistoryObservation(framed(diary, vectors=has), model, length=length)
    by_hand, rng = ByHand(model, length), np.random.default_rng(0)
    for _ in range(3):
        observation, _ = env.reset(seed=0)
        now = diary.diary[-1]
        expected = by_hand.reset(now.frames[-1], now.vectors[-1])
        while True:
            assert env.observation_space.contains(observation)
            np.testing.assert_allclose(observation, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(env.frame, now.frames[-1])
            if now.ended:
                break
            action = random_actions(actions, 1, rng)[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            expected = by_hand.step(action, now.frames[-1], now.vectors[-1])
            assert reward == now.rewards[-1]
            assert (terminated, truncated) == (now.terminated, now.ended and not now.terminated)


@pytest.mark.parametrize("kind", TINY)
def test_before_the_first_frame_stands_that_frame_and_no_action(kind: str) -> None:
    model, diary = make_model(kind), Diary()
    env = HistoryObservation(framed(diary), model, length=4)
    observation, _ = env.reset()
    features = observation[: 4 * model.seen_size].reshape(4, -1)
    assert (features == features[0]).all()
    assert (observation[4 * model.seen_size :] == 0).all()
    assert len(observation) == 4 * model.seen_size + 3 * model.action_spec.size
    action = np.float32([2, 0])
    observation, *_ = env.step(action)
    assert observation[4 * model.seen_size :].tolist() == [0, 0, 0, 0, 1, -1]


def test_it_is_an_environment_like_others(pendulum: gym.Env, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, make_tiny_model(), training={})
    env = HistoryObservation(pendulum, path, length=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is a wrapper
        check_env(env, skip_render_check=True)
    # That of the same seed is the same, and `render` still gives pixels.
    runs = []
    for _ in range(2):
        env.action_space.seed(0)
        seen = [env.reset(seed=3)[0]]
        seen += [env.step(env.action_space.sample())[0] for _ in range(4)]
        runs.append(np.stack(seen))
    np.testing.assert_array_equal(*runs)
    assert env.render().dtype == np.uint8


def test_it_reconstructs_what_its_belief_expects() -> None:
    model = make_model()
    env = HistoryObservation(framed(Diary()), model, length=3)
    env.reset()
    features = torch.from_numpy(env.step(np.float32([1, 1]))[0])[None, : 3 * model.seen_size]
    with torch.no_grad():
        seen = features.view(3, 1, -1)
        belief = model.believe_first(seen[1])
        encoded = model.action_spec.encode(np.float32([[1, 1]]))
        belief = model.believe_next(belief, torch.from_numpy(encoded), seen[2])
        expected = model.decode(belief)[0].numpy()
    found = env.reconstruct().astype(int)
    assert found.shape == FRAME.shape
    assert np.abs(found - expected).max() <= 1
    assert env.frame_skip == 1


def test_a_single_environment_is_rendered_and_skipped_as_the_model_learned() -> None:
    model = make_tiny_model(frame_skip=2)
    env = HistoryObservation(gym.make(PIXEL_PENDULUM), model, length=2)
    assert env.get_wrapper_attr("frame_spec").shape == model.frame_spec.shape
    assert env.get_wrapper_attr("latentwrap_frame_skip") == 2
    env.reset(seed=0)
    inner, count = env.unwrapped, []
    step = inner.step
    inner.step = lambda action: (count.append(1), step(action))[1]
    env.step(env.action_space.sample())
    assert len(count) == 2
    done = FrameSkip(gym.make(PIXEL_PENDULUM), 2)
    assert HistoryObservation(done, model).get_wrapper_attr("latentwrap_frame_skip") == 2
    with pytest.raises(EnvironmentMismatch, match="repeated so often: 2, the environment gives 3"):
        HistoryObservation(FrameSkip(gym.make(PIXEL_PENDULUM), 3), model)


def test_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = make_tiny_model()
    save_model(path, model, training={})
    ours = HistoryObservation(gym.make(PIXEL_PENDULUM), path)
    theirs = HistoryObservation(gym.make(PIXEL_PENDULUM), model)
    np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    assert ours.model_fingerprint is not None
    assert theirs.model_fingerprint is None
    with pytest.raises(CheckpointError):
        HistoryObservation(gym.make(PIXEL_PENDULUM), tmp_path / "none.safetensors")


def test_the_spec_rebuilds_it(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, make_tiny_model(), training={})
    env = HistoryObservation(gym.make(PIXEL_PENDULUM), path, length=3)
    again = gym.make(env.spec)
    while not isinstance(again, HistoryObservation):
        again = again.env
    assert again.observation_space == env.observation_space
    np.testing.assert_array_equal(again.reset(seed=1)[0], env.reset(seed=1)[0])


def test_with_a_loaded_model_there_is_no_spec() -> None:
    assert HistoryObservation(gym.make(PIXEL_PENDULUM), make_tiny_model()).spec is None


def test_it_is_copied_and_pickled_with_its_history() -> None:
    env = HistoryObservation(framed(Diary(lengths=(9,))), make_model(), length=3)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    env.step(random_actions(BOX, 1, rng)[0])
    action = random_actions(BOX, 1, rng)[0]
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]  # noqa: S301 - our own
    expected = env.step(action)[0]
    for twin in twins:
        np.testing.assert_array_equal(twin.step(action)[0], expected)


@pytest.mark.parametrize(
    ("env", "match"),
    [
        (RenderFrame(Diary(), height=32, width=16), r"frames of shape \(16, 16, 3\), .*\(32, 16"),
        (framed(Diary(actions=DISCRETE)), "expects the action space Box"),
        (framed(Diary(actions=spaces.Box(-1, 1, (2,)))), "expects the action space Box"),
    ],
)
def test_another_environment_is_refused(env: gym.Env, match: str) -> None:
    with pytest.raises(EnvironmentMismatch, match=match) as error:
        HistoryObservation(env, make_model())
    assert "\n" not in str(error.value)


def test_latents_are_refused() -> None:
    model = make_model()
    with pytest.raises(EnvironmentMismatch, match="filtered twice"):
        HistoryObservation(LatentObservation(Diary(), model), model)
    with pytest.raises(EnvironmentMismatch, match="filtered twice"):
        HistoryObservation(HistoryObservation(Diary(), model), model)


def test_an_action_that_is_none_is_refused() -> None:
    env = HistoryObservation(framed(Diary(lengths=(9,))), make_model())
    env.reset()
    env.unwrapped.action_space = spaces.Box(-9, 9, (3,))
    with pytest.raises(EnvironmentMismatch, match="has 2 finite values"):
        env.step(np.zeros(3, np.float32))


@pytest.mark.parametrize("length", [0, -1])
def test_a_history_of_nothing_is_refused(length: int) -> None:
    with pytest.raises(LatentwrapError):
        HistoryObservation(framed(Diary()), make_model(), length=length).reset()


def test_a_vector_is_refused_with_a_sentence() -> None:
    many = SyncVectorEnv([lambda: framed(Diary())])
    with pytest.raises(EnvironmentMismatch):
        HistoryObservation(many, make_model())


def test_latents_of_one_frame_are_those_of_the_vector_wrapper() -> None:
    """Features are what the filter sees: a belief from them is the vector wrapper's."""
    model = make_model()
    assert model.frame_spec == FRAME
    alone = HistoryObservation(framed(Diary()), model, length=1)
    many = VectorLatentObservation(SyncVectorEnv([lambda: framed(Diary())]), model)
    features = torch.from_numpy(alone.reset()[0])[None]
    with torch.no_grad():
        latent = model.latent(model.believe_first(features)).numpy()
    assert model.normalizer is not None
    np.testing.assert_allclose(many.reset()[0], model.normalizer.normalize(latent), atol=1e-5)
