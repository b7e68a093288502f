"""D4RL: flat columns in HDF5, an episode after the other.

Row t holds frame t, the action taken after it, its reward, and whether the episode ended with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.acting import action_spec, stored_actions
from latentwrap.datasets.importers.hdf5 import blocks, column, names_in, open_foreign, read_rows
from latentwrap.datasets.importers.hdf5_rows import ObservedRows, observed
from latentwrap.datasets.importers.identity import Identity, WholeSource
from latentwrap.datasets.importers.observing import Observations
from latentwrap.datasets.importers.rows import episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, BoolArray

_OBSERVATIONS, _NEXT = "observations", "next_observations"
_CHUNKS = "virtual"
_ABOUT_ACTIONS = "action"
"""Infos that begin so describe what the policy did, not the world."""


def recognises(source: str) -> bool:
    """Whether a source is HDF5 with D4RL's columns."""
    names = names_in(source)
    return {_OBSERVATIONS, "actions", "terminals"} <= names or _CHUNKS in names


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a D4RL file.

    Raises:
        DatasetError: it is none, or holds no images.
        EnvironmentMismatch: a key that is not there.
    """
    file = open_foreign(source)
    try:
        return _D4RL(file, source, options)
    except BaseException:
        file.close()
        raise


class _Piece:
    """Columns of the same length: those at the root, or a chunk of them.

    Raises:
        DatasetError: a column is missing, or of another length.
    """

    def __init__(self, group: h5py.Group, source: str) -> None:
        self.actions = column(group, "actions", source)
        self.rewards = column(group, "rewards", source) if "rewards" in group else None
        self.seen = ObservedRows(group.get(_OBSERVATIONS), source)
        self.next = ObservedRows(group[_NEXT], source) if _NEXT in group else None
        self.states = dict(_states(group.get("infos")))
        self.terminals = _flags(column(group, "terminals", source))
        timeouts = "timeouts" in group and _flags(column(group, "timeouts", source))
        lengths = {"actions": len(self.actions), _OBSERVATIONS: len(self.seen)}
        lengths |= {} if self.rewards is None else {"rewards": len(self.rewards)}
        lengths |= {} if self.next is None else {_NEXT: len(self.next)}
        lengths |= {} if timeouts is False else {"timeouts": len(timeouts)}
        lengths |= {f"infos/{name}": len(values) for name, values in self.states.items()}
        _check_lengths(lengths, len(self.terminals), source)
        self.ends: BoolArray = self.terminals | timeouts

    def require(self, keys: tuple[str, ...], first: _Piece, source: str) -> None:
        """Refuse a chunk that lacks what the first one has, and what is to be read."""
        for rows in (self.seen, self.next):
            if rows is not None:
                rows.require({key: first.seen.sizes[key] for key in keys})
        missing = first.states.keys() - self.states.keys()
        if missing or (first.rewards is None) != (self.rewards is None):
            raise DatasetError(
                f"{source} requires the same columns in every chunk, but rewards or infos are not "
                "in all of them: get it anew."
            )


@dataclass(frozen=True)
class _Rows:
    """The rows of one episode.

    Attributes:
        piece: the columns that hold them.
        start, stop: the first, and the one after the last.
    """

    piece: _Piece
    start: int
    stop: int


class _D4RL:
    """An opened file."""

    lossy: str | None = None

    def __init__(self, file: h5py.File, source: str, options: ImportOptions) -> None:
        self._file = file
        self.identity: Identity = WholeSource(Path(source))
        pieces = [_Piece(group, source) for group in _groups(file, source)]
        self._episodes = [rows for piece in pieces for rows in _episodes(piece)]
        self._seen = Observations(pieces[0].seen.space, options, what=source)
        self._states = tuple(pieces[0].states)
        for piece in pieces:
            piece.require((*self._seen.cameras, *self._seen.vectors.names), pieces[0], source)
        self._action = action_spec(options, _all_actions(pieces), source)
        self.info = DatasetInfo(
            env_id=options.env_id or Path(source).stem,
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
            vectors=self._seen.vectors,
        )

    @property
    def count(self) -> int:
        """Episodes that the flags tell apart."""
        return len(self._episodes)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on."""
        for rows in self._episodes[first:]:
            yield self._episode(rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _episode(self, rows: _Rows) -> Episode:
        piece, part = rows.piece, (rows.start, rows.stop)
        found = observed(self._seen, piece.seen, piece.next, *part)
        return episode_of_rows(
            found.frames,
            stored_actions(self._action, read_rows(piece.actions, *part)),
            None if piece.rewards is None else read_rows(piece.rewards, *part),
            terminated=bool(piece.terminals[rows.stop - 1]),
            states={name: read_rows(piece.states[name], *part) for name in self._states},
            vectors=found.vectors,
        )


def _groups(file: h5py.File, source: str) -> list[h5py.Group]:
    """The root, or the groups of the chunked variant in the order of their numbers."""
    if _OBSERVATIONS in file:
        return [file]
    chunks = file.get(_CHUNKS)
    names = [name for name in chunks if name.isdecimal()] if isinstance(chunks, h5py.Group) else []
    found = [chunks[name] for name in sorted(names, key=int)]
    if not found or not all(isinstance(each, h5py.Group) for each in found):
        raise DatasetError(f"{source} lacks /{_OBSERVATIONS}: it is no D4RL file.")
    return found


def _episodes(piece: _Piece) -> Iterator[_Rows]:
    """Cut at every flag, and at the end: what goes on in another chunk cannot be told."""
    start = 0
    for stop in sorted({*(np.flatnonzero(piece.ends) + 1).tolist(), len(piece.ends)} - {0}):
        yield _Rows(piece, start, stop)
        start = stop


def _states(infos: h5py.Group | None) -> Iterator[tuple[str, h5py.Dataset]]:
    for name, data in infos.items() if isinstance(infos, h5py.Group) else ():
        numeric = isinstance(data, h5py.Dataset) and data.dtype.kind in "biuf"
        if numeric and data.ndim in (1, 2) and not name.startswith(_ABOUT_ACTIONS):
            yield name, data


def _all_actions(pieces: list[_Piece]) -> Iterator[AnyArray]:
    for piece in pieces:
        yield from blocks(piece.actions, 0, len(piece.actions))


def _flags(data: h5py.Dataset) -> BoolArray:
    flags: BoolArray = read_rows(data, 0, len(data)).reshape(-1).astype(bool)
    return flags


def _check_lengths(lengths: dict[str, int], rows: int, source: str) -> None:
    for name, found in lengths.items():
        if found != rows:
            raise DatasetError(
                f"{source} has {found} rows of {name} but {rows} of terminals: get it anew."
            )
