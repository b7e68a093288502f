"""The files of a LeRobot v3.0 dataset: what `meta/` says, and rows out of its Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from latentwrap.datasets.importers.bounds import BLOCK_ROWS
from latentwrap.datasets.importers.meta_files import read_json
from latentwrap.datasets.importers.ordering import in_order
from latentwrap.errors import DatasetError
from latentwrap.extras import require
from latentwrap.types import AnyArray

INFO = "meta/info.json"
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class Feature:
    """One column of a dataset.

    Attributes:
        dtype: `video`, `image`, `string` or a number's.
        shape: of one row.
        depth: whether it holds distances rather than colours.
    """

    dtype: str
    shape: tuple[int, ...]
    depth: bool


@dataclass(frozen=True)
class EpisodeRow:
    """Where an episode lies.

    Attributes:
        number: its index.
        data: its Parquet file.
        offset: its first row in that file.
        length: how many rows it has.
        films: by video key, the file and the time in it at which the episode begins.
    """

    number: int
    data: Path
    offset: int
    length: int
    films: Mapping[str, tuple[Path, float]]


class Meta:
    """What `meta/` says of a dataset.

    Args:
        root: its folder.

    Attributes:
        fps: rows in a second.
        features: by name.
        robot: what was recorded, where that is known.
        action_range: least and greatest action, each (A,), where that is known.

    Raises:
        DatasetError: it is of another version than 3, or damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        with self._refusing(INFO):
            document = read_json(root / INFO)
            version = str(document["codebase_version"])
            _check_version(version, root)
            self.fps = float(document["fps"])
            self.features = {k: _feature(v) for k, v in dict(document["features"]).items()}
            self.robot = document.get("robot_type")
            self._data = str(document.get("data_path") or _DATA)
            self._video = str(document.get("video_path") or _VIDEO)
        if not self.fps > 0:
            raise DatasetError(f"{root} says that it has {self.fps} frames a second: get it anew.")
        with self._refusing("meta/stats.json"):
            self.action_range = _action_range(root / "meta/stats.json")

    def episodes(self, video_keys: Sequence[str]) -> list[EpisodeRow]:
        """All episodes in the order of their numbers.

        Raises:
            DatasetError: their files are damaged, or lead out of the folder.
        """
        names = ["episode_index", "dataset_from_index", "dataset_to_index",
                 "data/chunk_index", "data/file_index"]  # fmt: skip
        for key in video_keys:
            names += [f"videos/{key}/{name}" for name in (
                "chunk_index", "file_index", "from_timestamp")]  # fmt: skip
        paths = in_order((self.root / "meta/episodes").glob("*/*.parquet"))
        if not paths:
            raise DatasetError(f"{self.root} lacks meta/episodes: get it anew.")
        rows = [row for path in paths for row in read_table(path, names).to_pylist()]
        with self._refusing("meta/episodes"):
            return self._located(
                sorted(rows, key=lambda row: int(row["episode_index"])), video_keys
            )

    def _located(self, rows: list[dict[str, Any]], video_keys: Sequence[str]) -> list[EpisodeRow]:
        first: dict[Path, int] = {}
        found = []
        for row in rows:
            data = self._path(self._data, row["data/chunk_index"], row["data/file_index"])
            begin, end = int(row["dataset_from_index"]), int(row["dataset_to_index"])
            if not 0 <= begin < end:
                raise ValueError(f"an episode of the rows from {begin} to {end}")
            first[data] = min(first.get(data, begin), begin)
            films = {key: self._film(key, row) for key in video_keys}
            found.append(EpisodeRow(int(row["episode_index"]), data, begin, end - begin, films))
        return [
            EpisodeRow(row.number, row.data, row.offset - first[row.data], row.length, row.films)
            for row in found
        ]

    def _film(self, key: str, row: Mapping[str, Any]) -> tuple[Path, float]:
        where = f"videos/{key}"
        path = self._path(self._video, row[f"{where}/chunk_index"], row[f"{where}/file_index"], key)
        return path, float(row[f"{where}/from_timestamp"])

    def _path(self, template: str, chunk: Any, file: Any, key: str = "") -> Path:
        """A file of the dataset; a template of a stranger must not lead elsewhere."""
        name = template
        for field, value in (("chunk_index", int(chunk)), ("file_index", int(file))):
            name = name.replace(f"{{{field}:03d}}", f"{value:03d}").replace(
                f"{{{field}}}", str(value)
            )
        relative = PurePosixPath(name.replace("{video_key}", key))
        if relative.is_absolute() or ".." in relative.parts:
            raise DatasetError(f"{self.root} names {relative}, which is not inside: get it anew.")
        return self.root / relative

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        try:
            yield
        except DatasetError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"{self.root / name} is damaged ({type(error).__name__}: {error}): get it anew."
            ) from None


class Rows:
    """Reads rows of a Parquet file in their order, a batch in memory at a time.

    Args:
        path: the file.
        names: of the columns to read.
        batch_rows: rows in memory at a time.

    Raises:
        DatasetError: it is missing, damaged or lacks a column.
    """

    def __init__(self, path: Path, names: Sequence[str], batch_rows: int = BLOCK_ROWS) -> None:
        self.path = path
        self._names = list(names)
        self._batch_rows = batch_rows
        with refusing_parquet(path):
            self._file = _parquet().ParquetFile(path)
        missing = [name for name in names if name not in self._file.schema_arrow.names]
        if missing:
            raise DatasetError(f"{path} lacks the columns {', '.join(missing)}: get it anew.")
        self._start(0)

    def blocks(self, offset: int, length: int) -> Iterator[Any]:
        """Some rows as record batches; best asked for in rising order.

        Raises:
            DatasetError: they are not there or damaged.
        """
        if offset < self._position:
            self._start(offset)
        self._skip(offset)
        while length:
            batch = self._take(length)
            length -= batch.num_rows
            yield batch

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _start(self, offset: int) -> None:
        """Begin at the row group that holds a row."""
        group, first = 0, 0
        groups = self._file.metadata.num_row_groups
        while group < groups:
            rows = self._file.metadata.row_group(group).num_rows
            if first + rows > offset:
                break
            group, first = group + 1, first + rows
        self._position = first
        self._left: Any = None
        self._batches = self._file.iter_batches(
            batch_size=self._batch_rows, row_groups=list(range(group, groups)), columns=self._names
        )

    def _skip(self, offset: int) -> None:
        if offset > self._position + self._batch_rows:
            self._start(offset)
        while self._position < offset:
            self._take(offset - self._position)

    def _take(self, most: int) -> Any:
        """The rows that come next, at most so many."""
        while self._left is None or not self._left.num_rows:
            with refusing_parquet(self.path):
                self._left = next(self._batches, None)
            if self._left is None:
                raise DatasetError(f"{self.path} has fewer rows than meta/ says: get it anew.")
        taken, self._left = self._left.slice(0, most), self._left.slice(most)
        self._position += taken.num_rows
        return taken


def read_table(path: Path, names: Sequence[str]) -> Any:
    """Some columns of a small Parquet file.

    Raises:
        DatasetError: it is damaged or lacks one.
    """
    rows = Rows(path, names)
    try:
        batches = list(rows.blocks(0, rows._file.metadata.num_rows))
        schema = rows._file.schema_arrow
    finally:
        rows.close()
    table = require("pyarrow", extra="import", purpose="Importing LeRobot datasets").Table
    wanted = [schema.field(name) for name in names]
    return table.from_batches(batches) if batches else table.from_pylist([], schema=wanted)


def numbers_in(column: Any, path: Path) -> AnyArray:
    """A column of a batch as an array, (n,) or (n, ...).

    Raises:
        DatasetError: it holds no numbers, or rows of different sizes.
    """
    with refusing_parquet(path):
        values, shape = column, [len(column)]
        while hasattr(values, "value_lengths"):
            if len(values.value_lengths().unique()) != 1:
                raise ValueError("rows of different sizes")
            values = values.flatten()
            shape.append(-1)
        flat = np.asarray(values.to_numpy(zero_copy_only=False))
        if flat.dtype.kind not in "biuf" or column.null_count:
            raise ValueError(f"a column of {column.type} with missing values or no numbers")
        return flat.reshape(shape) if len(shape) <= 2 else flat.reshape(shape[0], -1)


@contextmanager
def refusing_parquet(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises about a file into a sentence.

    Raises:
        DatasetError: the block raised.
    """
    arrow = require("pyarrow", extra="import", purpose="Importing LeRobot datasets")
    try:
        yield
    except (arrow.ArrowException, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DatasetError(f"{path} is damaged ({reason}): get it anew.") from None


def _parquet() -> Any:
    return require("pyarrow.parquet", extra="import", purpose="Importing LeRobot datasets")


def _check_version(version: str, root: Path) -> None:
    if not version.startswith("v3"):
        raise DatasetError(
            f"{root} is a LeRobot dataset of version {version}, but import requires v3.0: convert "
            "it with LeRobot's convert_dataset_v21_to_v30."
        )


def _feature(said: Mapping[str, Any]) -> Feature:
    about = {**(said.get("info") or {}), **(said.get("video_info") or {})}
    return Feature(
        dtype=str(said["dtype"]),
        shape=tuple(int(size) for size in said["shape"]),
        depth=bool(about.get("is_depth_map") or about.get("video.is_depth_map")),
    )


def _action_range(path: Path) -> AnyArray | None:
    """Least and greatest action, float64 (2, A)."""
    stats = read_json(path).get("action") if path.is_file() else None
    if not stats:
        return None
    return np.stack([np.asarray(stats[name], float).reshape(-1) for name in ("min", "max")])
