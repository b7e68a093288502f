"""The replay on disk: written once, loaded whole, and never less than the save before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from tests.joint.worlds import (
    BOX,
    DISCRETE,
    FRAME,
    VECTORS,
    Played,
    make_replay,
    play_into,
)

from latentwrap.actions import ActionSpec
from latentwrap.datasets import Dataset, DatasetInfo
from latentwrap.errors import CheckpointError
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.joint.store import ReplayStore, add_episodes, read_episode
from latentwrap.vectors import VectorSpec


def make_info(actions: spaces.Space = BOX, *, vectors: bool = False) -> DatasetInfo:
    spec = VECTORS if vectors else VectorSpec()
    return DatasetInfo(env_id="Diary", action=ActionSpec(actions), frame=FRAME, vectors=spec)


def contents(replay: SequenceReplay) -> set[tuple[Any, ...]]:
    """Every transition as bytes."""
    if not len(replay):
        return set()
    ends = np.concatenate([each.rows[1:] for each in replay.episodes()])
    before = replay.before(ends, 1)
    columns = [
        replay.frames(before), replay.stored_actions(before), replay.rewards(before),
        replay.terminated(before), replay.frames(ends), replay.vectors(before),
        replay.vectors(ends),
    ]  # fmt: skip
    found = {tuple(column[i].tobytes() for column in columns) for i in range(len(ends))}
    assert len(found) == len(replay)
    return found


def kinds(listed: Any) -> list[str]:
    return [each["kind"] for each in listed]


def file_of(folder: Path, listed: Any, number: int) -> Path:
    return folder / str(listed[number]["name"])


def loaded(folder: Path, listed: Any, replay: SequenceReplay, **kwargs: Any) -> SequenceReplay:
    ReplayStore(folder, make_info(**kwargs)).load(replay, listed)
    return replay


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
def test_what_is_saved_is_loaded(tmp_path: Path, actions: spaces.Space, vectors: bool) -> None:
    replay = make_replay(actions=actions, vectors=vectors)
    play_into(replay, (5, 1, 9, 4), vectors=vectors)
    store = ReplayStore(tmp_path / "replay", make_info(actions, vectors=vectors))
    listed = store.save(replay)
    assert kinds(listed) == ["ended", "open"]
    again = loaded(
        tmp_path / "replay", listed, make_replay(actions=actions, vectors=vectors),
        actions=actions, vectors=vectors,
    )  # fmt: skip
    assert contents(again) == contents(replay)
    assert not any(each.open for each in again.episodes())  # nobody goes on with it


def test_the_files_are_datasets(tmp_path: Path) -> None:
    replay = make_replay(vectors=True)
    episodes = play_into(replay, (5, 2, 3), vectors=True)
    listed = ReplayStore(tmp_path, make_info(vectors=True)).save(replay)
    data = Dataset([file_of(tmp_path, listed, number) for number in (0, 1)])
    assert data.num_episodes == 3
    for number, (found, expected) in enumerate(
        zip(map(data.episode, range(3)), episodes, strict=True)
    ):
        np.testing.assert_array_equal(found.frames, np.stack(expected.frames))
        np.testing.assert_array_equal(found.actions, np.stack(expected.actions))
        np.testing.assert_array_equal(found.rewards, np.float32(expected.rewards))
        assert found.terminated == (number == 0)
        assert found.truncated == (not found.terminated)
        both = np.concatenate([found.vectors["joints"], found.vectors["grip"]], axis=1)
        np.testing.assert_array_equal(both, np.stack(expected.vectors))


def test_a_save_writes_what_is_new(tmp_path: Path) -> None:
    replay, store = make_replay(), ReplayStore(tmp_path, make_info())
    play_into(replay, (4, 3), seed=0)
    before = store.save(replay)
    stamp = file_of(tmp_path, before, 0).stat().st_mtime_ns
    assert [each["transitions"] for each in before] == [4, 3]
    step_on(replay, 2, ended=True)
    play_into(replay, (6, 1), seed=1)
    listed = store.save(replay)
    assert kinds(listed) == ["ended", "ended", "open"]
    assert [each["transitions"] for each in listed] == [4, 11, 1]
    assert listed[0] == before[0]
    assert file_of(tmp_path, listed, 0).stat().st_mtime_ns == stamp
    assert Dataset(file_of(tmp_path, listed, 0)).lengths.tolist() == [5]
    assert Dataset(file_of(tmp_path, listed, 1)).lengths.tolist() == [6, 7]
    assert Dataset(file_of(tmp_path, listed, 2)).lengths.tolist() == [2]
    assert contents(loaded(tmp_path, listed, make_replay())) == contents(replay)
    # Nothing new: no file of ended episodes more.
    assert store.save(replay)[:2] == listed[:2]


def test_a_save_leaves_the_one_before_until_it_is_tidied(tmp_path: Path) -> None:
    """A process that is killed before it wrote the list of its save loses nothing."""
    replay, store = make_replay(30), ReplayStore(tmp_path, make_info())
    lists: list[tuple[Any, set[Any]]] = []
    for seed in range(6):
        play_into(replay, (7, 3, 2), seed=seed)
        lists.append((store.save(replay), contents(replay)))
        for listed, expected in lists[-2:]:
            assert contents(loaded(tmp_path, listed, make_replay(30))) == expected
        store.tidy(lists[-1][0])
        names = {path.name for path in tmp_path.glob("*.h5")}
        assert names == {each["name"] for each in lists[-1][0]}
        lists.pop(0) if len(lists) > 1 else None
    assert len(lists[-1][0]) < 6  # the oldest are forgotten


def step_on(replay: SequenceReplay, steps: int, *, ended: bool) -> None:
    """Go on with the episode of lane 0."""
    rng = np.random.default_rng(int(replay.kept[0]))
    for t in range(steps):
        replay.step(
            0,
            rng.uniform(0, 1, 2).astype(np.float32),
            float(rng.normal()),
            rng.integers(0, 256, FRAME.shape, np.uint8),
            np.zeros(replay.spec.vectors, np.float32),
            terminated=False,
            ended=ended and t == steps - 1,
        )


def test_a_loaded_replay_goes_on_saving(tmp_path: Path) -> None:
    replay = make_replay()
    play_into(replay, (4, 3))
    listed = ReplayStore(tmp_path, make_info()).save(replay)
    again, store = make_replay(), ReplayStore(tmp_path, make_info())
    store.load(again, listed)
    play_into(again, (2, 5), seed=1)
    listed = store.save(again)
    # What was open has ended where it was, and is written for good now.
    assert kinds(listed) == ["ended", "ended", "open"]
    assert Dataset(file_of(tmp_path, listed, 1)).lengths.tolist() == [4, 3]
    assert contents(loaded(tmp_path, listed, make_replay())) == contents(again)


def test_files_that_a_killed_process_left_go(tmp_path: Path) -> None:
    replay = make_replay()
    play_into(replay, (4, 3))
    listed = ReplayStore(tmp_path, make_info()).save(replay)
    killed = make_replay()
    store = ReplayStore(tmp_path, make_info())
    store.load(killed, listed)
    play_into(killed, (7, 2), seed=5)
    store.save(killed)  # and its list was never written
    (tmp_path / "ended-000007.h5").write_bytes(b"from nowhere")
    (tmp_path / "open-000008.h5.partial").mkdir()
    again, store = make_replay(), ReplayStore(tmp_path, make_info())
    store.load(again, listed)
    play_into(again, (2, 1), seed=1)
    listed = store.save(again)
    assert contents(loaded(tmp_path, listed, make_replay())) == contents(again)
    store.tidy(listed)
    assert {path.name for path in tmp_path.iterdir()} == {each["name"] for each in listed}


def test_a_store_that_begins_anew_leaves_what_was_saved_until_it_is_tidied(tmp_path: Path) -> None:
    """Another agent is saved into a folder, and killed before its list was written."""
    replay, other = make_replay(), make_replay()
    play_into(replay, (4, 3))
    play_into(other, (7, 2), seed=5)
    listed = ReplayStore(tmp_path, make_info()).save(replay)
    store = ReplayStore(tmp_path, make_info())
    newer = store.save(other)
    assert contents(loaded(tmp_path, listed, make_replay())) == contents(replay)
    store.tidy(newer)
    assert contents(loaded(tmp_path, newer, make_replay())) == contents(other)
    assert {path.name for path in tmp_path.iterdir()} == {each["name"] for each in newer}


def test_another_save_of_an_empty_replay_is_empty(tmp_path: Path) -> None:
    store = ReplayStore(tmp_path, make_info())
    assert store.save(make_replay()) == []
    assert len(loaded(tmp_path, [], make_replay())) == 0


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_file_that_is_gone_or_damaged_is_named(tmp_path: Path, number: int, how: str) -> None:
    replay = make_replay()
    play_into(replay, (4, 3))
    listed = ReplayStore(tmp_path, make_info()).save(replay)
    path = file_of(tmp_path, listed, number)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"no HDF5" * 99)
    with pytest.raises(
        CheckpointError, match=rf"{path.name}.*put the file back, or begin"
    ) as error:
        loaded(tmp_path, listed, make_replay())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(4))
def test_old_files_go_when_nothing_of_them_is_left(tmp_path: Path, seed: int) -> None:
    """A replay that turned over many times: all of it is on disk, and little more."""
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(6, 30))
    replay, store = make_replay(capacity), ReplayStore(tmp_path, make_info())
    for number in range(9):
        play_into(replay, tuple(rng.integers(1, 9, rng.integers(1, 4)).tolist()), seed=number)
        if rng.random() < 0.5:
            store.tidy(store.save(replay))
    listed = store.save(replay)
    on_disk = loaded(tmp_path, listed, make_replay(10_000))
    assert contents(replay) <= contents(on_disk)
    sizes = [each["transitions"] for each in listed if each["kind"] == "ended"]
    assert sum(sizes[1:]) < capacity
    assert contents(loaded(tmp_path, listed, make_replay(capacity))) == contents(replay)


def test_lanes_that_are_not_full_are_loaded_whole(tmp_path: Path) -> None:
    replay = make_replay(120, lanes=3)
    for lane, lengths in enumerate([(5, 2, 9), (3, 1), (12, 4)]):
        play_into(replay, lengths, lane=lane, seed=lane)
    listed = ReplayStore(tmp_path, make_info()).save(replay)
    for lanes in (1, 3, 5):
        again = loaded(tmp_path, listed, make_replay(120, lanes=lanes))
        assert contents(again) == contents(replay)


@pytest.mark.parametrize("lanes", [2, 4])
def test_a_full_lane_is_spread_over_more(tmp_path: Path, lanes: int) -> None:
    replay = make_replay(60, lanes=1)
    play_into(replay, (7, 6, 5, 8, 7, 6, 7, 5), lane=0, seed=0)
    listed = ReplayStore(tmp_path, make_info()).save(replay)
    again = loaded(tmp_path, listed, make_replay(90, lanes=lanes))
    assert contents(again) == contents(replay)


def test_lanes_that_are_nearly_full_are_loaded_whole(tmp_path: Path) -> None:
    replay = make_replay(20, lanes=2)  # rings of 11 rows
    play_into(replay, (5, 4), lane=0, seed=0)
    play_into(replay, (9,), lane=1, seed=1)
    listed = ReplayStore(tmp_path, make_info()).save(replay)
    again = loaded(tmp_path, listed, make_replay(20, lanes=2))
    assert len(again) == len(replay) == 18


@pytest.mark.parametrize("actions", [BOX, DISCRETE], ids=["box", "discrete"])
def test_an_episode_is_read_as_it_was_put_in(tmp_path: Path, actions: spaces.Space) -> None:
    replay = make_replay(actions=actions, vectors=True)
    [expected, *_] = play_into(replay, (5, 2), vectors=True)
    assert isinstance(expected, Played)
    episode = read_episode(replay, replay.episodes()[0].rows, VECTORS)
    np.testing.assert_array_equal(episode.frames, np.stack(expected.frames))
    assert episode.actions.dtype == replay.spec.action.stored_dtype
    assert episode.terminated
    assert not episode.truncated
    assert [values.shape for values in episode.vectors.values()] == [(6, 2), (6, 1)]


def test_episodes_of_a_dataset_go_where_there_is_least(tmp_path: Path) -> None:
    replay = make_replay(vectors=True)
    play_into(replay, (6, 5, 2), vectors=True)
    listed = ReplayStore(tmp_path, make_info(vectors=True)).save(replay)
    other = make_replay(lanes=2, vectors=True)
    add_episodes(other, Dataset(file_of(tmp_path, listed, 0)))
    assert [(each.lane, len(each.rows)) for each in other.episodes()] == [(0, 7), (1, 6)]
