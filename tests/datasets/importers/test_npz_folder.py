"""A folder of npz, one an episode: which names are understood, and which counts fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_counter import assert_aligned, counting_episode

from latentwrap.datasets import Dataset, Episode
from latentwrap.datasets.importers import ImportOptions, find_format, import_dataset
from latentwrap.datasets.importers.source import Source
from latentwrap.errors import DatasetError, EnvironmentMismatch


def opened(path: Path, **options: Any) -> Source:
    found = find_format(str(path))
    assert found.name == "npz"
    return found.open(str(path), ImportOptions(**options))


def write(path: Path, episode: Episode, **extra: Any) -> None:
    ends = np.zeros(len(episode.actions), bool)
    ends[-1] = episode.terminated
    columns = {
        "frames": episode.frames,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "terminations": ends,
    }
    columns.update(extra)
    np.savez(path, **{name: values for name, values in columns.items() if values is not None})


def test_one_frame_more_than_actions_keeps_everything(tmp_path: Path) -> None:
    wanted = [counting_episode(n + 3, n, terminated=n == 1) for n in range(3)]
    for number, episode in enumerate(wanted):
        write(tmp_path / f"{number}.npz", episode, state=episode.states["step"])
    source = opened(tmp_path)
    for episode, expected in zip(source.episodes(), wanted, strict=True):
        assert_aligned(episode)
        np.testing.assert_array_equal(episode.actions, expected.actions)
        assert (episode.terminated, episode.truncated) == (expected.terminated, expected.truncated)
        np.testing.assert_array_equal(episode.states["state"], expected.states["step"])
    assert (source.count, source.info.env_id, source.info.frame_skip) == (3, tmp_path.name, 1)
    assert len(next(source.episodes(first=2)).actions) == 5


def test_as_many_frames_as_actions_drop_the_last_action(tmp_path: Path) -> None:
    whole = counting_episode(9, 0, terminated=True)
    write(tmp_path / "a.npz", whole, frames=whole.frames[:-1])
    episode = next(opened(tmp_path).episodes())
    assert_aligned(episode)
    assert (len(episode.frames), len(episode.actions)) == (9, 8)
    assert episode.terminated


def test_other_names_and_missing_columns(tmp_path: Path) -> None:
    episode = counting_episode(6, 0)
    np.savez(tmp_path / "a.npz", obs=episode.frames.transpose(0, 3, 1, 2), action=episode.actions)
    source = opened(tmp_path)
    found = next(source.episodes())
    assert_aligned(found)
    assert found.rewards is None
    assert found.truncated


def test_cameras_and_vectors_are_named(tmp_path: Path) -> None:
    episode = counting_episode(6, 0)
    joints = np.stack([np.arange(7), -np.arange(7)], axis=1)
    write(tmp_path / "a.npz", episode, wrist=episode.frames[:, ::2, ::2], joints=joints)
    source = opened(tmp_path, image_keys=("wrist", "frames"), vector_keys=("joints",))
    found = next(source.episodes())
    assert source.info.frame.names == ("wrist", "frames")
    assert found.frames.shape == (7, 64, 128, 3)
    np.testing.assert_array_equal(found.frames[:, :, 64:], episode.frames)
    np.testing.assert_array_equal(found.vectors["joints"], joints)
    with pytest.raises(EnvironmentMismatch, match="elbow"):
        opened(tmp_path, image_keys=("elbow",))


@pytest.mark.parametrize(
    ("actions", "space"),
    [
        (np.array([0, 2, 1]), spaces.Discrete(3)),
        (np.array([[0, 1], [3, 0], [1, 1]]), spaces.MultiDiscrete([4, 2])),
        (np.array([[-1.0], [0.5], [1.0]]), spaces.Box(-1, 1, (1,))),
    ],
    ids=str,
)
def test_the_action_space_is_told_by_the_actions(
    tmp_path: Path, actions: np.ndarray, space: spaces.Space[Any]
) -> None:
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "a.npz", frames=frames, actions=actions[:1].repeat(3, axis=0))
    np.savez(tmp_path / "b.npz", frames=frames, actions=actions)
    source = opened(tmp_path)
    assert source.info.action.matches(space)
    stored = [episode.actions for episode in source.episodes()][1]
    np.testing.assert_array_equal(stored, actions.reshape(3, -1))


def test_the_whole_way_into_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(3):
        write(folder / f"{number}.npz", counting_episode(5, number))
    result = import_dataset(folder, tmp_path / "mine.h5")
    assert (result.format, result.episodes, result.transitions) == ("npz", 3, 15)
    assert_aligned(Dataset(tmp_path / "mine.h5").episode(2))


def test_counts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    episode = counting_episode(6, 0)
    for extra, reason in (
        ({"frames": episode.frames[:-2]}, "5 frames and 6 actions"),
        ({"rewards": np.zeros(4)}, "6 actions but 4 rows of 'rewards'"),
        ({"terminations": np.zeros(9)}, "9 rows of 'terminations'"),
        ({"frames": episode.frames[:0]}, "some"),
    ):
        write(tmp_path / "a.npz", episode, **extra)
        with pytest.raises(DatasetError, match=rf"a\.npz.*{reason}"):
            next(opened(tmp_path).episodes())


def test_a_file_that_differs_from_the_first_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", counting_episode(3, 0))
    write(tmp_path / "b.npz", counting_episode(3, 0, size=32))
    with pytest.raises(DatasetError, match=r"b\.npz.*import them apart"):
        list(opened(tmp_path).episodes())
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    with pytest.raises(DatasetError, match=r"b\.npz"):
        opened(tmp_path)


def test_without_images_or_actions_nothing_is_recognised(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", actions=np.zeros((3, 2)), speed=np.zeros(3))
    with pytest.raises(DatasetError, match="no format"):
        find_format(str(tmp_path))
    np.savez(tmp_path / "a.npz", frames=np.zeros((3, 16, 16, 3), np.uint8), speed=np.zeros(3))
    with pytest.raises(DatasetError, match="actions, action, it holds frames, speed"):
        find_format(str(tmp_path), "npz").open(str(tmp_path), ImportOptions())
