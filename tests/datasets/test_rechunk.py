"""Rechunk: the same experience, laid out for speed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from latentwrap_test_data import assert_same_episode, make_info, write_dataset

from latentwrap.datasets import Dataset, DatasetWriter, measure_loading, rechunk, summarize
from latentwrap.errors import DatasetError, OutputExists


def slow_copy(path: Path, slow: Path) -> None:
    """The file as someone who has not heard of chunks writes it."""
    with h5py.File(path) as old, h5py.File(slow, "w") as new:
        new.attrs.update(old.attrs)
        names: list[str] = []
        old.visit(names.append)
        for name in names:
            if isinstance(old[name], h5py.Dataset):
                new.create_dataset(name, data=old[name][:], compression="gzip", chunks=True)


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_it_is_the_same_experience(tmp_path: Path, codec: str) -> None:
    path, slow, fast = tmp_path / "data.h5", tmp_path / "slow.h5", tmp_path / "fast.h5"
    episodes = write_dataset(path, [3, 12, 1])
    slow_copy(path, slow)
    before = slow.read_bytes()
    assert not summarize(Dataset(slow)).fast
    result = rechunk(slow, fast, codec=codec)
    data = Dataset(fast)
    assert (result.episodes, result.transitions) == (3, 16)
    assert (result.bytes_before, result.bytes_after) == (len(before), fast.stat().st_size)
    assert summarize(data).fast
    assert data.storage().chunks == (2, 4, 6, 3)
    assert data.info == Dataset(slow).info
    for number, episode in enumerate(episodes):
        assert_same_episode(data.episode(number), episode)
    with h5py.File(fast) as file:
        assert file["frames"].fletcher32
        np.testing.assert_array_equal(file["frames"][4], episodes[1].frames[0])
    assert slow.read_bytes() == before


def test_several_files_become_one(tmp_path: Path) -> None:
    episodes = write_dataset(tmp_path / "a.h5", [3]) + write_dataset(tmp_path / "b.h5", [5, 2])
    rechunk(str(tmp_path / "[ab].h5"), tmp_path / "one.h5")
    data = Dataset(tmp_path / "one.h5")
    for number, episode in enumerate(episodes):
        assert_same_episode(data.episode(number), episode)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, new = tmp_path / "data.h5", tmp_path / "new.h5"
    episodes = write_dataset(path, [3, 12, 1, 7])
    add, added = DatasetWriter.add, []

    def fail_at_third(writer: DatasetWriter, episode: object) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(episode)
        add(writer, episode)

    monkeypatch.setattr(DatasetWriter, "add", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        rechunk(path, new)
    monkeypatch.undo()
    with pytest.raises(OutputExists, match="--resume"):
        rechunk(path, new)
    assert rechunk(path, new, resume=True).episodes == 4
    for number, episode in enumerate(episodes):
        assert_same_episode(Dataset(new).episode(number), episode)


def test_what_is_read_is_never_replaced(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [3])
    write_dataset(tmp_path / "b.h5", [3])
    for force in (False, True):
        with pytest.raises(OutputExists, match=r"b\.h5 is what is read"):
            rechunk(str(tmp_path / "*.h5"), tmp_path / "b.h5", force=force)
    assert Dataset(tmp_path / "b.h5").num_episodes == 1


def test_an_unknown_codec_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [3])
    with pytest.raises(DatasetError, match="one of lz4, zstd, none, got 'gzip'"):
        rechunk(tmp_path / "a.h5", tmp_path / "b.h5", codec="gzip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_file_of_another_project_is_imported(tmp_path: Path) -> None:
    """D4RL's flat columns: two episodes of 4 and 3 rows, each with a last row without successor."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "d4rl.hdf5", "w") as file:
        file["observations"] = rng.integers(0, 256, (7, 64, 64, 3), np.uint8)
        file["actions"] = rng.uniform(-1, 1, (7, 2)).astype(np.float32)
        file["rewards"] = np.arange(7, dtype=np.float32)
        file["terminals"] = np.array([0, 0, 0, 1, 0, 0, 1], bool)
    result = rechunk(tmp_path / "d4rl.hdf5", tmp_path / "new.h5")
    assert (result.episodes, result.transitions) == (2, 5)


@pytest.mark.parametrize("workers", [0, 1])
def test_speed_is_measured_in_windows(tmp_path: Path, workers: int) -> None:
    write_dataset(tmp_path / "a.h5", [30, 20])
    speed = measure_loading(
        Dataset(tmp_path / "a.h5"), length=4, batch_size=2, workers=workers, seconds=0.02
    )
    assert speed.length == 5
    assert speed.file > 0
    assert (speed.ahead is None) == (workers == 0)
    assert speed.memory is not None
    little = measure_loading(
        Dataset(tmp_path / "a.h5"), length=4, workers=0, seconds=0.01, memory=100
    )
    assert little.memory is None


def test_a_writer_takes_the_codec_that_it_is_given(tmp_path: Path) -> None:
    for codec, name in (("lz4", "LZ4"), ("zstd", "Zstd"), ("none", "none")):
        path = tmp_path / f"{codec}.h5"
        with DatasetWriter(path, make_info(), codec=codec) as writer:
            for episode in write_dataset(tmp_path / f"{codec}_other.h5", [3]):
                writer.add(episode)
        assert name in Dataset(path).storage().codec or name == "none"
