"""Windows: inside one episode, uniform, resumable; episodes held out."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latentwrap_test_data import write_dataset

from latentwrap.datasets import Dataset, Windows, WindowSampler, split_episodes
from latentwrap.errors import DatasetError
from latentwrap.seeding import numpy_generator


def sampler(
    data: Dataset, episodes: list[int] | None = None, *, length: int, batch: int = 4, seed: int = 0
) -> WindowSampler:
    chosen = np.arange(data.num_episodes) if episodes is None else np.array(episodes, np.int64)
    return WindowSampler(
        data, chosen, length=length, batch_size=batch, generator=numpy_generator(seed)
    )


def starts_of(windows: Windows, data: Dataset) -> list[int]:
    """Where windows begin, found by their first frame, of which there is only one."""
    frames = data.frames(slice(0, data.num_frames))
    keys = {frame.tobytes(): row for row, frame in enumerate(frames)}
    return [keys[frame.tobytes()] for frame in windows.frames[:, 0]]


def brute_force(lengths: list[int], episodes: list[int], length: int) -> list[int]:
    """Every row from which `length` transitions follow in the same episode."""
    owner = [number for number, steps in enumerate(lengths) for _ in range(steps + 1)]
    return [
        row
        for row in range(len(owner) - length)
        if owner[row] == owner[row + length] and owner[row] in episodes
    ]


@settings(max_examples=40)
@given(st.data())
def test_windows_are_all_that_fit_in_an_episode_and_no_other(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    numbers = st.integers(0, len(lengths) - 1)
    episodes = sorted(data.draw(st.sets(numbers, min_size=1)))
    length = data.draw(st.integers(1, 10))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.h5"
        write_dataset(path, lengths)
        dataset = Dataset(path)
        expected = brute_force(lengths, episodes, length)
        if not expected:
            with pytest.raises(DatasetError, match="requires an episode of at least"):
                sampler(dataset, episodes, length=length)
            return
        windows = sampler(dataset, episodes, length=length)
        assert windows.skipped == sum(lengths[e] < length for e in episodes)
        assert windows.num_windows == len(expected)
        found = [s for batch in windows.fixed(10**6) for s in starts_of(batch, dataset)]
        assert found == expected
        assert set(starts_of(windows.sample(), dataset)) <= set(expected)
        dataset.close()


@pytest.mark.parametrize("preload", [False, True])
def test_a_window_holds_what_belongs_to_it(path: Path, preload: bool) -> None:
    write_dataset(path, [9, 4, 7], terminated=True)
    data = Dataset(path)
    if preload:
        data.preload()
    windows = sampler(data, length=3, batch=50).sample()
    assert windows.frames.shape == (50, 4, 4, 6, 3)
    assert windows.frames.dtype == np.uint8
    assert windows.actions.shape == (50, 3, 2)
    assert windows.terminations.dtype == np.bool_
    assert windows.rewards is not None
    encoded = data.actions - np.float32([1, 1])  # bounds −1 and 3, scaled to ±1
    for index, start in enumerate(starts_of(windows, data)):
        steps = slice(start, start + 3)
        every = slice(start, start + 4)
        np.testing.assert_array_equal(windows.frames[index], data.frames(every))
        np.testing.assert_allclose(windows.actions[index], encoded[steps] / 2, atol=1e-6)
        np.testing.assert_array_equal(windows.rewards[index], data.rewards[steps])
        np.testing.assert_array_equal(windows.terminations[index], data.terminations[steps])
    assert windows.terminations.any()


def test_without_rewards_there_are_none(path: Path) -> None:
    write_dataset(path, [5], rewards=False)
    assert sampler(Dataset(path), length=2).sample().rewards is None


def test_every_start_is_equally_likely(path: Path) -> None:
    write_dataset(path, [4, 30, 2, 12])
    data = Dataset(path)
    windows = sampler(data, length=3, batch=2000, seed=1)
    counts = Counter(s for _ in range(5) for s in starts_of(windows.sample(), data))
    assert len(counts) == windows.num_windows == 2 + 28 + 10
    expected = 10_000 / windows.num_windows
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert statistic < 73  # χ² of 39 degrees: 99.9 % quantile


def test_a_sampler_goes_on_where_it_was(path: Path) -> None:
    write_dataset(path, [40])
    data = Dataset(path)
    first, second = sampler(data, length=3), sampler(data, length=3, seed=5)
    first.sample()
    state = json.loads(json.dumps(first.state()))
    expected = [first.sample().frames for _ in range(3)]
    second.restore(state)
    for frames in expected:
        np.testing.assert_array_equal(second.sample().frames, frames)


def test_fixed_windows_are_evenly_spaced_and_draw_nothing(path: Path) -> None:
    write_dataset(path, [20, 20])
    data = Dataset(path)
    windows = sampler(data, length=3, batch=4)
    before = windows.state()
    batches = list(windows.fixed(10))
    assert [len(batch.frames) for batch in batches] == [4, 4, 2]
    found = [s for batch in batches for s in starts_of(batch, data)]
    assert (found[0], found[-1]) == (0, 38)
    assert len(set(np.diff(found))) <= 3
    assert windows.state() == before
    assert found == [s for batch in windows.fixed(10) for s in starts_of(batch, data)]


def test_too_short_episodes_are_named(path: Path) -> None:
    write_dataset(path, [3, 50])
    with pytest.raises(DatasetError, match="the longest of the 1 to use has 3") as error:
        sampler(Dataset(path), [0], length=8)
    assert str(path) in str(error.value)


@given(
    lengths=st.lists(st.sampled_from([1, 2, 9, 10]), min_size=1, max_size=12),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_a_split_parts_all_episodes_and_leaves_usable_ones_to_both(
    lengths: list[int], fraction: float, seed: int
) -> None:
    data = Dataset.__new__(Dataset)
    data.lengths = np.array(lengths) + 1
    split = split_episodes(data, fraction, numpy_generator(seed), shortest=9)
    assert sorted([*split.train, *split.heldout]) == list(range(len(lengths)))
    usable = sum(steps >= 9 for steps in lengths)
    held = [lengths[e] >= 9 for e in split.heldout]
    assert all(held)
    if fraction and usable >= 2:
        assert 1 <= len(held) <= usable - 1
        assert abs(len(held) - fraction * usable) <= 1
    else:
        assert not held
    again = split_episodes(data, fraction, numpy_generator(seed), shortest=9)
    np.testing.assert_array_equal(split.heldout, again.heldout)


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_a_fraction_out_of_range_is_refused(path: Path, fraction: float) -> None:
    write_dataset(path, [3, 3])
    with pytest.raises(DatasetError, match=r"held-out fraction must be in \[0, 1\)"):
        split_episodes(Dataset(path), fraction, numpy_generator(0))


def test_a_window_is_read_from_the_file_at_once_and_nothing_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(path, [40])
    data = Dataset(path)
    data.frames(slice(0, data.num_frames))  # the first read of a chunk compares its checksum
    read: list[int] = []
    original = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        read.append(size)
        return original(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    sampler(data, length=8, batch=5).sample()
    # Random pixels do not shrink; LZ4's header and a checksum come on top. A window of 9 frames
    # lies in 5 chunks of two.
    chunk = 2 * 4 * 6 * 3 + 20
    assert len(read) == 5
    # Where HDF5 wrote a block of its own between two chunks, that is read too.
    assert all(5 * chunk <= size < 5 * chunk + 1000 for size in read)
    assert read.count(5 * chunk) >= 3
