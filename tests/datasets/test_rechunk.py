"""Rechunk: the same experience, laid out for speed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs
import numpy as np
import pytest
from latentwrap_test_data import assert_same_episode, edit, make_info, names_in, write_dataset

from latentwrap.datasets import Dataset, DatasetWriter, measure_loading, rechunk, summarize
from latentwrap.datasets.wholeness.parts import partial_folder
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


def ctrl_c_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Press Ctrl-C when so many episodes were written."""
    add, added = DatasetWriter.add, []

    def pressed(writer: DatasetWriter, episode: Any) -> None:
        add(writer, episode)
        added.append(episode)
        if len(added) == count:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(DatasetWriter, "add", pressed)


@pytest.mark.parametrize("lost", ["damaged", "missing"])
def test_no_episode_is_doubled_or_dropped_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    path, new = tmp_path / "data.h5", tmp_path / "new.h5"
    episodes = write_dataset(path, [3, 4, 5, 6, 7, 8])
    ctrl_c_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        rechunk(path, new)
    monkeypatch.undo()
    piece = partial_folder(new) / "00000001.h5"
    piece.unlink() if lost == "missing" else piece.write_bytes(piece.read_bytes()[:100])
    assert rechunk(path, new, resume=True).episodes == 6
    for number, episode in enumerate(episodes):
        assert_same_episode(Dataset(new).episode(number), episode)
    assert names_in(tmp_path) == ["data.h5", "new.h5"]


def test_what_is_whole_stays_when_ctrl_c_ends_what_shall_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "data.h5", [3, 12, 1, 7])
    write_foreign(tmp_path / "d4rl.hdf5")
    for source, count in (("data.h5", 2), ("d4rl.hdf5", 1)):
        new = tmp_path / "new.h5"
        write_dataset(new, [2])
        before = new.read_bytes()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            ctrl_c_after(patch, count)
            rechunk(tmp_path / source, new, force=True)
        assert new.read_bytes() == before
        assert len(list(partial_folder(new).glob("[0-9]*.h5"))) == count
        result = rechunk(tmp_path / source, new, resume=True)
        assert result.episodes == Dataset(new).num_episodes == 2 * count
        assert not partial_folder(new).exists()
        new.unlink()


def test_another_source_is_not_gone_on_with(tmp_path: Path) -> None:
    write_dataset(tmp_path / "b.h5", [3, 4])
    write_dataset(tmp_path / "c.h5", [5])
    shards, one = str(tmp_path / "[abc].h5"), tmp_path / "one.h5"
    rechunk(shards, one)
    before = one.stat()
    assert rechunk(shards, one, resume=True).episodes == 3  # nothing to do
    assert one.stat().st_ino == before.st_ino
    write_dataset(tmp_path / "a.h5", [6, 7, 8])
    write_dataset(tmp_path / "z.h5", [9, 9, 9, 9])
    for other in (shards, tmp_path / "z.h5", tmp_path / "b.h5"):  # new first, others, too few
        with pytest.raises(DatasetError, match="was begun with other episodes than the first of"):
            rechunk(other, one, resume=True)
    assert one.stat().st_ino == before.st_ino
    assert not partial_folder(one).exists()


@pytest.mark.parametrize("name", ["frames", "actions", "rewards", "truncations"])
def test_a_source_that_differs_in_one_column_is_another(tmp_path: Path, name: str) -> None:
    path, other, new = tmp_path / "data.h5", tmp_path / "other.h5", tmp_path / "new.h5"
    write_dataset(path, [3, 4])
    rechunk(path, new)
    write_dataset(other, [3, 4])

    def change(file: h5py.File) -> None:
        row = 7 if name == "truncations" else 4
        file[name][row] = 0 if name == "truncations" else file[name][row] // 2

    edit(other, change)
    with pytest.raises(DatasetError, match="other episodes than the first of"):
        rechunk(other, new, resume=True)


def test_a_source_that_has_grown_is_gone_on_with(tmp_path: Path) -> None:
    path, new = tmp_path / "data.h5", tmp_path / "new.h5"
    write_dataset(path, [3, 4])
    rechunk(path, new)
    path.unlink()
    episodes = write_dataset(path, [3, 4, 5])
    assert rechunk(path, new, resume=True).episodes == 3
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


def write_foreign(path: Path) -> dict[str, np.ndarray]:
    """D4RL's flat columns: two episodes of 4 and 3 rows, each with a last row without successor."""
    rng = np.random.default_rng(0)
    columns = {
        "observations": rng.integers(0, 256, (7, 64, 64, 3), np.uint8),
        "actions": rng.uniform(-1, 1, (7, 2)).astype(np.float32),
        "rewards": np.array([1, 2, 3, 0, 4, 5, 0], np.float32),
        "terminals": np.zeros(7, bool),
        "timeouts": np.array([0, 0, 0, 1, 0, 0, 1], bool),
    }
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return columns


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_file_of_another_project_is_imported(tmp_path: Path, codec: str) -> None:
    columns = write_foreign(tmp_path / "d4rl.hdf5")
    with h5py.File(tmp_path / "d4rl.hdf5", "a") as file:
        file["metadata/note"] = "a text, which no dataset of ours may hold"
    result = rechunk(tmp_path / "d4rl.hdf5", tmp_path / "new.h5", codec=codec)
    assert (result.episodes, result.transitions) == (2, 5)
    data = Dataset(tmp_path / "new.h5")
    assert data.storage().codec.lower().startswith(codec)
    for number, (first, last) in enumerate([(0, 3), (4, 6)]):
        found = data.episode(number)
        np.testing.assert_array_equal(found.frames, columns["observations"][first : last + 1])
        np.testing.assert_array_equal(found.actions, columns["actions"][first:last])
        np.testing.assert_array_equal(found.rewards, columns["rewards"][first:last])


def test_a_file_of_another_project_is_looked_at_safely(tmp_path: Path) -> None:
    write_foreign(tmp_path / "d4rl.hdf5")
    with h5py.File(tmp_path / "d4rl.hdf5", "a") as file:
        file["metadata"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(DatasetError, match="external link"):
        rechunk(tmp_path / "d4rl.hdf5", tmp_path / "new.h5")
    with h5py.File(tmp_path / "latent.h5", "w") as file:
        file.attrs["format"] = "latentwrap-latents"
    with pytest.raises(DatasetError, match="no latentwrap dataset"):
        rechunk(tmp_path / "latent.h5", tmp_path / "new.h5")
    assert names_in(tmp_path) == ["d4rl.hdf5", "latent.h5"]


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
