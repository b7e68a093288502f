"""One file of a dataset: checked, its columns in memory, its frames read when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.chunks import ChunkTable, read_table
from latentwrap.datasets.columns import Columns, read_columns
from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.datasets.layout import DatasetInfo, read_info
from latentwrap.datasets.open_files import OpenFiles, Stamp
from latentwrap.datasets.wholeness.parts import partial_folder
from latentwrap.errors import DatasetError, LatentwrapError
from latentwrap.pixels import FrameSpec
from latentwrap.types import AnyArray, IntArray

_FILTERS = {
    "32004": "LZ4",
    "32015": "Zstd",
    "fletcher32": "checksums",
}


@dataclass(frozen=True)
class Storage:
    """How the frames lie on disk.

    Attributes:
        chunks: shape of a chunk of one camera; `None` where they lie one after the other.
        codec: names of the filters.
        bytes: compressed.
        fast: windows decode only what they need, past the HDF5 library.
    """

    chunks: tuple[int, ...] | None
    codec: str
    bytes: int
    fast: bool


@dataclass(frozen=True)
class FrameStore:
    """The frames of a file that was found to be whole.

    Attributes:
        path: the file.
        stamp: of the file as it was checked.
        rows: how many, N.
        spec: what they look like.
        tables: where the frames of each camera lie; `None` where HDF5 must read them.
        storage: how they lie there.
    """

    path: Path
    stamp: Stamp
    rows: int
    spec: FrameSpec
    tables: tuple[ChunkTable, ...] | None
    storage: Storage

    def read(self, files: OpenFiles, starts: IntArray, out: AnyArray) -> None:
        """Fill `out`, uint8 (B, n, H, W, C), with n frames from each of some rows on.

        Raises:
            DatasetError: the file is damaged there, or was replaced.
        """
        with damage_named(self.path):
            if self.tables is None:
                self._read_through_hdf5(files, starts, out)
                return
            opened = files.descriptor(self.path, self.stamp)
            if len(self.tables) == 1:
                self.tables[0].read(opened.number, starts, out)
                return
            for table, panel in zip(self.tables, np.split(out, len(self.tables), 3), strict=True):
                alone = np.empty(panel.shape, np.uint8)  # beside others it is not contiguous
                table.read(opened.number, starts, alone)
                panel[:] = alone

    def _read_through_hdf5(self, files: OpenFiles, starts: IntArray, out: AnyArray) -> None:
        file, length = files.hdf5(self.path, self.stamp), out.shape[1]
        for start, window in zip(starts.tolist(), out, strict=True):
            window[:] = layout.read_frames(file, slice(start, start + length), self.spec)


@dataclass(frozen=True)
class Shard:
    """A file of layout version 1.

    Attributes:
        info: what it is of.
        columns: all but the frames.
        frames: read when asked for.
    """

    info: DatasetInfo
    columns: Columns
    frames: FrameStore


def open_shard(path: Path) -> Shard:
    """Check a file and read all but its frames.

    Raises:
        DatasetError: missing, not HDF5, foreign, damaged, or without episodes.
    """
    if not path.is_file():
        raise DatasetError(_absence(path))
    stamp = Stamp.of(path.stat())
    with open_checked(path) as file, damage_named(path):
        info = read_info(file, path)
        columns = read_columns(file, info, path)
        pictures = [file[name] for name in layout.frame_paths(info.frame)]
        tables = [read_table(column) for column in pictures]
        known = tuple(table for table in tables if table is not None)
        direct = len(known) == len(tables)
        fast = direct and all(table.rows <= 2 for table in known)
        storage = _storage(pictures, fast=fast)
    rows = len(columns.actions)
    store = FrameStore(path, stamp, rows, info.frame, known if direct else None, storage)
    return Shard(info, columns, store)


def _absence(path: Path) -> str:
    folder = partial_folder(path)
    if path.exists() or not folder.is_dir():
        return f"The dataset {path} does not exist or is no file."
    return (
        f"The dataset {path} is not finished, {folder} holds what there is of it: repeat its "
        f"command with --resume, or see latentwrap verify {path}."
    )


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Say which file is damaged: HDF5 raises whatever its inner layers happen to raise."""
    try:
        yield
    except LatentwrapError:
        raise
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DatasetError(f"{path} is damaged ({reason}): get it anew.") from None


def _storage(columns: list[h5py.Dataset], *, fast: bool) -> Storage:
    filters = list(columns[0]._filters) or ["none"]
    return Storage(
        chunks=columns[0].chunks,
        codec=", ".join(_FILTERS.get(name, name) for name in filters),
        bytes=sum(int(column.id.get_storage_size()) for column in columns),
        fast=fast,
    )
