"""Observations and actions of every kind become one flat latent."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from tests.conftest import make_tiny_model
from torch.distributions import Normal, kl_divergence

from latentwrap import (
    FrameSkip,
    LatentFilter,
    LatentObservation,
    RenderFrame,
    VectorLatentObservation,
)
from latentwrap.errors import EnvironmentMismatch, LatentwrapError
from latentwrap.models import LatentModel
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.vectors import VectorSpec

BOX = spaces.Box(-1, 1, (1,))
SIDE = 16
FRAME = FrameSpec(height=SIDE, width=SIDE)


class Noise(gym.Env[Any, Any]):
    """Draws observations of any space; the same from one seed."""

    def __init__(self, space: spaces.Space, actions: spaces.Space = BOX, drop: int = 0) -> None:
        self.observation_space, self.action_space = copy.deepcopy(space), actions
        self.drop = drop

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        drawn = self.observation_space.sample()
        if self.steps == self.drop:
            drawn = None
        return drawn, 0.0, self.steps == 9, False, {}


def image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def play(env: gym.Env, steps: int = 5, seed: int = 0) -> np.ndarray:
    latents = [env.reset(seed=seed)[0]]
    env.action_space.seed(seed)
    latents += [env.step(env.action_space.sample())[0] for _ in range(steps)]
    return np.stack(latents)


LAID_OUT = {
    "HWC": lambda x: x,
    "CHW": lambda x: x.transpose(2, 0, 1),
    "THWC": lambda x: np.stack([x // 2, x // 3, x]),
    "TCHW": lambda x: np.stack([x // 2, x]).transpose(0, 3, 1, 2),
    "HW(TC)": lambda x: np.concatenate([x // 2, x], axis=2),
    "(TC)HW": lambda x: np.concatenate([x // 2, x], axis=2).transpose(2, 0, 1),
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_every_layout_gives_the_same_latents(layout: str) -> None:
    model, change = make_tiny_model(frame=FRAME, action_space=BOX), LAID_OUT[layout]
    plain = Noise(image(20, 20, 3))
    shape = change(np.zeros((20, 20, 3), np.uint8)).shape
    changed = gym.wrappers.TransformObservation(plain, change, image(*shape))
    expected = play(LatentObservation(plain, model))
    np.testing.assert_array_equal(play(LatentObservation(changed, model, layout=layout)), expected)


def test_stacked_grey_frames_are_seen_one_by_one() -> None:
    grey = FrameSpec(height=SIDE, width=SIDE, channels=1)
    model = make_tiny_model(frame=grey, action_space=BOX)
    expected = play(LatentObservation(Noise(image(20, 20)), model))
    stacked = FrameStackObservation(Noise(image(20, 20)), 4)
    np.testing.assert_array_equal(play(LatentObservation(stacked, model)), expected)


CAMERAS = FrameSpec(
    height=SIDE,
    width=2 * SIDE,
    cameras=(
        Camera(name="hand", source_height=20, source_width=20),
        Camera(name="front", source_height=10, source_width=20),
    ),
)
ROBOT = spaces.Dict(
    front=image(10, 20, 3),
    hand=image(20, 20, 3),
    joints=spaces.Box(-np.inf, np.inf, (3,)),
    gripper=spaces.Box(0, 4, (1,)),
)


def model_of_robot() -> LatentModel:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX)
    model.vector_spec = VectorSpec(names=("joints",), sizes=(3,))
    statistics = np.float32([[1, 2, 3], [0.5, 1, 2]])
    model.vector_normalizer = LatentNormalizer(*statistics)
    return model


def test_cameras_and_vectors_of_the_pretraining_data_are_taken_by_default() -> None:
    model = model_of_robot()
    env = LatentObservation(Noise(ROBOT), model)
    size = model.latent_size
    assert env.observation_space == spaces.Box(-10, 10, (size + 3,), np.float32)
    latents = play(env)
    filter_, plain = LatentFilter(model), Noise(ROBOT)
    observation, _ = plain.reset(seed=0)
    plain.action_space.seed(0)
    expected = [filter_.reset((observation["hand"], observation["front"]))]
    vectors = [observation["joints"]]
    for _ in range(5):
        action = plain.action_space.sample()
        observation, *_ = plain.step(action)
        expected.append(filter_.step(action, observation))  # by the cameras' names
        vectors.append(observation["joints"])
    np.testing.assert_array_equal(latents[:, :size], expected)
    standardised = (np.array(vectors) - [1, 2, 3]) / [0.5, 1, 2]
    np.testing.assert_allclose(latents[:, size:], standardised.clip(-10, 10), rtol=1e-5)


def test_a_vector_that_the_data_lacks_is_scaled_by_its_bounds() -> None:
    env = LatentObservation(Noise(ROBOT), model_of_robot(), vector_keys=["gripper"])
    vectors = play(env)[:, env.model.latent_size :]
    plain = Noise(ROBOT)
    gripper = plain.reset(seed=0)[0]["gripper"]
    np.testing.assert_allclose(vectors[0], gripper / 2 - 1, rtol=1e-5)


def test_raw_vectors_beside_raw_latents() -> None:
    env = LatentObservation(Noise(ROBOT), model_of_robot(), normalize=False)
    plain = Noise(ROBOT)
    joints = plain.reset(seed=0)[0]["joints"]
    np.testing.assert_array_equal(env.reset(seed=0)[0][env.model.latent_size :], joints)


def test_neither_statistics_nor_bounds_is_refused() -> None:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX)
    with pytest.raises(EnvironmentMismatch, match="collect with --vector-key joints"):
        LatentObservation(Noise(ROBOT), model, vector_keys=["joints"])


def test_other_cameras_are_refused() -> None:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX)
    with pytest.raises(LatentwrapError, match="expects the images of hand, front, got 1"):
        LatentObservation(Noise(image(20, 20, 3)), model)
    with pytest.raises(
        EnvironmentMismatch, match="cameras hand, front from left to right, got front, hand"
    ):
        LatentObservation(Noise(ROBOT), model, image_keys=["front", "hand"])


@pytest.mark.parametrize("framed", [False, True])
def test_vector_environments_of_dicts(framed: bool) -> None:
    model = model_of_robot()

    def make() -> gym.Env:
        env = Noise(ROBOT)
        if not framed:
            return env
        keys = {"image_keys": ["hand", "front"], "vector_keys": ["joints"]}
        return RenderFrame(env, height=SIDE, width=SIDE, **keys)

    envs = VectorLatentObservation(gym.vector.SyncVectorEnv([make] * 2), model)
    latents, _ = envs.reset(seed=0)
    actions = np.zeros((2, 1), np.float32)
    steps = [latents, *(envs.step(actions)[0] for _ in range(3))]
    for stream in range(2):
        env = LatentObservation(Noise(ROBOT), model)
        expected = [env.reset(seed=stream)[0]] + [env.step(actions[0])[0] for _ in range(3)]
        np.testing.assert_allclose(np.stack(steps)[:, stream], expected, atol=1e-4)


ACTIONS = [
    spaces.Box(-2, 2, (2, 2)),
    spaces.Box(-np.inf, np.inf, (3,)),
    spaces.Box(np.float32([0, -np.inf]), np.float32([1, np.inf])),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary(4),
    spaces.MultiBinary((2, 2)),
]


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_actions_of_every_kind_reach_the_filter(space: spaces.Space) -> None:
    model = make_tiny_model(frame=FRAME, action_space=space)
    env = LatentObservation(Noise(image(20, 20, 3), space), model)
    latents = play(env)
    envs = VectorLatentObservation(
        gym.vector.SyncVectorEnv([lambda: Noise(image(20, 20, 3), space)] * 2), model
    )
    begun, _ = envs.reset(seed=0)
    space.seed(0)
    found = [begun[0]]
    for _ in range(5):
        action = space.sample()
        both = gym.vector.utils.concatenate(
            space, [action, action], gym.vector.utils.create_empty_array(space, 2)
        )
        found.append(envs.step(both)[0][0])
    np.testing.assert_allclose(found, latents, atol=1e-4)


def test_a_dropped_frame_is_bridged_by_the_prior() -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX)
    env = LatentObservation(Noise(image(SIDE, SIDE, 3), drop=3), model)
    latents = play(env)
    filter_, plain = LatentFilter(model), Noise(image(SIDE, SIDE, 3), drop=3)
    observation, _ = plain.reset(seed=0)
    plain.action_space.seed(0)
    filter_.reset(observation)
    for step in range(1, 6):
        action = plain.action_space.sample()
        observation, *_ = plain.step(action)
        if step == 3:
            expected = filter_.imagine([action])[0]
            # The belief goes on from there: what comes later is not what a repeated frame gives.
            frames = np.full((SIDE, SIDE, 3), np.nan)
            np.testing.assert_array_equal(filter_.step(action, frames), expected)
        else:
            expected = filter_.step(action, observation)
        np.testing.assert_array_equal(latents[step], expected)


def test_streams_drop_frames_one_by_one() -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 2, SIDE, SIDE, 3), np.uint8)
    actions = rng.uniform(-1, 1, (2, 2, 1)).astype(np.float32)
    both = LatentFilter(model, num=2)
    both.reset(frames[0])
    both.step(actions[0], [None, frames[1, 1]])
    found = both.step(actions[1], frames[2])
    for stream in range(2):
        alone = LatentFilter(model)
        alone.reset(frames[0, stream])
        alone.step(actions[0, stream], None if stream == 0 else frames[1, stream])
        expected = alone.step(actions[1, stream], frames[2, stream])
        np.testing.assert_allclose(found[stream], expected, atol=1e-4)


def test_an_episode_cannot_begin_without_a_frame() -> None:
    filter_ = LatentFilter(make_tiny_model(frame=FRAME, action_space=BOX), num=2)
    with pytest.raises(LatentwrapError, match="a belief begins with one"):
        filter_.reset([None, np.zeros((SIDE, SIDE, 3), np.uint8)])


def test_diagnostics_of_a_step() -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX)
    env = LatentObservation(Noise(image(SIDE, SIDE, 3), drop=2), model, diagnostics=True)
    env.reset(seed=0)
    before = env.filter.belief
    _, _, _, _, info = env.step(np.zeros(1, np.float32))
    found = info["latentwrap"]
    decoded = env.filter.reconstruct()[0].astype(float)
    assert found["reconstruction_error"] == pytest.approx(
        np.square((decoded - env.frame) / 255).mean(), rel=1e-4
    )
    q, p = posterior_and_prior(model, before, env.frame)
    assert found["kl"] == pytest.approx(float(kl_divergence(q, p).sum()), rel=1e-4)
    np.testing.assert_allclose(found["belief_std"], q.stddev[0], rtol=1e-4)
    _, _, _, _, info = env.step(np.zeros(1, np.float32))  # a dropped frame told nothing
    assert all(np.isnan(value).all() for value in info["latentwrap"].values())
    assert info["latentwrap"]["belief_std"].shape == found["belief_std"].shape


def posterior_and_prior(model: Any, belief: Any, frame: np.ndarray) -> tuple[Normal, Normal]:
    """q(s|h, x) and p(s|h) of an rssm after a zero action, by its parts."""
    with torch.no_grad():
        h = model.memory(model.embed(torch.cat([belief.s, torch.zeros(1, 1)], 1)), belief.h)
        q = model.posterior(h, model.encode(torch.from_numpy(frame[None])))
        p = model.prior(h)
    return Normal(*q), Normal(*p)


def test_a_model_that_sees_vectors_is_given_them() -> None:
    spec = VectorSpec(names=("joints", "gripper"), sizes=(3, 1))
    model = make_tiny_model(frame=CAMERAS, action_space=BOX, vectors=spec, sees_vectors=True)
    env = LatentObservation(Noise(ROBOT), model, normalize=False)
    latent, _ = env.reset(seed=0)
    observation, _ = Noise(ROBOT).reset(seed=0)
    raw = np.concatenate([observation["joints"], observation["gripper"]])
    assert model.vector_normalizer is not None
    vectors = torch.from_numpy(model.vector_normalizer.normalize(raw[None]))
    with torch.no_grad():
        belief = model.initial(torch.from_numpy(env.frame[None]), vectors=vectors)
        np.testing.assert_allclose(latent[:-4], model.latent(belief)[0], atol=1e-5)
    np.testing.assert_array_equal(latent[-4:], raw)
    with pytest.raises(EnvironmentMismatch, match="sees the vectors joints, gripper, got"):
        LatentObservation(Noise(ROBOT), model, vector_keys=["joints"])
    with pytest.raises(LatentwrapError, match="sees the vectors joints, gripper and requires"):
        LatentFilter(model).reset((np.zeros((20, 20, 3)), np.zeros((10, 20, 3))))


@pytest.mark.parametrize("inside", [(), (4,), (2,), (2, 2)])
def test_frame_skip_inside_is_not_repeated(inside: tuple[int, ...]) -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX, frame_skip=4)
    env: gym.Env = Noise(image(SIDE, SIDE, 3))
    for skip in inside:
        env = FrameSkip(env, skip)
    env = LatentObservation(env, model)
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))
    assert env.unwrapped.steps == 4


def test_a_frame_skip_inside_that_does_not_divide_the_datas_is_refused() -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX, frame_skip=4)
    with pytest.raises(EnvironmentMismatch, match="FrameSkip inside takes it 3 times"):
        LatentObservation(FrameSkip(Noise(image(SIDE, SIDE, 3)), 3), model)
    with pytest.raises(EnvironmentMismatch, match="at least 1, got 0"):
        FrameSkip(Noise(image(SIDE, SIDE, 3)), 0)


BOTH = VectorSpec(names=("joints", "gripper"), sizes=(3, 1))


@pytest.mark.parametrize("keys", [None, ["gripper", "joints"], ["gripper"], ["joints"], []])
@pytest.mark.parametrize("framed", [["joints", "gripper"], ["gripper", "joints"]])
def test_vectors_are_known_by_name_inside_render_frame_too(
    keys: list[str] | None, framed: list[str]
) -> None:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX, vectors=BOTH)
    expected = play(LatentObservation(Noise(ROBOT), model, vector_keys=keys))

    def make() -> gym.Env:
        cameras = ["hand", "front"]
        return RenderFrame(
            Noise(ROBOT), height=SIDE, width=SIDE, image_keys=cameras, vector_keys=framed
        )

    single = LatentObservation(make(), model, vector_keys=keys)
    np.testing.assert_array_equal(play(single), expected)
    assert len(single.vector_names) == (2 if keys is None else len(keys))
    envs = VectorLatentObservation(gym.vector.SyncVectorEnv([make]), model, vector_keys=keys)
    np.testing.assert_allclose(envs.reset(seed=0)[0][0], expected[0], atol=1e-4)


def test_vectors_out_of_order_never_reach_a_model_that_sees_them() -> None:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX, vectors=BOTH, sees_vectors=True)
    keys = {"image_keys": ["hand", "front"], "vector_keys": ["gripper", "joints"]}
    framed = RenderFrame(Noise(ROBOT), height=SIDE, width=SIDE, **keys)
    expected = play(LatentObservation(Noise(ROBOT), model))
    np.testing.assert_array_equal(play(LatentObservation(framed, model)), expected)
    with pytest.raises(EnvironmentMismatch, match="name those, in this order"):
        LatentObservation(framed, model, vector_keys=["gripper", "joints"])


def test_cameras_out_of_order_are_refused_inside_render_frame_too() -> None:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX)
    framed = RenderFrame(Noise(ROBOT), height=SIDE, width=SIDE, image_keys=["front", "hand"])
    with pytest.raises(EnvironmentMismatch, match="from left to right, got front, hand"):
        LatentObservation(framed, model)


def test_a_vector_that_is_missing_keeps_its_last_value() -> None:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX, vectors=BOTH, sees_vectors=True)
    env = LatentObservation(Holes(ROBOT), model, normalize=False)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(np.zeros(1, np.float32))
    assert second[-4] != first[-4]
    assert second[-3] == first[-3]  # NaN there
    third, *_ = env.step(np.zeros(1, np.float32))  # no joints at all
    np.testing.assert_array_equal(third[-4:-1], second[-4:-1])
    assert np.isfinite(third).all()
    with pytest.raises(EnvironmentMismatch, match="first observation of an episode requires"):
        env.reset(seed=1)


class Holes(Noise):
    """Its joints are partly NaN at step 1, missing at step 2, and NaN where it is seeded by 1."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed)
        if seed == 1:
            observation["joints"][0] = np.nan
        return observation, info

    def step(self, action: Any) -> Any:
        observation, *outcome = super().step(action)
        if self.steps == 1:
            observation["joints"][1] = np.nan
        if self.steps == 2:
            observation["joints"] = None
        return observation, *outcome


def test_a_camera_that_is_not_named_is_no_dropped_frame() -> None:
    model = make_tiny_model(frame=CAMERAS, action_space=BOX)
    images = {"hand": np.zeros((20, 20, 3)), "front": np.zeros((10, 20, 3))}
    filter_ = LatentFilter(model)
    filter_.reset(images)
    with pytest.raises(LatentwrapError, match="requires images of hand, front, got hand, frnt"):
        filter_.step(np.zeros(1), {"hand": images["hand"], "frnt": images["front"]})


def test_an_undecided_layout_is_not_rendered_instead() -> None:
    env = Noise(image(9, 20, 20))
    env.render_mode = "rgb_array"
    model = make_tiny_model(frame=FRAME, action_space=BOX)
    with pytest.raises(EnvironmentMismatch, match="name its layout"):
        LatentObservation(env, model)
    LatentObservation(env, model, image_keys=())


def test_imagining_moves_nothing() -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX)
    latents = []
    for imagines in (False, True):
        env = LatentObservation(Noise(image(SIDE, SIDE, 3)), model, deterministic=False)
        env.reset(seed=0)
        if imagines:
            actions = np.zeros((3, 1), np.float32)
            np.testing.assert_array_equal(env.imagine(actions), env.imagine(actions))
        latents.append(env.step(np.zeros(1, np.float32))[0])
    np.testing.assert_array_equal(*latents)


@pytest.mark.parametrize("seed", [2**63, 2**64 + 3])
def test_seeds_may_be_of_any_size(seed: int) -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX)
    LatentObservation(Noise(image(SIDE, SIDE, 3)), model).filter.seed(seed)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda f: f.step(np.zeros((2, 1)), None), "one frame .* for each of 2 streams, got None"),
        (lambda f: f.reset([np.zeros((SIDE, SIDE, 3))]), "for each of 2 streams, got 1 frames"),
        (lambda f: f.reset(np.zeros((2, SIDE, SIDE, 3)), [True]), r"mask of shape \(2,\)"),
    ],
)
def test_mistakes_with_streams_are_one_sentence(mistake: Any, message: str) -> None:
    filter_ = LatentFilter(make_tiny_model(frame=FRAME, action_space=BOX), num=2)
    with pytest.raises(LatentwrapError, match=message):
        mistake(filter_)


def test_the_layout_of_the_data_is_known_to_the_checkpoint() -> None:
    env = Noise(spaces.Box(0, 1, (SIDE, SIDE, 3), np.float32))
    env.render_mode = "rgb_array"  # a picture of something else
    framed = RenderFrame(env, height=SIDE, width=SIDE, layout="HWC")
    assert framed.frame_spec.layout == "HWC"
    model = make_tiny_model(frame=framed.frame_spec, action_space=BOX)
    latent, _ = LatentObservation(env, model).reset(seed=0)
    np.testing.assert_array_equal(latent, LatentFilter(model).reset(env.reset(seed=0)[0]))


def test_latents_are_not_filtered_twice() -> None:
    model = make_tiny_model(frame=FRAME, action_space=BOX)

    def make() -> gym.Env:
        env = Noise(image(SIDE, SIDE, 3))
        env.render_mode = "rgb_array"
        return LatentObservation(env, model)

    with pytest.raises(EnvironmentMismatch, match="observes the latents of a model already"):
        LatentObservation(make(), model)
    with pytest.raises(EnvironmentMismatch, match="observes the latents of a model already"):
        VectorLatentObservation(gym.vector.SyncVectorEnv([make]), model)
