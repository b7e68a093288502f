"""V-D4RL, 84 px: HDF5 shards of flat columns, as DrQ-v2's code reads them into its replay buffer.

Row t holds the action that led to its frame and the reward for it; both are padding where
`step_type` says that an episode begins. A shard may end, and the next begin, amid an episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.acting import stored_actions
from latentwrap.datasets.importers.bounds import check_bytes
from latentwrap.datasets.importers.hdf5 import blocks, column, is_hdf5, names_in, open_foreign
from latentwrap.datasets.importers.identity import Identity, WholeSource
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.ordering import in_order
from latentwrap.datasets.importers.rows import episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.importers.vd4rl import FRAME_SKIP, env_id_of
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray

_IMAGE, _ACTION, _REWARD, _DISCOUNT, _STEP = (
    "observation", "action", "reward", "discount", "step_type")  # fmt: skip
_COLUMNS = (_IMAGE, _ACTION, _REWARD, _DISCOUNT, _STEP)
_FIRST, _LAST = 0, 2


@dataclass(frozen=True)
class Span:
    """Rows of one episode in one shard.

    Attributes:
        shard: its number.
        start, stop: the first row, and the one after the last.
    """

    shard: int
    start: int
    stop: int


def recognises(source: str) -> bool:
    """Whether a source is such a shard, or a folder of them."""
    paths = shard_paths(source)
    return bool(paths) and set(_COLUMNS) <= names_in(str(paths[0]))


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a shard or a folder of shards.

    Raises:
        DatasetError: there are none, or one of them is damaged or of another layout.
    """
    return _Shards(source, options)


def shard_paths(source: str) -> list[Path]:
    """The HDF5 files of a source, those of a folder in the order of the numbers in their names.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("10.hdf5", "9.hdf5"):
    ...     h5py.File(folder / name, "w").close()
    >>> [path.name for path in shard_paths(str(folder))]
    ['9.hdf5', '10.hdf5']
    """
    path = Path(source)
    if is_hdf5(source):
        return [path]
    found = [each for each in path.glob("*") if each.suffix in (".hdf5", ".h5")]
    return in_order(found)


def spans_of(step_types: Iterator[AnyArray]) -> list[list[Span]]:
    """The spans of each episode, from the step types of each shard.

    An episode begins where a row says so, and after a row that says that one is over; the end of
    a shard divides nothing.

    >>> spans_of(iter([np.array([0, 1, 2, 0, 1]), np.array([1, 2])]))[1]
    [Span(shard=0, start=3, stop=5), Span(shard=1, start=0, stop=2)]
    """
    episodes: list[list[Span]] = []
    over = True
    for shard, types in enumerate(step_types):
        starts = types == _FIRST
        starts[1:] |= types[:-1] == _LAST
        starts[:1] |= over
        cuts = sorted({0, *np.flatnonzero(starts).tolist(), len(types)})
        for start, stop in pairwise(cuts):
            if starts[start]:
                episodes.append([])
            episodes[-1].append(Span(shard, start, stop))
        over = bool(types[-1] == _LAST) if len(types) else over
    return episodes


class _Shards:
    """Opened shards, one file at a time."""

    lossy: str | None = None

    def __init__(self, source: str, options: ImportOptions) -> None:
        self._paths = shard_paths(source)
        if not self._paths:
            raise DatasetError(f"{source} holds no HDF5 files: name a folder of V-D4RL shards.")
        self.identity: Identity = WholeSource(Path(source))
        self._open: tuple[int, h5py.File] | None = None
        try:
            first = self._file(0)
            image, action = (column(first, name, self._paths[0]) for name in (_IMAGE, _ACTION))
            self._image = (image.shape[1:], image.dtype)
            self._seen = Observations(box_of(*self._image), options, what=source)
            self._action = ActionSpec(spaces.Box(-1, 1, action.shape[1:], np.float32))
            self._spans = spans_of(self._step_types())
        except BaseException:
            self.close()
            raise
        self.info = DatasetInfo(
            env_id=options.env_id or env_id_of(source),
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or FRAME_SKIP,
        )

    @property
    def count(self) -> int:
        """Episodes in all shards."""
        return len(self._spans)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on."""
        for spans in self._spans[first:]:
            yield self._episode(spans)

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _episode(self, spans: list[Span]) -> Episode:
        rows = sum(span.stop - span.start for span in spans)
        frames = self._seen.frames_of_blocks(self._blocks(spans, _IMAGE), rows)
        actions = stored_actions(self._action, self._rows(spans, _ACTION))
        return episode_of_rows(
            frames,
            actions[1:],
            self._rows(spans, _REWARD).reshape(-1)[1:],
            terminated=self._terminated(spans[-1]),
        )

    def _terminated(self, last: Span) -> bool:
        """Whether an episode was over before its time: dm_env then gives a discount of 0."""
        row = slice(last.stop - 1, last.stop)
        file, path = self._file(last.shard), self._paths[last.shard]
        step, discount = (column(file, name, path)[row].item() for name in (_STEP, _DISCOUNT))
        return bool(step == _LAST and discount == 0)

    def _rows(self, spans: list[Span], name: str) -> AnyArray:
        parts, size = [], 0
        for part in self._blocks(spans, name):
            parts.append(part)
            size += part.nbytes
            check_bytes(size, f"{name!r} in {self._paths[spans[0].shard]}")
        return np.concatenate(parts)

    def _blocks(self, spans: list[Span], name: str) -> Iterator[AnyArray]:
        for span in spans:
            path = self._paths[span.shard]
            yield from _readable(
                blocks(column(self._file(span.shard), name, path), span.start, span.stop), path
            )

    def _step_types(self) -> Iterator[AnyArray]:
        """Of each shard, which is checked on the way."""
        for number, path in enumerate(self._paths):
            file = self._file(number)
            self._check(file, path)
            data = column(file, _STEP, path)
            parts = _readable(blocks(data, 0, len(data)), path)
            flat = [part.reshape(-1).astype(np.int8) for part in parts]
            yield np.concatenate([np.empty(0, np.int8), *flat])

    def _file(self, number: int) -> h5py.File:
        """The file of a shard; the one that was open before is closed."""
        if self._open is None or self._open[0] != number:
            self.close()
            self._open = (number, open_foreign(self._paths[number]))
        return self._open[1]

    def _check(self, file: h5py.File, path: Path) -> None:
        columns = {name: column(file, name, path) for name in _COLUMNS}
        lengths = {name: len(data) for name, data in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DatasetError(f"{path} has columns of different lengths, {lengths}: get it anew.")
        image = columns[_IMAGE]
        if (image.shape[1:], image.dtype) != self._image:
            raise DatasetError(
                f"{path} holds images of {image.dtype} {image.shape[1:]}, the first shard of "
                f"{self._image[1]} {self._image[0]}: import them apart."
            )


def _readable(parts: Iterator[AnyArray], path: Any) -> Iterator[AnyArray]:
    try:
        yield from parts
    except OSError as error:
        raise DatasetError(f"{path} is damaged ({error}): get it anew.") from None
