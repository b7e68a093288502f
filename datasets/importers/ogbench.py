"""OGBench: one compressed npz of flat columns, an episode after the other.

Row t holds frame t and the action taken after it. The row with a terminal is a state that is the
last of its episode: where its action led is not known. Frames are unpacked row after row, because
all of them together are larger than most memories.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers import bounds
from latentwrap.datasets.importers.acting import action_spec, stored_actions
from latentwrap.datasets.importers.identity import Identity, WholeSource
from latentwrap.datasets.importers.npz_files import NpzFile
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.rows import episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, Frames, IntArray

_OBSERVATIONS, _ACTIONS, _TERMINALS = "observations", "actions", "terminals"
_REQUIRED = frozenset({_OBSERVATIONS, _ACTIONS, _TERMINALS})
_STATES = ("qpos", "qvel", "button_states")
_VALIDATION = "-val"


def recognises(source: str) -> bool:
    """Whether a source is one npz file with OGBench's columns."""
    path = Path(source)
    if path.suffix != ".npz" or not path.is_file():
        return False
    with NpzFile(path, most_bytes=math.inf) as file:
        return file.headers.keys() >= _REQUIRED


def open_source(source: str, options: ImportOptions) -> Source:
    """Open an OGBench file.

    Raises:
        DatasetError: it is none, or holds no images.
    """
    file = NpzFile(Path(source), most_bytes=math.inf)
    try:
        return _OGBench(file, source, options)
    except BaseException:
        file.close()
        raise


class _OGBench:
    """An opened file."""

    lossy: str | None = None

    def __init__(self, file: NpzFile, source: str, options: ImportOptions) -> None:
        self._file, self._source = file, source
        self.identity: Identity = WholeSource(Path(source))
        self._states = tuple(name for name in _STATES if name in file.headers)
        self._check_lengths()
        self._lengths = _episode_lengths(file.read(_TERMINALS), source)
        header = file.headers[_OBSERVATIONS]
        self._seen = Observations(box_of(header.shape[1:], header.dtype), options, what=source)
        self._action = action_spec(options, file.blocks(_ACTIONS), source)
        self.info = DatasetInfo(
            env_id=options.env_id or _env_id(source),
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
        )

    @property
    def count(self) -> int:
        """Episodes that the terminals tell apart."""
        return len(self._lengths)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on; those before it are unpacked and passed over."""
        names = (_OBSERVATIONS, _ACTIONS, *self._states)
        rows = {name: _Rows(self._file, name) for name in names}
        before = int(self._lengths[:first].sum())
        for column in rows.values():
            column.skip(before)
        for length in self._lengths[first:].tolist():
            frames = self._frames(rows[_OBSERVATIONS], length)
            actions = stored_actions(self._action, rows[_ACTIONS].take(length))
            states = {name: rows[name].take(length) for name in self._states}
            yield episode_of_rows(frames, actions, None, terminated=False, states=states)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _frames(self, rows: _Rows, count: int) -> Frames:
        return self._seen.frames_of_blocks(rows.parts(count), count)

    def _check_lengths(self) -> None:
        rows = self._file.require(_TERMINALS).rows
        for name in (_OBSERVATIONS, _ACTIONS, *self._states):
            found = self._file.require(name).rows
            if found != rows:
                raise DatasetError(
                    f"{self._source} has {found} rows of {name} but {rows} of {_TERMINALS}: "
                    "get it anew."
                )


class _Rows:
    """Takes as many rows as asked for out of blocks that come as they are."""

    def __init__(self, file: NpzFile, name: str) -> None:
        self._blocks = file.blocks(name)
        self._row_bytes = file.headers[name].row_bytes
        self._rest: AnyArray | None = None

    def parts(self, count: int) -> Iterator[AnyArray]:
        """The next rows, in arrays of together `count`."""
        while count:
            block = next(self._blocks) if self._rest is None else self._rest
            part, rest = block[:count], block[count:]
            self._rest = rest if len(rest) else None
            count -= len(part)
            yield part

    def take(self, count: int) -> AnyArray:
        """The next rows in one array.

        Raises:
            DatasetError: they are too large for that.
        """
        bounds.check_bytes(count * self._row_bytes, "An episode")
        return np.concatenate(list(self.parts(count)))

    def skip(self, count: int) -> None:
        """Pass over the next rows."""
        for _ in self.parts(count):
            pass


def _episode_lengths(terminals: AnyArray, source: str) -> IntArray:
    ends = np.flatnonzero(terminals.reshape(-1)) + 1
    if not len(ends):
        raise DatasetError(f"{source} marks no end of an episode in {_TERMINALS}: get it anew.")
    if ends[-1] < len(terminals):
        ends = np.append(ends, len(terminals))
    return np.diff(ends, prepend=0).astype(np.int64)


def _env_id(source: str) -> str:
    """The environment's name, which is the dataset's without the kind of data before its version.

    >>> _env_id("data/visual-cube-single-play-v0-val.npz")
    'visual-cube-single-v0'
    """
    words = Path(source).stem.removesuffix(_VALIDATION).split("-")
    return "-".join([*words[:-2], words[-1]])
