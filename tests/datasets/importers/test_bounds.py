"""However little a source weighs, an import never asks for more memory than it says."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from latentwrap.datasets import Dataset
from latentwrap.datasets.importers import ImportOptions, find_format, import_dataset
from latentwrap.datasets.importers.bounds import BLOCK_BYTES
from latentwrap.datasets.importers.hdf5 import blocks
from latentwrap.datasets.importers.npz_files import NpzFile
from latentwrap.errors import DatasetError

FRAME = 64 * 64 * 3
ROWS = 3000


def npz_folder(folder: Path) -> Path:
    (folder / "npz").mkdir()
    np.savez_compressed(folder / "npz/a.npz", image=_images(), action=np.zeros((ROWS, 1)))
    return folder / "npz"


def vd4rl(folder: Path) -> Path:
    (folder / "64px").mkdir()
    flags = np.zeros(ROWS)
    np.savez_compressed(
        folder / "64px/a.npz", image=_images(), action=np.zeros((ROWS, 1)), reward=flags,
        is_first=flags, discount=flags,
    )  # fmt: skip
    return folder / "64px"


def ogbench(folder: Path) -> Path:
    columns = {"actions": np.zeros((ROWS, 1)), "terminals": np.arange(1, ROWS + 1) == ROWS}
    np.savez_compressed(folder / "visual-a-play-v0.npz", observations=_images(), **columns)
    return folder / "visual-a-play-v0.npz"


def d4rl(folder: Path) -> Path:
    columns = {
        "observations": _images(),
        "actions": np.zeros((ROWS, 1)),
        "terminals": np.zeros(ROWS),
    }
    return _hdf5(folder / "d4rl.hdf5", columns)


def shards(folder: Path) -> Path:
    flags = np.zeros(ROWS)
    columns = {"observation": _images(), "action": np.zeros((ROWS, 1)), "reward": flags}
    steps = np.where(np.arange(ROWS) == 0, 0, 1)
    return _hdf5(folder / "0.hdf5", {**columns, "discount": flags, "step_type": steps})


def robomimic(folder: Path) -> Path:
    columns = {"obs/agentview_image": _images(), "actions": np.zeros((ROWS, 1))}
    return _hdf5(folder / "lift.hdf5", {f"data/demo_0/{k}": v for k, v in columns.items()})


def _images() -> np.ndarray:
    return np.zeros((ROWS, 4, 4, 3), np.uint8)


def _hdf5(path: Path, columns: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, compression="gzip")
    return path


SOURCES = (npz_folder, vd4rl, ogbench, d4rl, shards, robomimic)


@pytest.mark.parametrize("write", SOURCES, ids=lambda write: write.__name__)
def test_an_episode_too_long_is_refused_before_its_frames_are_made(
    tmp_path: Path, write: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2000 * FRAME
    monkeypatch.setattr("latentwrap.datasets.importers.bounds.MOST_FRAME_BYTES", most)
    source = write(tmp_path)
    find_format(str(source))  # loads what is lazy
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"3000 frames or more, but import takes 2000 at most"):
        import_dataset(source, tmp_path / "out.h5")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most / 4
    assert not (tmp_path / "out.h5").exists()


def test_frames_are_in_memory_once(tmp_path: Path) -> None:
    source = npz_folder(tmp_path)
    import_dataset(source, tmp_path / "warm.h5")
    (episode,) = find_format(str(source)).open(str(source), ImportOptions()).episodes()
    tracemalloc.start()
    (episode,) = find_format(str(source)).open(str(source), ImportOptions()).episodes()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * episode.frames.nbytes


def test_a_column_too_large_for_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentwrap.datasets.importers.bounds.MOST_BYTES", 20_000)
    np.savez_compressed(tmp_path / "a.npz", wide=np.zeros((10, 1000)), tall=np.zeros((1, 9)))
    with NpzFile(tmp_path / "a.npz") as file:
        with pytest.raises(DatasetError, match=r"'wide' in .*a\.npz unpacks to .* GiB"):
            file.read("wide")
        assert file.read("tall").shape == (1, 9)
    np.savez_compressed(tmp_path / "a.npz", wide=np.asfortranarray(np.zeros((10, 1000))))
    with NpzFile(tmp_path / "a.npz") as file, pytest.raises(DatasetError, match="unpacks to"):
        next(file.blocks("wide"))
    with pytest.raises(DatasetError, match=r"/terminals in .*d4rl\.hdf5 unpacks to"):
        import_dataset(d4rl(tmp_path), tmp_path / "out.h5")


def test_blocks_of_large_images_are_few_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plain = file.create_dataset("plain", (20, 480, 640, 3), np.uint8)
        huge = file.create_dataset(
            "huge", (100, 1024, 1024, 3), np.uint8, chunks=(50, 1024, 1024, 3)
        )
        for data in (plain, huge):
            assert next(blocks(data, 0, len(data))).nbytes <= BLOCK_BYTES


def test_when_memory_runs_out_a_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("latentwrap.datasets.importers.npz_files._read_exactly", ask)
    with pytest.raises(DatasetError, match=r"asks for more memory than there is: cut"):
        import_dataset(npz_folder(tmp_path), tmp_path / "out.h5")


def test_an_import_within_the_bounds_is_whole(tmp_path: Path) -> None:
    import_dataset(npz_folder(tmp_path), tmp_path / "out.h5")
    assert Dataset(tmp_path / "out.h5").num_transitions == ROWS - 1
