"""DatasetWriter: nothing half-written under the name, no finished episode lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codec, all that a plain reader needs
import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_data import (
    assert_same_episode,
    make_episode,
    make_info,
    names_in,
    write_dataset,
)

from latentwrap.datasets import Dataset, DatasetWriter
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.pixels import FrameSpec


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def test_a_file_is_readable_with_plain_h5py(path: Path) -> None:
    episodes = write_dataset(path, [3, 12, 1])
    with h5py.File(path) as file:
        assert file.attrs["format"] == "latentwrap"
        assert file.attrs["version"] == 1
        assert file["episodes/start"][:].tolist() == [0, 4, 17]
        assert file["episodes/length"][:].tolist() == [4, 13, 2]
        assert file["frames"].chunks == (2, 4, 6, 3)
        expected = {
            "frames": np.concatenate([e.frames for e in episodes]),
            "state/state": np.concatenate([e.states["state"] for e in episodes]),
            "actions": np.concatenate([[*e.actions, [0, 0]] for e in episodes]),
            "rewards": np.concatenate([[*e.rewards, 0] for e in episodes]),
        }
        for name, values in expected.items():
            np.testing.assert_array_equal(file[name][:], values)
        assert np.flatnonzero(file["truncations"][:]).tolist() == [2, 15, 17]
        assert not file["terminations"][:].any()
        dtypes = {n: file[n].dtype for n in ("frames", "actions", "rewards", "terminations")}
        assert dtypes == {
            "frames": np.uint8,
            "actions": np.float32,
            "rewards": np.float32,
            "terminations": np.bool_,
        }


def test_nothing_is_under_the_name_until_all_is_whole(path: Path) -> None:
    with DatasetWriter(path, make_info()) as writer:
        writer.add(make_episode(3))
        assert not path.exists()
        parts = list(partial(path).glob("*.h5"))
        assert_same_episode(Dataset(parts[0]).episode(0), make_episode(3))
    assert names_in(path.parent) == [path.name]


def test_an_explicit_finish_is_enough(path: Path) -> None:
    with DatasetWriter(path, make_info()) as writer:
        writer.add(make_episode(3))
        writer.finish()
        assert Dataset(path).num_episodes == 1
    assert Dataset(path).num_episodes == 1


def test_without_episodes_nothing_is_written(path: Path) -> None:
    writer = DatasetWriter(path, make_info())
    with pytest.raises(DatasetError, match="no whole episode"):
        writer.finish()
    assert names_in(path.parent) == []


def test_an_existing_file_is_refused_and_untouched(path: Path) -> None:
    path.write_bytes(b"mine")
    with pytest.raises(OutputExists, match=r"data\.h5 exists already.*--force"):
        DatasetWriter(path, make_info())
    assert path.read_bytes() == b"mine"
    assert not partial(path).exists()


def fail_after_one_episode(path: Path, **kwargs: Any) -> None:
    with DatasetWriter(path, make_info(), **kwargs) as writer:
        writer.add(make_episode(3))
        raise RuntimeError("stop")


def test_force_keeps_the_old_file_until_the_new_one_is_whole(path: Path) -> None:
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="stop"):
        fail_after_one_episode(path, force=True)
    assert path.read_bytes() == b"old"
    with DatasetWriter(path, make_info(), force=True) as writer:
        writer.add(make_episode(4))
    assert Dataset(path).lengths.tolist() == [5]


def test_an_interrupted_run_is_refused_dropped_or_resumed(path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        fail_after_one_episode(path)
    assert not path.exists()
    with pytest.raises(OutputExists, match=r"data\.h5\.partial.*--resume.*--force"):
        DatasetWriter(path, make_info())
    resumed = DatasetWriter(path, make_info(), resume=True)
    assert (resumed.episodes, resumed.transitions) == (1, 3)
    resumed.close()
    dropped = DatasetWriter(path, make_info(), force=True)
    assert (dropped.episodes, dropped.transitions) == (0, 0)
    assert list(partial(path).glob("*.h5")) == []
    dropped.close()
    assert names_in(path.parent) == []


def test_resume_drops_unreadable_parts_and_keeps_the_others_in_order(path: Path) -> None:
    writer = DatasetWriter(path, make_info())
    episodes = [make_episode(steps) for steps in (2, 3, 4, 5)]
    for episode in episodes:
        writer.add(episode)
    writer.close()
    parts = sorted(partial(path).glob("*.h5"))
    parts[0].write_bytes(b"")
    parts[2].write_bytes(parts[2].read_bytes()[:-100])
    (partial(path) / ".00000009.1.tmp.h5").write_bytes(parts[1].read_bytes())
    with DatasetWriter(path, make_info(), resume=True) as resumed:
        assert (resumed.episodes, resumed.transitions) == (2, 8)
        resumed.add(make_episode(7))
    data = Dataset(path)
    for number, expected in enumerate([episodes[1], episodes[3], make_episode(7)]):
        assert_same_episode(data.episode(number), expected)
    assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize("lost", ["damaged", "missing"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_ordered_resume_keeps_the_episodes_before_the_first_lost_one(
    path: Path, number: int, lost: str
) -> None:
    episodes = [make_episode(steps) for steps in (2, 3, 4, 5)]
    writer = DatasetWriter(path, make_info(), ordered=True)
    for episode in episodes:
        writer.add(episode)
    writer.close()
    part = sorted(partial(path).glob("*.h5"))[number]
    part.unlink() if lost == "missing" else part.write_bytes(part.read_bytes()[:100])
    once = DatasetWriter(path, make_info(), resume=True, ordered=True)
    assert (once.episodes, once.transitions) == (number, sum((2, 3, 4, 5)[:number]))
    once.add(episodes[number])
    once.close()
    # What was dropped does not come back.
    with DatasetWriter(path, make_info(), resume=True, ordered=True) as resumed:
        assert resumed.episodes == number + 1
        for episode in episodes[resumed.episodes :]:
            resumed.add(episode)
    data = Dataset(path)
    assert data.num_episodes == 4
    for place, expected in enumerate(episodes):
        assert_same_episode(data.episode(place), expected)
    assert names_in(path.parent) == [path.name]


def test_resume_without_an_interrupted_run_starts_one(path: Path) -> None:
    with DatasetWriter(path, make_info(), resume=True) as writer:
        writer.add(make_episode(3))
    assert Dataset(path).num_episodes == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"env_id": "Other-v0"}, "env_id Test-v0, now it is Other-v0"),
        ({"frame_skip": 4}, "frame_skip 2, now it is 4"),
        ({"frame": FrameSpec(height=8, width=8)}, "begun with frame "),
        ({"env_spec": "{}"}, "begun with env_spec None"),
        ({"space": spaces.Discrete(2)}, "begun with action space"),
    ],
)
def test_resume_refuses_another_source(path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        fail_after_one_episode(path)
    with pytest.raises(DatasetError, match=named):
        DatasetWriter(path, make_info(**changes), resume=True)
    assert Dataset(partial(path) / "00000000.h5").num_episodes == 1


def wrong(**changes: Any) -> Any:
    return dataclasses.replace(make_episode(3), **changes)


@pytest.mark.parametrize(
    ("episode", "sentence"),
    [
        (wrong(frames=make_episode(2).frames), r"frames to be uint8 \(4, 4, 6, 3\)"),
        (wrong(frames=make_episode(3).frames / 255), "frames to be uint8.*got float64"),
        (wrong(actions=np.zeros((3, 1), np.float32)), r"actions to be float32 \(3, 2\)"),
        (wrong(actions=np.zeros((3, 2), np.int64)), "actions to be float32.*got int64"),
        (wrong(actions=np.full((3, 2), np.nan, np.float32)), "finite actions"),
        (wrong(rewards=np.zeros(4, np.float32)), r"rewards to be float32 \(3,\)"),
        (wrong(rewards=np.float32([0, np.inf, 0])), "finite rewards"),
        (wrong(states={"state": np.zeros(4, np.float32)}), r"'state' to be float32 \(4, 1\)"),
        (wrong(states={"a/b": np.zeros((4, 1), np.float32)}), "without '/', got 'a/b'"),
        (wrong(actions=np.zeros((0, 2), np.float32)), "at least one transition"),
        (wrong(rewards=None), "the same columns of every episode"),
        (wrong(states={}), "the same columns of every episode"),
        (wrong(states={"state": np.zeros((4, 1), np.float32)}), "the same columns of every"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(path: Path, episode: Any, sentence: str) -> None:
    with DatasetWriter(path, make_info()) as writer:
        writer.add(make_episode(5))
        with pytest.raises(DatasetError, match=sentence):
            writer.add(episode)
    assert Dataset(path).lengths.tolist() == [6]


def test_resume_remembers_the_columns(path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        fail_after_one_episode(path)
    writer = DatasetWriter(path, make_info(), resume=True)
    with pytest.raises(DatasetError, match="the same columns"):
        writer.add(make_episode(3, states=["other"]))
    writer.close()
