"""V-D4RL, 64 px npz and 84 px shards: the action that led to a frame moves to the frame before."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from latentwrap_test_counter import assert_aligned, counting_episode
from latentwrap_test_sources import write_shards, write_vd4rl

from latentwrap.datasets import Dataset, Episode
from latentwrap.datasets.importers import ImportOptions, find_format, import_dataset
from latentwrap.datasets.importers.source import Source
from latentwrap.errors import DatasetError

NAME = "20220208T{number:06d}-0123456789abcdef0123456789abcdef-{steps}.npz"


def opened(path: Path, expected: str, **options: Any) -> Source:
    found = find_format(str(path))
    assert found.name == expected
    return found.open(str(path), ImportOptions(**options))


def all_of(source: Source) -> list[Episode]:
    found = list(source.episodes())
    assert source.count == len(found)
    return found


def assert_same(found: Episode, expected: Episode) -> None:
    assert_aligned(found)
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.actions, expected.actions)
    np.testing.assert_array_equal(found.rewards, expected.rewards)
    assert (found.terminated, found.truncated) == (expected.terminated, expected.truncated)


@pytest.fixture
def walker(tmp_path: Path) -> Path:
    """Two episodes; the second terminates, which files of older versions say by the discount."""
    folder = tmp_path / "main/walker_walk/random/64px"
    folder.mkdir(parents=True)
    for number, steps in enumerate((7, 300)):
        episode = counting_episode(steps, number, terminated=number == 1)
        rows = np.arange(steps + 1, dtype=np.float32)
        write_vd4rl(
            folder / NAME.format(number=number, steps=steps),
            episode,
            height=rows,
            orientations=np.repeat(rows[:, None], 14, axis=1),
            log_speed=rows,
        )
    return folder


def test_episodes_of_npz_are_aligned(walker: Path) -> None:
    source = opened(walker, "vd4rl")
    found = all_of(source)
    for number, episode in enumerate(found):
        steps = (7, 300)[number]
        assert_same(episode, counting_episode(steps, number, terminated=number == 1))
        assert {n: v.shape for n, v in episode.states.items()} == {
            "height": (steps + 1, 1),
            "orientations": (steps + 1, 14),
        }
        np.testing.assert_array_equal(episode.states["height"][:, 0], np.arange(steps + 1))
    assert source.info.env_id == "vd4rl/walker_walk_random"
    assert source.info.frame_skip == 2
    assert source.info.action.space.is_bounded()
    assert source.lossy is None


def test_is_terminal_counts_where_it_is(tmp_path: Path) -> None:
    for number, terminal in enumerate((False, True)):
        episode = counting_episode(4, number, terminated=True)
        flags = np.zeros(5, bool)
        flags[-1] = terminal
        write_vd4rl(tmp_path / f"{number}.npz", episode, is_terminal=flags)
    ends = [(e.terminated, e.truncated) for e in all_of(opened(tmp_path, "vd4rl"))]
    assert ends == [(False, True), (True, False)]


def test_options_are_taken(walker: Path) -> None:
    source = opened(
        walker, "vd4rl", frame_skip=4, env_id="mine", height=32, width=32, grey=True,
        vector_keys=("orientations",),
    )  # fmt: skip
    episode = next(source.episodes(first=1))
    assert (source.info.env_id, source.info.frame_skip) == ("mine", 4)
    assert episode.frames.shape == (301, 32, 32, 1)
    assert episode.vectors["orientations"].shape == (301, 14)


def test_the_whole_way_into_a_file(walker: Path, tmp_path: Path) -> None:
    result = import_dataset(walker, tmp_path / "walker.h5")
    assert (result.format, result.episodes, result.transitions) == ("vd4rl", 2, 307)
    data = Dataset(tmp_path / "walker.h5")
    assert_same(data.episode(1), counting_episode(300, 1, terminated=True))


def peak_of(episodes: Iterator[Episode]) -> int:
    """Bytes that Python held at most while all episodes were read and dropped."""
    tracemalloc.start()
    for _ in episodes:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_large_images_are_unpacked_block_by_block(tmp_path: Path) -> None:
    rows, image = 1500, np.zeros((1500, 128, 128, 3), np.uint8)
    columns = {name: np.zeros(rows, np.float32) for name in ("reward", "discount")}
    np.savez_compressed(
        tmp_path / "a.npz", image=image, action=np.zeros((rows, 1), np.float32), **columns
    )
    source = opened(tmp_path, "vd4rl", height=16, width=16)
    assert peak_of(source.episodes()) < image.nbytes / 3


def test_a_damaged_file_is_named(walker: Path) -> None:
    first, second = sorted(walker.glob("*.npz"))
    second.write_bytes(second.read_bytes()[:-200])
    episodes = opened(walker, "vd4rl").episodes()
    assert_aligned(next(episodes))
    with pytest.raises(DatasetError, match=second.name):
        next(episodes)
    first.write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=first.name):
        opened(walker, "vd4rl")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": np.zeros((8, 32, 32, 3), np.uint8)}, "import them apart"),
        ({"action": np.zeros((5, 1), np.float32)}, "5 rows of 'action'"),
        ({"reward": np.zeros(9, np.float32)}, "9 rows of 'reward'"),
        ({"height": np.zeros(3, np.float32)}, "3 rows of 'height'"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    walker: Path, change: dict[str, np.ndarray], reason: str
) -> None:
    path = sorted(walker.glob("*.npz"))[0]
    other = walker / NAME.format(number=2, steps=7)
    with np.load(path) as file:
        np.savez_compressed(other, **{**dict(file), **change})
    with pytest.raises(DatasetError, match=reason):
        all_of(opened(walker, "vd4rl"))


LENGTHS = (6, 9, 4, 300)
ROWS = [7, 17, 22]
"""Where the second, third and fourth episode begin."""


@pytest.fixture
def episodes() -> list[Episode]:
    return [
        counting_episode(steps, number, size=84, terminated=number == 2)
        for number, steps in enumerate(LENGTHS)
    ]


@pytest.mark.parametrize(
    "cuts",
    [[], [7], [10], [6, 8], [1, 2, 3], [17, 22, 300], [8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20]],
    ids=str,
)
def test_episodes_are_joined_across_shards(
    tmp_path: Path, episodes: list[Episode], cuts: list[int]
) -> None:
    write_shards(tmp_path, episodes, cuts)
    source = opened(tmp_path, "vd4rl_shards", height=84, width=84)
    found = all_of(source)
    assert len(found) == len(episodes)
    for episode, expected in zip(found, episodes, strict=True):
        assert_same(episode, expected)
    assert_same(next(source.episodes(first=3)), episodes[3])
    source.close()
    source.close()


def test_shards_become_a_file(tmp_path: Path, episodes: list[Episode]) -> None:
    folder = tmp_path / "cheetah_run/expert/84px"
    folder.mkdir(parents=True)
    write_shards(folder, episodes, [10, 30])
    result = import_dataset(folder, tmp_path / "cheetah.h5")
    data = Dataset(tmp_path / "cheetah.h5")
    assert (result.format, result.transitions) == ("vd4rl_shards", sum(LENGTHS))
    assert data.info.env_id == "vd4rl/cheetah_run_expert"
    assert data.info.frame_skip == 2
    for number in range(len(LENGTHS)):
        assert_aligned(data.episode(number))


def test_one_episode_of_a_shard_is_in_memory_at_a_time(tmp_path: Path) -> None:
    episodes = [counting_episode(60, number, size=84) for number in range(20)]
    write_shards(tmp_path, episodes, [])
    whole = sum(episode.frames.nbytes for episode in episodes)
    assert peak_of(opened(tmp_path, "vd4rl_shards").episodes()) < whole / 3


def test_one_shard_may_be_named_alone(tmp_path: Path, episodes: list[Episode]) -> None:
    write_shards(tmp_path, episodes, [12])
    found = all_of(opened(tmp_path / "0.hdf5", "vd4rl_shards", height=84, width=84))
    assert_same(found[0], episodes[0])
    assert found[1].truncated
    np.testing.assert_array_equal(found[1].frames, episodes[1].frames[:5])
    np.testing.assert_array_equal(found[1].actions, episodes[1].actions[:4])


def test_an_episode_without_its_end_is_cut(tmp_path: Path, episodes: list[Episode]) -> None:
    write_shards(tmp_path, episodes, [12, 17])
    (tmp_path / "1.hdf5").unlink()
    found = all_of(opened(tmp_path, "vd4rl_shards", height=84, width=84))
    assert [len(e.actions) for e in found] == [6, 4, 4, 300]
    assert found[1].truncated
    for episode in found:
        assert_aligned(episode)


def test_damaged_shards_are_refused(tmp_path: Path, episodes: list[Episode]) -> None:
    write_shards(tmp_path, episodes, [12])
    second = tmp_path / "1.hdf5"
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"1\.hdf5"):
        opened(tmp_path, "vd4rl_shards")
    second.write_bytes(whole)
    with h5py.File(second, "r+") as file:
        rewards = file["reward"][:-1]
        del file["reward"]
        file["reward"] = rewards
    with pytest.raises(DatasetError, match=r"1\.hdf5.*lengths"):
        opened(tmp_path, "vd4rl_shards")
    with h5py.File(second, "r+") as file:
        del file["reward"]
    with pytest.raises(DatasetError, match=r"1\.hdf5.*reward"):
        opened(tmp_path, "vd4rl_shards")
