"""Several files are one dataset, if they fit each other."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_data import assert_same_episode, make_episode, make_info, write_dataset

from latentwrap.datasets import (
    Dataset,
    DatasetWriter,
    Episode,
    WindowSampler,
    find_files,
    mix_files,
)
from latentwrap.datasets.open_files import OpenFiles, Stamp
from latentwrap.errors import ConfigError, DatasetError
from latentwrap.seeding import numpy_generator

LENGTHS = {"a.h5": [3, 12], "b.h5": [6], "c.h5": [2, 2, 9]}


@pytest.fixture
def shards(tmp_path: Path) -> list[Episode]:
    """Three files; the episodes of all of them."""
    return [e for name, steps in LENGTHS.items() for e in write_dataset(tmp_path / name, steps)]


def test_a_pattern_is_all_its_files_in_the_order_of_their_names(
    tmp_path: Path, shards: list[Episode]
) -> None:
    data = Dataset(str(tmp_path / "?.h5"))
    assert [path.name for path in data.paths] == ["a.h5", "b.h5", "c.h5"]
    assert data.num_episodes == len(shards)
    for number, episode in enumerate(shards):
        assert_same_episode(data.episode(number), episode)
    every_frame = np.concatenate([episode.frames for episode in shards])
    np.testing.assert_array_equal(data.frames(slice(0, data.num_frames)), every_frame)
    np.testing.assert_array_equal(data.frames(slice(15, 26)), every_frame[15:26])


def test_windows_of_any_file_come_in_the_order_asked_for(
    tmp_path: Path, shards: list[Episode]
) -> None:
    data = Dataset([tmp_path / name for name in LENGTHS])
    every_frame = np.concatenate([episode.frames for episode in shards])
    starts = np.array([24, 0, 17, 20, 5])
    expected = [every_frame[start : start + 3] for start in starts]
    np.testing.assert_array_equal(data.windows(starts, 3), expected)
    data.preload()
    np.testing.assert_array_equal(data.windows(starts, 3), expected)


def test_how_episodes_are_divided_into_files_does_not_matter(
    tmp_path: Path, shards: list[Episode]
) -> None:
    one = tmp_path / "one.h5"
    with DatasetWriter(one, make_info()) as writer:
        for episode in shards:
            writer.add(episode)
    several = Dataset(str(tmp_path / "[abc].h5"))
    assert several.fingerprint() == Dataset(one).fingerprint()
    assert Dataset(tmp_path / "a.h5").fingerprint() != Dataset(one).fingerprint()


DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "skip": ({"frame_skip": 3}, {}, "the frame skip 3, .* has 2"),
    "rewards": ({}, {"rewards": False}, "rewards: none"),
    "frames": (
        {"frame": make_info().frame.model_copy(update={"source_width": 9})},
        {},
        "frames of 4×6×3 from 40×9, .* 4×6×3 from 40×60",
    ),
    "space": ({"space": spaces.Box(-1, 1, (2,))}, {}, "the actions Box"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    changes, episode, sentence = DIFFERENT[name]
    write_dataset(tmp_path / "a.h5", [3])
    with DatasetWriter(tmp_path / "b.h5", make_info(**changes)) as writer:
        writer.add(make_episode(4, **episode))
    with pytest.raises(DatasetError, match=rf"b\.h5 has {sentence}.*leave one of them out"):
        Dataset([tmp_path / "a.h5", tmp_path / "b.h5"])


def test_states_are_those_that_all_files_have(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [3], states=["pole", "cart"])
    write_dataset(tmp_path / "b.h5", [4], states=["cart"])
    data = Dataset(str(tmp_path / "*.h5"))
    assert list(data.states) == ["cart"]
    assert data.unshared_states == ("pole",)
    assert len(data.states["cart"]) == 9


def test_no_file_and_the_same_file_twice_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [3])
    with pytest.raises(DatasetError, match=r"No file has a name like .*\*\.hdf5"):
        Dataset(str(tmp_path / "*.hdf5"))
    with pytest.raises(DatasetError, match=r"got .*a\.h5 twice"):
        Dataset([tmp_path / "a.h5", str(tmp_path / "*.h5")])
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    with pytest.raises(DatasetError, match=r"got .*link\.h5 twice|got .*a\.h5 twice"):
        Dataset(str(tmp_path / "*.h5"))
    with pytest.raises(DatasetError, match="at least one file, got none"):
        Dataset([])


def test_a_file_with_a_star_in_its_name_is_that_file(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a[1].h5", [3])
    write_dataset(tmp_path / "a1.h5", [3, 3])
    assert Dataset(tmp_path / "a[1].h5").num_episodes == 1


def open_now(folder: Path) -> int:
    """How many files of a folder this process has open."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself was open while it was listed
            targets.append(link.readlink())
    return sum(target.is_relative_to(folder) for target in targets)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
@pytest.mark.parametrize("direct", [True, False])
def test_few_files_are_open_however_many_there_are(
    tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not direct:
        monkeypatch.delattr(os, "pread")
    for number in range(40):
        write_dataset(tmp_path / f"{number:02d}.h5", [2])
    data = Dataset(str(tmp_path / "*.h5"))
    assert open_now(tmp_path) == 0
    most = 0
    for _ in range(2):
        for episode in range(data.num_episodes):
            data.episode(episode)
            most = max(most, open_now(tmp_path))
    assert 1 <= most <= 32
    data.close()
    assert open_now(tmp_path) == 0
    assert data.episode(3).frames.shape[0] == 3


def test_a_file_put_in_place_of_another_is_noticed(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [3, 5])
    data = Dataset(tmp_path / "a.h5")
    write_dataset(tmp_path / "b.h5", [9, 9])
    (tmp_path / "b.h5").replace(tmp_path / "a.h5")
    with pytest.raises(DatasetError, match="was changed or replaced while it was in use"):
        data.frames(slice(0, 3))
    (tmp_path / "a.h5").unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        data.frames(slice(0, 3))


def test_who_reads_keeps_a_file_open_that_others_push_out(tmp_path: Path) -> None:
    files, paths = OpenFiles(limit=1), [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text(path.name)
    held = files.descriptor(paths[0], Stamp.of(paths[0].stat()))
    files.descriptor(paths[1], Stamp.of(paths[1].stat()))
    assert os.pread(held.number, 1, 0) == b"a"
    number = held.number
    del held
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_pickled_dataset_reads_all_files(tmp_path: Path, shards: list[Episode]) -> None:
    data = Dataset(str(tmp_path / "*.h5"))
    data.preload()
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert not copy.frame_reader.in_memory
    assert_same_episode(copy.episode(4), shards[4])


def sampler(source: str, mix: dict[str, float], *, batch: int) -> WindowSampler:
    chosen = mix_files(find_files(source), mix)
    data = Dataset(chosen.paths)
    return WindowSampler(
        data,
        np.arange(data.num_episodes),
        length=2,
        batch_size=batch,
        generator=numpy_generator(0),
        weights=chosen.weights,
    )


def test_windows_come_from_each_file_as_often_as_its_weight_says(
    tmp_path: Path, shards: list[Episode]
) -> None:
    """Twelve and five windows; the third file has no weight and is left out."""
    mix = {str(tmp_path / "a.h5"): 1, "*b.h5": 3}
    mixed = sampler(str(tmp_path / "*.h5"), mix, batch=40_000)
    starts = mixed.draw()
    counts = {start: int((starts == start).sum()) for start in mixed.starts.tolist()}
    shares = np.array(list(counts.values())) / 40_000
    inside = [*range(2), *range(4, 15)], list(range(17, 22))
    expected = {s: 0.25 / len(inside[0]) for s in inside[0]} | dict.fromkeys(inside[1], 0.15)
    np.testing.assert_allclose(shares, [expected.get(s, 0) for s in counts], atol=0.01)


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        ({"x.h5": 1}, r"The mix names x\.h5, which fits none of the 3 files"),
        ({"*a.h5": -1}, "at least 0, got"),
        ({"*a.h5": float("nan")}, "at least 0, got"),
        ({"*a.h5": 1, "*": 2}, r"two weights to a file that \* names too"),
        ({"*": 0}, "a weight above 0, got none"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(
    tmp_path: Path, shards: list[Episode], mix: dict[str, float], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        mix_files(find_files(str(tmp_path / "*.h5")), mix)


def test_a_file_of_too_short_episodes_cannot_be_mixed_in(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [9])
    write_dataset(tmp_path / "b.h5", [1, 1])
    files = str(tmp_path / "*.h5")
    with pytest.raises(DatasetError, match=r"b\.h5 requires an episode as long as a window"):
        sampler(files, {"*a.h5": 1, "*b.h5": 1}, batch=2)
    assert sampler(files, {"*a.h5": 1}, batch=2).sample().frames.shape[0] == 2
