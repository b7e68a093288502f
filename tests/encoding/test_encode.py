"""Encoded latents are what the wrapper observes."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pytest
from tests.conftest import make_tiny_model
from tests.encoding.conftest import noise_model, write_noise

import latentwrap
from latentwrap.datasets import Dataset, collect
from latentwrap.encoding import LatentDataset, encode
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, ConfigError, DatasetError, OutputExists
from latentwrap.models import LatentModel
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

CAMERAS = "latentwrap_test_envs:latentwrap-test/Cameras-v0"


def observed(env: gym.Env, data: Dataset, number: int, seed: int) -> np.ndarray:
    """What `env` observes while it takes the actions of a stored episode."""
    first, _ = env.reset(seed=seed)
    space = data.info.action.space
    actions = data.episode(number).actions.reshape(-1, *space.shape).astype(space.dtype)
    return np.stack([first, *(env.step(action)[0] for action in actions)])


def assert_close(found: np.ndarray, expected: np.ndarray, *, normalize: bool) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    scale = 1 if normalize else np.maximum(1, np.abs(expected))
    assert (np.abs(found - expected) / scale).max() <= (1e-4 if normalize else 1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_an_encoded_episode_is_what_the_wrapper_observes(
    tmp_path: Path, pendulum_data: Path, tiny_model: LatentModel, normalize: bool
) -> None:
    result = encode(tiny_model, pendulum_data, tmp_path / "z.h5", normalize=normalize)
    assert (result.episodes, result.transitions, result.size) == (3, 450, tiny_model.latent_size)
    latent, pixels = LatentDataset(result.path), Dataset(pendulum_data)
    env = latentwrap.LatentObservation(gym.make(PIXEL_PENDULUM), tiny_model, normalize=normalize)
    assert latent.info.space == env.observation_space
    # Only the first episode begins from a seed that is known.
    assert_close(latent.episode(0).latents, observed(env, pixels, 0, 3), normalize=normalize)


def test_every_episode_begins_anew(tmp_path: Path, pendulum_data: Path) -> None:
    model = make_tiny_model()
    encode(model, pendulum_data, tmp_path / "z.h5")
    latent, pixels = LatentDataset(tmp_path / "z.h5"), Dataset(pendulum_data)
    for number, found in enumerate(latent.episodes()):
        episode, single = pixels.episode(number), latentwrap.LatentFilter(model)
        expected = [single.reset(episode.frames[0])]
        for action, frame in zip(episode.actions, episode.frames[1:], strict=True):
            expected.append(single.step(action, frame))
        assert_close(found.latents, np.stack(expected), normalize=True)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("sees_vectors", [True, False])
def test_vectors_follow_the_latent_as_in_the_wrapper(
    tmp_path: Path, sees_vectors: bool, normalize: bool
) -> None:
    path, keys = tmp_path / "arm.h5", ("front", "robot.wrist")
    collect(
        CAMERAS, path, steps=12, seed=5, height=16, width=16, image_keys=keys,
        vector_keys=("joints",),
    )  # fmt: skip
    pixels = Dataset(path)
    model = make_tiny_model(
        action_space=pixels.info.action.space,
        frame=pixels.info.frame,
        vectors=pixels.info.vectors,
        sees_vectors=sees_vectors,
    )
    encode(model, path, tmp_path / "z.h5", normalize=normalize)
    latent = LatentDataset(tmp_path / "z.h5")
    assert latent.info.appended == ("joints",)
    assert latent.info.size == model.latent_size + 2
    np.testing.assert_array_equal(latent.vectors["joints"], pixels.vectors["joints"])
    env = latentwrap.LatentObservation(gym.make(CAMERAS), model, normalize=normalize)
    assert latent.info.space == env.observation_space
    assert_close(latent.episode(0).latents, observed(env, pixels, 0, 5), normalize=normalize)
    encode(model, path, tmp_path / "bare.h5", normalize=normalize, vector_keys=())
    bare = LatentDataset(tmp_path / "bare.h5")
    np.testing.assert_array_equal(bare.latents, latent.latents[:, :-2])


def test_all_other_columns_stay(tmp_path: Path) -> None:
    pixels = write_noise(tmp_path / "pixels.h5")
    encode(noise_model(), pixels, tmp_path / "z.h5")
    latent = LatentDataset(tmp_path / "z.h5")
    for name in ("starts", "lengths", "actions", "rewards", "terminations", "truncations"):
        np.testing.assert_array_equal(getattr(latent, name), getattr(pixels, name))
    np.testing.assert_array_equal(latent.states["angle"], pixels.states["angle"])
    for number in range(4):
        found, expected = latent.episode(number), pixels.episode(number)
        assert (found.terminated, found.truncated) == (expected.terminated, expected.truncated)
        np.testing.assert_array_equal(found.actions, expected.actions)
        np.testing.assert_array_equal(found.states["angle"], expected.states["angle"])


def test_a_file_says_what_it_was_made_of(tmp_path: Path, pendulum_data: Path, model: Path) -> None:
    encode(model, pendulum_data, tmp_path / "z.h5", normalize=False)
    info = LatentDataset(tmp_path / "z.h5").info
    assert info.model == latentwrap.load_model(model).fingerprint
    assert info.data_fingerprint == Dataset(pendulum_data).fingerprint()
    assert info.data == Dataset(pendulum_data).info
    assert not info.normalized
    with h5py.File(tmp_path / "z.h5") as file:
        assert file.attrs["format"] == "latentwrap-latents"
    with pytest.raises(DatasetError, match="latentwrap-latents"):
        Dataset(tmp_path / "z.h5")
    with pytest.raises(DatasetError, match="write one with latentwrap encode"):
        LatentDataset(pendulum_data)


def test_several_files_are_one_dataset(tmp_path: Path) -> None:
    parts = [write_noise(tmp_path / f"{n}.h5").path for n in range(2)]
    encode(noise_model(), parts, tmp_path / "z" / "both.h5")
    encode(noise_model(), parts[0], tmp_path / "z" / "one.h5")
    both, one = (LatentDataset(tmp_path / "z" / name) for name in ("both.h5", "one.h5"))
    assert both.num_episodes == 2 * one.num_episodes
    np.testing.assert_allclose(both.latents[len(one.latents) :], one.latents, atol=1e-5)


def test_what_is_there_stays(tmp_path: Path, pendulum_data: Path, model: Path) -> None:
    path = tmp_path / "z.h5"
    path.write_text("precious")
    with pytest.raises(OutputExists, match="exists already"):
        encode(model, pendulum_data, path)
    for form in ("latentwrap", "lompo"):
        with pytest.raises(DatasetError):
            encode(model, pendulum_data, path, form=form, resume=True)
    for forced in (False, True):
        with pytest.raises(OutputExists, match="is what is read"):
            encode(model, pendulum_data, pendulum_data, force=forced)
    assert path.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pendulum.safetensors", "z.h5"]


def test_a_dataset_of_another_size_is_refused(tmp_path: Path) -> None:
    wide = write_noise(tmp_path / "wide.h5", frame=FrameSpec(height=16, width=24))
    with pytest.raises(DatasetError, match=r"frames of shape \(16, 24, 3\), the model requires"):
        encode(noise_model(), wide, tmp_path / "z.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["wide.h5"]


@pytest.mark.parametrize("form", ["d4rl", "lompo", "minari"])
def test_a_form_with_rewards_refuses_data_without(tmp_path: Path, form: str) -> None:
    if form == "minari":
        pytest.importorskip("minari")
    data = write_noise(tmp_path / "pixels.h5", rewards=False)
    with pytest.raises(DatasetError, match=f"--as {form} requires rewards"):
        encode(noise_model(), data, tmp_path / "z.h5", form=form)
    encode(noise_model(), data, tmp_path / "z.h5")
    assert LatentDataset(tmp_path / "z.h5").rewards is None


def test_mistakes_are_one_sentence(tmp_path: Path, pendulum_data: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'minari'"):
        encode(model, pendulum_data, tmp_path / "z.h5", form="minary")
    with pytest.raises(ConfigError, match="pass --as minari"):
        encode(model, pendulum_data, "minari:z-v0", form="d4rl")
    with pytest.raises(DatasetError, match=r"end in \.h5 or \.hdf5"):
        encode(model, pendulum_data, tmp_path / "z.npz", form="d4rl")
    with pytest.raises(DatasetError, match="lacks the vector 'joints'"):
        encode(model, pendulum_data, tmp_path / "z.h5", vector_keys=["joints"])
    untrained = make_tiny_model()
    untrained.normalizer = None
    with pytest.raises(CheckpointError, match="without latent statistics"):
        encode(untrained, pendulum_data, tmp_path / "z.h5")
    encode(untrained, pendulum_data, tmp_path / "z.h5", normalize=False)


def test_a_vector_that_the_model_has_no_statistics_of_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arm.h5"
    keys = ("front", "robot.wrist")
    collect(CAMERAS, path, steps=5, height=16, width=16, image_keys=keys, vector_keys=("joints",))
    pixels = Dataset(path)
    space, frame = pixels.info.action.space, pixels.info.frame
    blind = make_tiny_model(action_space=space, frame=frame)
    with pytest.raises(DatasetError, match="no statistics of the vector 'joints'"):
        encode(blind, path, tmp_path / "z.h5", vector_keys=["joints"])
    three = VectorSpec(names=("joints",), sizes=(3,))
    model = make_tiny_model(action_space=space, frame=frame, vectors=three)
    with pytest.raises(DatasetError, match="expects 3 numbers in 'joints'"):
        encode(model, path, tmp_path / "z.h5")


def test_latents_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_noise(tmp_path / "pixels.h5")
    path = encode(noise_model(), tmp_path / "pixels.h5", tmp_path / "z.h5").path
    with h5py.File(path, "r+") as file:
        file["latents"][3, 1] = np.nan
    with pytest.raises(DatasetError, match="NaN or infinite"):
        _ = LatentDataset(path).latents


@pytest.mark.parametrize("name", ["data", "model", "size"])
def test_damaged_attributes_are_refused(tmp_path: Path, name: str) -> None:
    write_noise(tmp_path / "pixels.h5")
    path = encode(noise_model(), tmp_path / "pixels.h5", tmp_path / "z.h5").path
    with h5py.File(path, "r+") as file:
        file.attrs["latent"] = file.attrs["latent"].replace(f'"{name}"', '"gone"')
    with pytest.raises(DatasetError, match="damaged attributes"):
        LatentDataset(path)
