"""LatentObservation: what must hold for a single environment."""

from __future__ import annotations

import copy
import multiprocessing
import warnings
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeLimit
from tests.conftest import STOCHASTIC, make_tiny_model

from latentwrap import LatentFilter, LatentObservation, load_model
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, EnvironmentMismatch
from latentwrap.models import LatentModel, save_model
from latentwrap.pixels import FrameSpec, fit_frame


def rollout(env: gym.Env, *, seed: int = 0, steps: int = 20) -> np.ndarray:
    latent, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    latents = [latent]
    for _ in range(steps):
        latent, _, terminated, truncated, _ = env.step(env.action_space.sample())
        latents.append(latent)
        if terminated or truncated:
            break
    return np.stack(latents)


def test_latents_are_those_of_the_filter(pendulum: gym.Env, tiny_model: LatentModel) -> None:
    latents = rollout(LatentObservation(pendulum, tiny_model), seed=5, steps=200)
    plain, filter_ = gym.make(PIXEL_PENDULUM), LatentFilter(tiny_model)
    frame, _ = plain.reset(seed=5)
    plain.action_space.seed(5)
    expected = [filter_.reset(fit_frame(frame, tiny_model.frame_spec))]
    truncated = False
    while not truncated:
        action = plain.action_space.sample()
        frame, _, _, truncated, _ = plain.step(action)
        expected.append(filter_.step(action, fit_frame(frame, tiny_model.frame_spec)))
    assert len(latents) == 201  # the last observation of the episode included
    np.testing.assert_array_equal(latents, expected)


def test_no_state_leaks_into_the_next_episode(pendulum: gym.Env, tiny_model: LatentModel) -> None:
    env = LatentObservation(pendulum, tiny_model)
    first = rollout(env, seed=1)
    rollout(env, seed=2)
    np.testing.assert_array_equal(rollout(env, seed=1), first)


def test_the_space_is_a_finite_box_and_contains_the_latents(
    pendulum: gym.Env, tiny_model: LatentModel
) -> None:
    env = LatentObservation(pendulum, tiny_model)
    assert env.observation_space == spaces.Box(-10, 10, (tiny_model.latent_size,), np.float32)
    assert all(env.observation_space.contains(latent) for latent in rollout(env))


def test_raw_latents_have_an_unbounded_space(pendulum: gym.Env, tiny_model: LatentModel) -> None:
    env = LatentObservation(pendulum, tiny_model, normalize=False)
    assert not env.observation_space.is_bounded("both")
    raw = rollout(env)
    assert tiny_model.normalizer is not None
    expected = tiny_model.normalizer.normalize(raw)
    np.testing.assert_allclose(
        rollout(LatentObservation(pendulum, tiny_model)), expected, atol=1e-5
    )


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_samples_follow_the_seed_of_reset(pendulum: gym.Env, kind: str) -> None:
    model = make_tiny_model(kind=kind)
    env = LatentObservation(pendulum, model, deterministic=False)
    first = rollout(env, seed=1)
    np.testing.assert_array_equal(rollout(env, seed=1), first)
    again, _ = env.reset()
    assert not np.array_equal(again, env.reset()[0])
    assert not np.array_equal(first, rollout(LatentObservation(pendulum, model), seed=1))


def messages_of(check: Any, env: gym.Env) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(env)
    return [str(w.message) for w in caught]


def about_observations(messages: list[str]) -> list[str]:
    # Gymnasium says of every wrapped environment that it is one.
    messages = [m for m in messages if "wrapper applied" not in m]
    return [m for m in messages if "observation" in m.lower() or "obs " in m.lower()]


def test_gymnasiums_checker(pendulum: gym.Env, tiny_checkpoint: Path) -> None:
    env = LatentObservation(pendulum, tiny_checkpoint)
    messages = messages_of(lambda e: check_env(e, skip_render_check=True), env)
    assert about_observations(messages) == []


def test_stable_baselines3s_checker(pendulum: gym.Env, tiny_checkpoint: Path) -> None:
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    messages = messages_of(sb3_check_env, LatentObservation(pendulum, tiny_checkpoint))
    assert about_observations(messages) == []


def test_the_spec_rebuilds_the_environment(
    pendulum: gym.Env, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    env = LatentObservation(pendulum, tiny_checkpoint.name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    rebuilt = gym.make(env.spec)
    assert isinstance(rebuilt, LatentObservation)
    np.testing.assert_array_equal(rollout(rebuilt), rollout(env))
    from_json = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    np.testing.assert_array_equal(rollout(from_json), rollout(env))


def test_the_spec_keeps_wrappers_around_it(pendulum: gym.Env, tiny_checkpoint: Path) -> None:
    env = TimeLimit(LatentObservation(pendulum, tiny_checkpoint), 7)
    assert len(rollout(gym.make(env.spec))) == len(rollout(env)) == 8


def test_a_loaded_model_has_no_spec(pendulum: gym.Env, tiny_model: LatentModel) -> None:
    assert LatentObservation(pendulum, tiny_model).spec is None


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda env: cloudpickle.loads(cloudpickle.dumps(env))]
)
def test_copies_give_the_same_latents(pendulum: gym.Env, tiny_checkpoint: Path, clone: Any) -> None:
    env = LatentObservation(pendulum, tiny_checkpoint)
    expected = rollout(env)
    np.testing.assert_array_equal(rollout(clone(env)), expected)


def _rollout_in_worker(pickled: bytes, queue: Any) -> None:
    queue.put(rollout(cloudpickle.loads(pickled)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_give_the_same_latents(
    pendulum: gym.Env, tiny_checkpoint: Path, method: str
) -> None:
    env = LatentObservation(pendulum, tiny_checkpoint)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_rollout_in_worker, args=(cloudpickle.dumps(env), queue))
    worker.start()
    np.testing.assert_array_equal(queue.get(), rollout(env))
    worker.join()


def test_render_still_gives_pixels(pendulum: gym.Env, tiny_model: LatentModel) -> None:
    env = LatentObservation(pendulum, tiny_model)
    env.reset(seed=0)
    assert env.render().shape == (64, 64, 3)
    assert env.frame.shape == (16, 16, 3)


def test_latents_stay_what_they_were_when_handed_out(
    pendulum: gym.Env, tiny_model: LatentModel
) -> None:
    env = LatentObservation(pendulum, tiny_model)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(env.action_space.sample())
    np.testing.assert_array_equal(first, kept)


class Counter(gym.Env[np.ndarray, np.ndarray]):
    """Counts the actions that it really takes; its picture is only in render()."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self, render_mode: str | None = None, shape: tuple[int, ...] = (64, 64, 3), end: int = 10
    ) -> None:
        self.render_mode, self._shape, self._end = render_mode, shape, end
        self.observation_space = spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Box(-2, 2, (1,))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.taken: list[float] = []
        return np.zeros(2, np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        self.taken.append(float(action[0]))
        done = len(self.taken) == self._end
        return np.zeros(2, np.float32), float(action[0]), done, False, {}

    def render(self) -> np.ndarray:
        return np.full(self._shape, len(self.taken) * 20, np.uint8)


def test_an_image_that_is_only_rendered_is_seen(tiny_model: LatentModel) -> None:
    env = LatentObservation(Counter("rgb_array"), tiny_model)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(np.float32([0.5]))
    assert env.frame[0, 0, 0] == 20
    assert not np.array_equal(first, second)


def test_an_environment_without_any_image_is_refused(tiny_model: LatentModel) -> None:
    with pytest.raises(EnvironmentMismatch, match=r"gives no image.*'rgb_array'"):
        LatentObservation(Counter(), tiny_model)


def test_actions_are_repeated_as_in_the_data() -> None:
    env = LatentObservation(Counter("rgb_array"), make_tiny_model(frame_skip=4))
    env.reset(seed=0)
    _, reward, terminated, *_ = env.step(np.float32([0.5]))
    assert (reward, terminated) == (2.0, False)
    env.step(np.float32([1.0]))
    _, reward, terminated, *_ = env.step(np.float32([1.0]))
    assert (reward, terminated) == (2.0, True)  # the episode ended after two of four
    assert env.unwrapped.taken == [0.5] * 4 + [1.0] * 6


def test_repetition_can_be_turned_off() -> None:
    env = LatentObservation(Counter("rgb_array"), make_tiny_model(frame_skip=4), frame_skip=1)
    env.reset(seed=0)
    assert env.step(np.float32([0.5]))[1] == 0.5


@pytest.mark.parametrize(
    ("space", "shown"),
    [
        (spaces.Box(-1, 1, (1,)), "Box"),
        (spaces.Box(-2, 2, (3,)), r"\(3,\)"),
        (spaces.Discrete(3), "Discrete"),
    ],
)
def test_a_model_of_other_actions_is_refused(
    pendulum: gym.Env, space: spaces.Space, shown: str
) -> None:
    with pytest.raises(EnvironmentMismatch, match=f"expects the action space.*{shown}"):
        LatentObservation(pendulum, make_tiny_model(action_space=space))


def test_another_aspect_ratio_is_refused_unless_stretched(tiny_model: LatentModel) -> None:
    wide = Counter("rgb_array", shape=(40, 80, 3))
    with pytest.raises(EnvironmentMismatch, match="stretch=True"):
        LatentObservation(wide, tiny_model).reset()
    LatentObservation(wide, tiny_model, stretch=True).reset()


def test_another_number_of_channels_is_refused(pendulum: gym.Env) -> None:
    grey = make_tiny_model(frame=FrameSpec(height=16, width=16, channels=1))
    with pytest.raises(EnvironmentMismatch, match=r"1 channels.*has 3"):
        LatentObservation(pendulum, grey)


def test_a_missing_checkpoint_is_refused(pendulum: gym.Env) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors does not exist"):
        LatentObservation(pendulum, "none.safetensors")


def test_a_frame_skip_below_one_is_refused(pendulum: gym.Env, tiny_model: LatentModel) -> None:
    with pytest.raises(EnvironmentMismatch, match="at least 1, got 0"):
        LatentObservation(pendulum, tiny_model, frame_skip=0)


def test_one_observation_alone_has_no_latent(pendulum: gym.Env, tiny_model: LatentModel) -> None:
    env = LatentObservation(pendulum, tiny_model)
    with pytest.raises(EnvironmentMismatch, match="one observation alone"):
        env.observation(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(EnvironmentMismatch, match="no frame yet"):
        _ = env.frame


def test_the_fingerprint_is_that_of_the_checkpoint(
    pendulum: gym.Env, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    env = LatentObservation(pendulum, tiny_checkpoint)
    loaded = load_model(tiny_checkpoint).checkpoint
    assert loaded is not None
    assert env.get_wrapper_attr("model_fingerprint") == loaded.fingerprint
    other = tmp_path / "other.safetensors"
    save_model(other, make_tiny_model(seed=1), training={})
    assert LatentObservation(pendulum, other).model_fingerprint != loaded.fingerprint
