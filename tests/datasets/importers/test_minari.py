"""Minari: datasets that `minari` itself wrote, in each of its backends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_counter import assert_aligned
from latentwrap_test_foreign import ENDS, LENGTHS, counted
from minari import create_dataset_from_buffers
from minari.data_collector import EpisodeBuffer

from latentwrap.datasets import Dataset, Episode
from latentwrap.datasets.importers import ImportOptions, LossySource, import_dataset
from latentwrap.errors import DatasetError, EnvironmentMismatch

NAME = "test/counter-v0"
IMAGE = spaces.Box(0, 255, (64, 64, 3), np.uint8)
CAMERAS = spaces.Dict(
    front=IMAGE, robot=spaces.Dict(wrist=IMAGE, joints=spaces.Box(-99, 99, (2,), np.float64))
)
BACKENDS = ("hdf5", "arrow", "parquet")
pytestmark = pytest.mark.filterwarnings("ignore:(`eval_env`|env_spec) is:UserWarning")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where minari keeps its datasets."""
    folder = tmp_path / "minari"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


def observations_of(episode: Episode) -> dict[str, Any]:
    """What `CAMERAS` observes: joints are the step and its negative."""
    steps = episode.states["step"].astype(np.float64)
    robot = {"wrist": 255 - episode.frames, "joints": np.concatenate([steps, -steps], axis=1)}
    return {"front": episode.frames, "robot": robot}


def buffer_of(episode: Episode, observations: Any) -> EpisodeBuffer:
    ended = np.arange(1, len(episode.actions) + 1) == len(episode.actions)
    return EpisodeBuffer(
        observations=observations,
        actions=episode.actions,
        rewards=list(episode.rewards if episode.rewards is not None else ()),
        terminations=list(ended & episode.terminated),
        truncations=list(ended & episode.truncated),
        infos={
            "state": {"height": episode.states["step"][:, 0]},
            "note": ["text is left out"] * len(episode.frames),
        },
    )


def create(buffers: Sequence[EpisodeBuffer], space: spaces.Space = IMAGE, **kwargs: Any) -> None:
    action_space = kwargs.pop("action_space", spaces.Box(-1, 1, (1,), np.float32))
    create_dataset_from_buffers(
        NAME,
        list(buffers),
        observation_space=space,
        action_space=action_space,
        algorithm_name="random",
        author="someone",
        author_email="someone@example.org",
        code_permalink="nowhere",
        description="counted",
        **kwargs,
    )


def create_plain(**kwargs: Any) -> list[Episode]:
    """Episodes whose observation is the image."""
    episodes = counted()
    create([buffer_of(episode, episode.frames) for episode in episodes], **kwargs)
    return episodes


def imported(path: Path, source: str | Path = f"minari:{NAME}", **options: Any) -> Dataset:
    import_dataset(source, path, options=ImportOptions(**options), force=True)
    return Dataset(path)


@pytest.mark.parametrize("data_format", BACKENDS)
@pytest.mark.parametrize("jpeg", [True, False])
def test_cameras_vectors_states_and_ends(path: Path, data_format: str, *, jpeg: bool) -> None:
    episodes = counted()
    buffers = [buffer_of(episode, observations_of(episode)) for episode in episodes]
    create(buffers, CAMERAS, data_format=data_format, jpeg_encoding=jpeg)
    with pytest.warns(LossySource, match="JPEG") if jpeg else nullcontext():
        data = imported(
            path, image_keys=("front", "robot.wrist"), vector_keys=("robot.joints",), env_id="me"
        )
    assert (data.info.env_id, data.info.provenance["format"]) == ("me", "minari")
    assert data.info.provenance.get("lossy") == (
        "its images went through JPEG, which blurs small objects and edges." if jpeg else None
    )
    assert data.info.action.space == spaces.Box(-1, 1, (1,), np.float32)
    assert (data.info.frame.names, list(data.states)) == (
        ("front", "robot.wrist"),
        ["state.height"],
    )
    assert (data.lengths - 1).tolist() == list(LENGTHS)
    for number, end in enumerate(ENDS):
        episode = data.episode(number)
        assert (episode.terminated, episode.truncated) == (end, not end)
        front, wrist = np.split(episode.frames, 2, axis=2)
        assert_aligned(replace(episode, frames=front))
        np.testing.assert_allclose(wrist, 255.0 - front, atol=2 if jpeg else 0)
        steps = np.arange(len(front))
        joints = np.stack([steps, -steps], axis=1)
        np.testing.assert_array_equal(episode.vectors["robot.joints"], joints)
        np.testing.assert_array_equal(episode.states["state.height"][:, 0], steps)


@pytest.mark.parametrize("data_format", BACKENDS)
def test_an_image_that_is_the_observation(path: Path, home: Path, data_format: str) -> None:
    episodes = create_plain(data_format=data_format, jpeg_encoding=False)
    for source in (f"minari:{NAME}", home / NAME, home / NAME / "data"):
        data = imported(path, source)
        assert (data.info.env_id, data.info.frame.names) == (NAME, ())
        for number, want in enumerate(episodes):
            episode = data.episode(number)
            assert_aligned(episode)
            np.testing.assert_array_equal(episode.frames, want.frames)


def test_an_info_that_an_episode_lacks_is_unknown_there(path: Path) -> None:
    first, second = counted((3, 4))
    bare = replace(buffer_of(second, second.frames), infos=None)
    create([buffer_of(first, first.frames), bare], jpeg_encoding=False)
    data = imported(path)
    assert np.isfinite(data.episode(0).states["state.height"]).all()
    assert np.isnan(data.episode(1).states["state.height"]).all()


def test_discrete_actions_keep_their_space(path: Path) -> None:
    (episode,) = counted((5,))
    actions = np.array([2, 1, 3, 3, 1])
    buffer = replace(buffer_of(episode, episode.frames), actions=actions)
    create([buffer], action_space=spaces.Discrete(3, start=1), jpeg_encoding=False)
    data = imported(path)
    assert data.info.action.space == spaces.Discrete(3, start=1)
    assert data.episode(0).actions[:, 0].tolist() == actions.tolist()


def test_what_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no Minari dataset 'test/none-v3'.*minari download"):
        imported(path, "minari:test/none-v3")
    with pytest.raises(DatasetError, match=r"'\.\./\.\./x' is no name of a Minari dataset"):
        imported(path, "minari:../../x")


def test_observations_without_images_are_refused(path: Path) -> None:
    (episode,) = counted((5,))
    create([buffer_of(episode, episode.states["step"])], spaces.Box(0, 99, (1,), np.float32))
    with pytest.raises(DatasetError, match=r"holds no images, only numbers of shape \(1,\)"):
        imported(path)


def test_cameras_must_be_named(path: Path) -> None:
    (episode,) = counted((5,))
    create([buffer_of(episode, observations_of(episode))], CAMERAS, jpeg_encoding=False)
    with pytest.raises(EnvironmentMismatch, match=r"front, robot\.wrist: name one or several"):
        imported(path)


def test_a_dataset_cannot_have_code_of_its_choice_run(path: Path, home: Path) -> None:
    """Without spaces `minari` would make the environment that the dataset names."""
    create_plain(jpeg_encoding=False)
    metadata = home / NAME / "data/metadata.json"
    told = json.loads(metadata.read_text())
    marker = home / "ran"
    told["env_spec"] = json.dumps(
        {"id": "Evil-v0", "entry_point": "os:mkdir", "kwargs": {"path": str(marker)}}
    )
    del told["action_space"]
    metadata.write_text(json.dumps(told))
    with pytest.raises(DatasetError, match="lacks the action_space in its metadata"):
        imported(path)
    assert not marker.exists()


def test_a_damaged_episode_is_named(path: Path, home: Path) -> None:
    create_plain(jpeg_encoding=False)
    with h5py.File(home / NAME / "data/main_data.hdf5", "r+") as file:
        del file["episode_1/rewards"]
    with pytest.raises(DatasetError, match=r"Episode 1 of minari:test/counter-v0 is damaged"):
        imported(path)
    shutil.rmtree(path.with_name(path.name + ".partial"))


def test_jpegs_of_different_lengths_are_read(path: Path, home: Path) -> None:
    """`minari` stores them as lists of bytes, each of its own length."""
    (episode,) = counted((6,))
    noise = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3)).astype(np.uint8)
    noise[::2] //= 8
    create([buffer_of(episode, noise)])
    with h5py.File(home / NAME / "data/main_data.hdf5") as file:
        assert h5py.check_vlen_dtype(file["episode_0/observations"].dtype) == np.uint8
    with pytest.warns(LossySource, match="JPEG"):
        found = imported(path).episode(0).frames
    errors = np.abs(found.astype(float) - noise).mean(axis=(1, 2, 3))
    swapped = np.abs(found[::-1].astype(float) - noise).mean(axis=(1, 2, 3))
    assert (errors < swapped).sum() == 6  # all but the one in the middle
