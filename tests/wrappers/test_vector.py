"""VectorLatentObservation beside what the conformance suite checks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from latentwrap_test_envs import SIZE, CountingEnv
from tests.conftest import STOCHASTIC, make_tiny_model

from latentwrap import FrameSkip, LatentObservation, RenderFrame, VectorLatentObservation
from latentwrap.envs import LATENT, PIXEL_PENDULUM
from latentwrap.errors import ConfigError, EnvironmentMismatch
from latentwrap.models import LatentModel, save_model
from latentwrap.pixels import FrameSpec

ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
FRAME = FrameSpec(height=SIZE, width=SIZE)


def model_of_counting(**arguments: Any) -> LatentModel:
    return make_tiny_model(frame=FRAME, action_space=ACTIONS, **arguments)


def counting(lengths: tuple[int, ...] = (5, 3, 8)) -> CountingEnv:
    return CountingEnv(lengths=lengths)


def vector(mode: AutoresetMode = AutoresetMode.NEXT_STEP, num: int = 3) -> SyncVectorEnv:
    return SyncVectorEnv([counting] * num, autoreset_mode=mode)


def test_spaces_and_handed_out_arrays() -> None:
    model = model_of_counting()
    envs = VectorLatentObservation(vector(), model)
    assert envs.single_observation_space == spaces.Box(-10, 10, (model.latent_size,), np.float32)
    first, _ = envs.reset(seed=0)
    assert envs.observation_space.contains(first)
    kept = first.copy()
    second = envs.step(envs.action_space.sample())[0]
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_a_masked_reset_leaves_all_others_bit_for_bit() -> None:
    envs = VectorLatentObservation(vector(AutoresetMode.DISABLED), model_of_counting())
    envs.reset(seed=0)
    before = envs.step(np.zeros((3, 2), np.float32))[0]
    belief = [tensor.clone() for tensor in envs.filter.belief]
    mask = np.array([False, True, False])
    after, _ = envs.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert not np.array_equal(after[mask], before[mask])
    for old, new in zip(belief, envs.filter.belief, strict=True):
        assert (old[~mask] == new[~mask]).all()


def test_the_action_that_next_step_ignores_never_reaches_the_filter() -> None:
    model = model_of_counting()
    latents = []
    for ignored in (0.0, np.nan):
        envs = VectorLatentObservation(vector(num=2), model)
        envs.reset(seed=0)
        for step in range(12):
            actions = np.full((2, 2), 0.3, np.float32)
            if step == 5:  # the first episodes have ended
                actions[:] = ignored
            found = envs.step(actions)[0]
        latents.append(found)
    np.testing.assert_array_equal(*latents)


def test_without_a_named_mode_it_is_next_step_with_a_warning() -> None:
    envs = vector()
    del envs.metadata["autoreset_mode"]
    with pytest.warns(UserWarning, match="names no autoreset mode .* taken for NEXT_STEP"):
        wrapped = VectorLatentObservation(envs, model_of_counting())
    wrapped.reset(seed=0)
    expected = VectorLatentObservation(vector(), model_of_counting())
    expected.reset(seed=0)
    for _ in range(8):
        actions = wrapped.action_space.sample()
        np.testing.assert_array_equal(wrapped.step(actions)[0], expected.step(actions)[0])


def test_same_step_without_the_last_observation_is_refused() -> None:
    envs = vector(AutoresetMode.NEXT_STEP)
    envs.metadata["autoreset_mode"] = AutoresetMode.SAME_STEP  # it says so, but does otherwise
    wrapped = VectorLatentObservation(envs, model_of_counting())
    wrapped.reset(seed=0)
    with pytest.raises(EnvironmentMismatch, match="requires infos\\['final_obs'\\]"):
        for _ in range(5):
            wrapped.step(wrapped.action_space.sample())


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_noise_is_seeded_as_environments_are(kind: str) -> None:
    model = model_of_counting(kind=kind)
    actions = [vector().action_space.sample() for _ in range(12)]

    def play(seed: Any) -> np.ndarray:
        envs = VectorLatentObservation(vector(), model, deterministic=False)
        return np.stack([envs.reset(seed=seed)[0], *(envs.step(a)[0] for a in actions)])

    played = play(4)
    np.testing.assert_array_equal(play([4, 5, 6]), played)
    assert not np.array_equal(play(5), played)
    # Stream 1 draws what a single environment of seed 5 draws, over the end of an episode too.
    env = LatentObservation(counting(), model, deterministic=False)
    latents, ended = [env.reset(seed=5)[0]], False
    for action in actions:
        if ended:
            latent, ended = env.reset()[0], False
        else:
            latent, _, _, ended, _ = env.step(action[1])
        latents.append(latent)
    np.testing.assert_allclose(played[:, 1], latents, atol=1e-4)


def test_images_that_are_only_rendered_are_refused_by_name_of_the_cure() -> None:
    envs = gym.make_vec("CartPole-v1", num_envs=2, render_mode="rgb_array")
    model = make_tiny_model(action_space=spaces.Discrete(2))
    with pytest.raises(EnvironmentMismatch, match=r"wrap each in latentwrap\.RenderFrame"):
        VectorLatentObservation(envs, model)
    envs.close()


def test_frames_made_for_another_model_are_refused() -> None:
    def make() -> gym.Env:
        return RenderFrame(counting(), height=16, width=16)

    with pytest.raises(EnvironmentMismatch, match=r"shape \(8, 8, 3\), RenderFrame makes them"):
        VectorLatentObservation(SyncVectorEnv([make]), model_of_counting())


def test_frames_of_another_aspect_ratio_are_refused_though_fitted() -> None:
    wide = FrameSpec(height=8, width=8, source_height=100, source_width=200)

    def make() -> gym.Env:
        return RenderFrame(counting(), height=8, width=8)

    model = make_tiny_model(frame=wide, action_space=ACTIONS)
    with pytest.raises(EnvironmentMismatch, match="stretch=True"):
        VectorLatentObservation(SyncVectorEnv([make]), model)
    VectorLatentObservation(SyncVectorEnv([make]), model, stretch=True)


def test_frame_skip_is_required_inside_the_workers() -> None:
    model = model_of_counting(frame_skip=2)
    with pytest.raises(EnvironmentMismatch, match=r"FrameSkip\(env, 2\) where it runs"):
        VectorLatentObservation(vector(), model)
    VectorLatentObservation(vector(), model, frame_skip=1)
    skipping = SyncVectorEnv([lambda: FrameSkip(counting(), 2)])
    VectorLatentObservation(skipping, model)
    with pytest.raises(EnvironmentMismatch, match="take it 2 times"):
        VectorLatentObservation(skipping, model_of_counting())


def test_other_actions_are_refused() -> None:
    with pytest.raises(EnvironmentMismatch, match="expects the action space"):
        VectorLatentObservation(vector(), make_tiny_model(frame=FRAME))


def test_diagnostics_come_as_gymnasium_lays_out_infos() -> None:
    envs = VectorLatentObservation(
        vector(AutoresetMode.SAME_STEP, num=2), model_of_counting(), diagnostics=True
    )
    _, infos = envs.reset(seed=0)
    assert infos["latentwrap"]["kl"].shape == (2,)
    for _ in range(5):
        *_, infos = envs.step(envs.action_space.sample())
    assert infos["latentwrap"]["_kl"].all()
    assert infos["final_info"]["latentwrap"]["belief_std"].shape == (2, 3)
    single = LatentObservation(counting(), model_of_counting(), diagnostics=True)
    _, info = single.reset(seed=0)
    assert set(info["latentwrap"]) == {"reconstruction_error", "kl", "belief_std"}


def test_diagnostics_of_others_outlive_an_end() -> None:
    model = model_of_counting()
    makers = [lambda: counting((2,)), lambda: counting((9,))]
    envs = VectorLatentObservation(
        SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP), model, diagnostics=True
    )
    alone = LatentObservation(counting((9,)), model, diagnostics=True)
    envs.reset(seed=[0, 1])
    alone.reset(seed=1)
    for _ in range(5):
        infos = envs.step(np.zeros((2, 2), np.float32))[-1]
        info = alone.step(np.zeros(2, np.float32))[-1]
        for name, value in info["latentwrap"].items():
            found = infos["latentwrap"][name]
            assert np.isfinite(found).all()
            np.testing.assert_allclose(found[1], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("num", [1, 2])
def test_what_is_imagined_has_an_axis_of_environments(num: int) -> None:
    envs = VectorLatentObservation(vector(num=num), model_of_counting())
    envs.reset(seed=0)
    assert envs.imagine(np.zeros((4, num, 2))).shape == (num, 4, 8)


def registered(path: Path, **arguments: Any) -> VectorLatentObservation:
    envs = gym.make_vec(LATENT, env_id=PIXEL_PENDULUM, ckpt=str(path), **arguments)
    assert isinstance(envs, VectorLatentObservation)
    return envs


def test_the_registered_vector_gives_the_latents_of_the_single(tiny_checkpoint: Path) -> None:
    envs = registered(tiny_checkpoint, num_envs=2)
    latents, _ = envs.reset(seed=3)
    for stream in range(2):
        env = gym.make(LATENT, env_id=PIXEL_PENDULUM, ckpt=str(tiny_checkpoint))
        np.testing.assert_allclose(env.reset(seed=3 + stream)[0], latents[stream], atol=1e-4)
    rebuilt = gym.make_vec(envs.spec)
    np.testing.assert_array_equal(rebuilt.reset(seed=3)[0], latents)


def test_its_spec_rebuilds_it_from_anywhere(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    envs = registered(Path(tiny_checkpoint.name), num_envs=2, max_episode_steps=3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rebuilt = gym.make_vec(envs.spec)
    np.testing.assert_array_equal(rebuilt.reset(seed=3)[0], envs.reset(seed=3)[0])
    for _ in range(3):
        truncated = rebuilt.step(rebuilt.action_space.sample())[3]
    assert truncated.all()
    assert VectorLatentObservation(vector(), model_of_counting()).spec is None


def test_workers_must_be_of_a_known_kind(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="workers of sync or async, got 'threads'"):
        registered(tiny_checkpoint, workers="threads")


def test_spawned_workers_never_load_torch(tmp_path: Path) -> None:
    path = tmp_path / "counting.safetensors"
    save_model(path, model_of_counting(), training={})
    made = {"env_id": "latentwrap-test/Counting-v0", "ckpt": str(path), "num_envs": 2}
    envs = gym.make_vec(LATENT, workers="async", **made)
    assert isinstance(envs, VectorLatentObservation)
    latents, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(latents, gym.make_vec(LATENT, **made).reset(seed=0)[0])
    assert isinstance(envs.env, AsyncVectorEnv)
    assert envs.env.call("has_loaded", "torch") == (False, False)
    assert envs.env.call("has_loaded", "numpy") == (True, True)
    envs.close()
