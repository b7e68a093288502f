"""MuJoCo's pictures: fast, and the same ones again wherever the environment is wrapped."""

from __future__ import annotations

import ctypes.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from tests.conftest import make_tiny_model

import latentwrap
from latentwrap.datasets import Dataset, collect
from latentwrap.envs.frames import RenderFrame
from latentwrap.envs.mujoco import find_scene
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import save_model
from latentwrap.pixels import FrameSpec, fit_frame

BACKEND = next(
    (gl for gl, name in (("egl", "EGL"), ("osmesa", "OSMesa")) if ctypes.util.find_library(name)),
    None,
)
pytest.importorskip("mujoco")
pytestmark = pytest.mark.skipif(BACKEND is None, reason="no EGL and no OSMesa is installed")

ENV = "Hopper-v5"
SIDE = 16


@pytest.fixture(autouse=True)
def off_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUJOCO_GL", str(BACKEND))
    monkeypatch.chdir(tmp_path)  # MuJoCo logs into the current folder


def hopper(**kwargs: Any) -> gym.Env:
    return gym.make(ENV, render_mode="rgb_array", **kwargs)


def framed(env: gym.Env | None = None, **options: Any) -> RenderFrame:
    return RenderFrame(env or hopper(), height=SIDE, width=SIDE, **options)


def make_model(frame: FrameSpec) -> Any:
    return make_tiny_model(action_space=hopper().action_space, frame=frame)


def play(env: gym.Env, take: Any, steps: int = 12) -> list[Any]:
    """What `take` finds after a reset and after each of some fixed actions."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 3)).astype(np.float32)
    env.reset(seed=3)
    found = [take()]
    for action in actions:
        env.step(action)
        found.append(take())
    env.close()
    return found


def frames_of(env: RenderFrame) -> np.ndarray:
    seen: list[Any] = []
    observe = env._observe
    env._observe = lambda observation: seen.append(observe(observation)) or seen[-1]  # type: ignore
    play(env, lambda: None)
    return np.stack(seen)


def latent_frames(env: gym.Env, frame: FrameSpec) -> np.ndarray:
    wrapped = latentwrap.LatentObservation(env, make_model(frame))
    return np.stack(play(wrapped, lambda: wrapped.frame.copy()))


def test_fast_pictures_are_recorded_and_show_the_same_scene() -> None:
    fast, full = framed(), framed(rendering="full")
    spec = fast.frame_spec
    assert (spec.rendering, spec.source_height, spec.source_width) == ("fast", 2 * SIDE, 2 * SIDE)
    assert (full.frame_spec.rendering, full.frame_spec.source_height) == (None, 480)
    a, b = frames_of(fast).astype(float), frames_of(full).astype(float)
    # Shadow and reflection are gone, the rest is as it was: brightness goes up and down alike.
    assert 0 < np.abs(a - b).mean() < 60
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.8


def test_fast_pictures_change_no_physics() -> None:
    fast, bare = framed(), hopper()
    drawn = play(fast, lambda: fast.unwrapped.data.qpos.copy())
    undrawn = play(bare, lambda: bare.unwrapped.data.qpos.copy())
    np.testing.assert_array_equal(drawn, undrawn)


@pytest.mark.parametrize("rendering", ["fast", "full"])
def test_environments_of_one_process_do_not_draw_into_each_other(rendering: str) -> None:
    """Bare Gymnasium gives black frames here."""
    expected = frames_of(framed(rendering=rendering))
    assert expected.std() > 10
    many = gym.vector.SyncVectorEnv([lambda: framed(rendering=rendering)] * 2)
    first = many.reset(seed=[3, 4])[0].copy()
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 3)).astype(np.float32)
    steps = [many.step(np.stack([action, -action]))[0][0].copy() for action in actions[:5]]
    found = [first[0], *steps]
    np.testing.assert_array_equal(np.stack(found), expected[:6])
    many.close()


def test_the_samples_are_off_also_where_it_was_rendered_before() -> None:
    env = hopper()
    env.reset(seed=3)
    assert env.render().shape == (480, 480, 3)
    assert env.unwrapped.mujoco_renderer.viewer.con.offSamples > 0
    late = framed(env)
    found = frames_of(late)
    assert found.std() > 10
    np.testing.assert_array_equal(found, frames_of(framed()))


@pytest.mark.parametrize("cameras", [(), ("track",), ("track", "0")])
def test_the_wrapper_serves_the_pictures_of_the_dataset(
    tmp_path: Path, cameras: tuple[str, ...]
) -> None:
    path = tmp_path / "hopper.h5"
    collect(ENV, path, steps=30, seed=3, height=SIDE, width=SIDE, cameras=cameras)
    data = Dataset(path)
    frame = data.info.frame
    assert (frame.rendering, frame.names) == ("fast", cameras)
    env = latentwrap.LatentObservation(hopper(), make_model(frame))
    for number in range(data.num_episodes):
        episode = data.episode(number)
        state = {name: values[0] for name, values in episode.states.items()}
        env.reset()
        env.unwrapped.set_state(*truth(env, state))
        _compare(env, episode)
    env.close()


def truth(env: gym.Env, state: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return state["qpos"].astype(float), state["qvel"].astype(float)


def _compare(env: latentwrap.LatentObservation, episode: Any) -> None:
    """Every state of an episode, drawn by the wrapper's renderer."""
    for t, expected in enumerate(episode.frames):
        env.unwrapped.set_state(
            episode.states["qpos"][t].astype(float), episode.states["qvel"][t].astype(float)
        )
        images = env._observer._images(None)
        fitted = env.filter.fitter.fit([images]).frames[0]
        # The states of the file are float32: a pixel on an edge may tip.
        assert np.abs(fitted.astype(int) - expected).mean() < 0.5


def test_single_and_vector_forms_see_the_same(tmp_path: Path) -> None:
    ckpt = tmp_path / "hopper.safetensors"
    save_model(ckpt, make_model(framed().frame_spec), training={})
    alone = gym.make("latentwrap/Latent-v0", env_id=ENV, ckpt=str(ckpt))
    many = gym.make_vec("latentwrap/Latent-v0", num_envs=2, env_id=ENV, ckpt=str(ckpt))
    one, _ = alone.reset(seed=5)
    both, _ = many.reset(seed=[5, 6])
    np.testing.assert_allclose(both[0], one, atol=1e-4)
    for action in np.random.default_rng(1).uniform(-1, 1, (5, 3)).astype(np.float32):
        one = alone.step(action)[0]
        both = many.step(np.stack([action, action]))[0]
        np.testing.assert_allclose(both[0], one, atol=1e-4)
    alone.close()
    many.close()


def test_data_from_before_is_drawn_as_before() -> None:
    spec = FrameSpec(height=SIDE, width=SIDE, source_height=480, source_width=480)
    bare = hopper()
    expected = play(bare, lambda: fit_frame(bare.render(), spec))
    np.testing.assert_array_equal(latent_frames(hopper(), spec), expected)


def test_another_rendering_than_the_model_knows_is_refused() -> None:
    model = make_model(FrameSpec(height=SIDE, width=SIDE, source_height=480, source_width=480))
    envs = gym.vector.SyncVectorEnv([framed])
    with pytest.raises(EnvironmentMismatch, match="expects frames of full rendering"):
        latentwrap.VectorLatentObservation(envs, model)
    envs.close()
    envs = gym.vector.SyncVectorEnv([lambda: framed(rendering="full")])
    latentwrap.VectorLatentObservation(envs, model).close()


def test_each_camera_has_its_own_picture(tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    collect(ENV, path, steps=8, seed=3, height=SIDE, width=SIDE, cameras=["track", "0"], num_envs=2)
    frames = Dataset(path).episode(0).frames
    left, right = frames[:, :, :SIDE], frames[:, :, SIDE:]
    assert left.std() > 10
    np.testing.assert_array_equal(left, right)  # the camera "track" is number 0
    free = frames_of(framed())
    assert not np.array_equal(free[0], left[0])


@pytest.mark.parametrize(
    ("env_id", "options", "sentence"),
    [
        (ENV, {"cameras": ["front"]}, "has no camera 'front', but track: name one of those"),
        (ENV, {"cameras": ["7"]}, "has no camera '7'"),
        (ENV, {"rendering": "quick"}, "rendering requires one of fast or full, got 'quick'"),
        ("CartPole-v1", {"cameras": ["front"]}, "no MuJoCo environment that latentwrap knows"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, env_id: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EnvironmentMismatch, match=sentence):
        collect(env_id, tmp_path / "x.h5", steps=5, **options)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    env = hopper()

    def fail(_mode: str) -> None:
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'\nand more")

    monkeypatch.setattr(env.unwrapped.mujoco_renderer, "render", fail)
    with pytest.raises(EnvironmentMismatch, match="eglQueryString', and latentwrap doctor Hopper"):
        framed(env)


def test_truth_is_stored_beside_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "truth.h5"
    collect(ENV, path, steps=20, seed=3, height=SIDE, width=SIDE)
    episode = Dataset(path).episode(0)
    assert sorted(episode.states) == ["observation", "qpos", "qvel"]
    env = hopper()
    framed(env).reset()  # as collect does to see the size of the picture
    observation, _ = env.reset(seed=3)
    for t in range(len(episode.frames)):
        data = env.unwrapped.data
        np.testing.assert_allclose(episode.states["qpos"][t], data.qpos, atol=1e-6)
        np.testing.assert_allclose(episode.states["qvel"][t], data.qvel, atol=1e-5)
        np.testing.assert_allclose(episode.states["observation"][t], observation, atol=1e-5)
        if t < len(episode.actions):
            observation = env.step(episode.actions[t])[0]
    env.close()


def test_other_environments_have_no_scene() -> None:
    assert find_scene(gym.make("CartPole-v1")) is None
