"""A folder of videos, one an episode, and beside each a file of the same name with its actions."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers import named_columns as columns
from latentwrap.datasets.importers.acting import action_spec, stored_actions
from latentwrap.datasets.importers.bounds import check_bytes
from latentwrap.datasets.importers.identity import EpisodeFiles, Identity
from latentwrap.datasets.importers.npz_files import NpzFile
from latentwrap.datasets.importers.npz_folder import check_counts, columns_of
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.ordering import in_order
from latentwrap.datasets.importers.rows import ended, episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.importers.video_files import SUFFIXES, Video
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, Frames

_BESIDE = (".csv", ".npy", ".npz")
_ACTIONS, _REWARDS, _ENDS = columns.ACTIONS[0], columns.REWARDS[0], columns.TERMINATIONS[0]


def recognises(source: str) -> bool:
    """Whether a source is a folder with videos in it, or one video."""
    return bool(_videos(source))


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a folder of videos, or one video.

    Raises:
        DatasetError: there are none, one has no file of actions, or a file is damaged.
        MissingExtra: PyAV is not installed.
    """
    return _Videos(source, options)


class _Videos:
    """Opened videos, one at a time."""

    def __init__(self, source: str, options: ImportOptions) -> None:
        self._paths = _videos(source)
        if not self._paths:
            raise DatasetError(f"{source} holds no videos: name a folder of mp4 or other videos.")
        with closing(Video(self._paths[0])) as video:
            self._shape = video.shape
            self.lossy: str | None = _loss(video.codec)
        self._seen = Observations(box_of(self._shape, np.uint8), options, what=source)
        self._action = action_spec(options, self._all_actions(), source)
        files = [(path, actions_path(path)) for path in self._paths]
        self.identity: Identity = EpisodeFiles(files)
        self.info = DatasetInfo(
            env_id=options.env_id or Path(source).resolve().stem,
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
        )

    @property
    def count(self) -> int:
        """One for each video."""
        return len(self._paths)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on, in the order of the numbers in the names."""
        for path in self._paths[first:]:
            yield self._episode(path)

    def close(self) -> None:
        """Nothing is open between episodes."""

    def _episode(self, path: Path) -> Episode:
        beside = read_columns(actions_path(path))
        frames, ends = self._frames(path), beside.get(_ENDS)
        check_counts(path, len(frames), len(beside[_ACTIONS]))
        return episode_of_rows(
            frames,
            stored_actions(self._action, beside[_ACTIONS]),
            beside.get(_REWARDS),
            terminated=ends is not None and ended(ends, actions_path(path)),
        )

    def _frames(self, path: Path) -> Frames:
        with closing(Video(path)) as video:
            if video.shape != self._shape:
                raise DatasetError(
                    f"{path} shows images of {video.shape[:2]}, the first video of its folder of "
                    f"{self._shape[:2]}: import them apart."
                )
            frames = self._seen.frames_of_blocks(each.image[None] for each in video.shown())
        if not len(frames):
            raise DatasetError(f"{path} shows nothing: leave it out or get it anew.")
        return frames

    def _all_actions(self) -> Iterator[AnyArray]:
        for path in self._paths:
            yield read_columns(actions_path(path))[_ACTIONS]


def actions_path(video: Path) -> Path:
    """The file of actions beside a video.

    Raises:
        DatasetError: there is none.
    """
    for suffix in _BESIDE:
        if video.with_suffix(suffix).is_file():
            return video.with_suffix(suffix)
    raise DatasetError(
        f"{video} requires its actions beside it, in {video.stem}.csv, .npy or .npz: write a row "
        "of numbers for each frame but the last."
    )


def read_columns(path: Path) -> Mapping[str, AnyArray]:
    """Actions (T, A), and rewards and terminations where there are some, of equal lengths.

    Raises:
        DatasetError: the file is damaged, holds no actions, or columns of different lengths.
    """
    found = _read(path)
    steps = len(found[_ACTIONS])
    if not steps or any(len(column) != steps for column in found.values()):
        lengths = ", ".join(f"{len(column)} {name}" for name, column in found.items())
        raise DatasetError(
            f"{path} requires equally many rows of every column, and some, got {lengths}: mend it."
        )
    return found


def _read(path: Path) -> Mapping[str, AnyArray]:
    if path.suffix == ".npz":
        with NpzFile(path) as file:
            return columns_of(file, path)
    try:
        return _read_npy(path) if path.suffix == ".npy" else _read_csv(path)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        reason = str(error).rstrip(".")
        raise DatasetError(f"{path} is no whole table of numbers ({reason}): mend it.") from None


def _read_npy(path: Path) -> Mapping[str, AnyArray]:
    # Mapped, not read: its header may say anything, but then the file must be as large.
    mapped = np.lib.format.open_memmap(path, mode="r")
    check_bytes(mapped.nbytes, path)
    if mapped.dtype.kind not in "biuf" or not mapped.shape:
        raise ValueError(f"it holds {mapped.dtype} of shape {mapped.shape}")
    return {_ACTIONS: np.array(mapped)}


def _read_csv(path: Path) -> Mapping[str, AnyArray]:
    """All columns are actions, unless a first line names them."""
    check_bytes(path.stat().st_size, path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = next(csv.reader(file), [])
        filled = any(line.strip() for line in file)
    named = not all(_is_number(cell) for cell in first)
    if not first or (named and not filled):
        raise ValueError("it has no rows")
    if not named:
        return {_ACTIONS: _table(path, list(range(len(first))), skip=0)}
    names = [name.strip().lower() for name in first]
    chosen = [number for number, name in enumerate(names) if name.startswith("action")]
    if not chosen:
        raise ValueError("none of its columns has a name that begins with 'action'")
    found = {_ACTIONS: _table(path, chosen, skip=1)}
    for wanted in (columns.REWARDS, columns.TERMINATIONS):
        name = columns.find(names, wanted)
        if name is not None:
            found[wanted[0]] = _table(path, [names.index(name)], skip=1)[:, 0]
    return found


def _table(path: Path, which: list[int], skip: int) -> AnyArray:
    """Some columns of a file, integers if all of them are written as such."""

    def read(dtype: type[np.generic]) -> AnyArray:
        return np.loadtxt(
            path, dtype, delimiter=",", skiprows=skip, ndmin=2, usecols=which, encoding="utf-8-sig"
        )

    try:
        return read(np.int64)
    except ValueError:
        return read(np.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _loss(codec: str) -> str | None:
    if codec in ("ffv1", "png", "rawvideo"):
        return None
    return f"its frames went through the video codec {codec}, which changed their pixels"


def _videos(source: str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path] if path.suffix.lower() in SUFFIXES else []
    return in_order(each for each in path.glob("*") if each.suffix.lower() in SUFFIXES)
