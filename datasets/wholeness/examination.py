"""Reading every chunk of one file, episode by episode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.columns import (
    Columns,
    Seen,
    check_layout,
    check_values,
    frame_columns,
)
from latentwrap.datasets.guarding.codecs import Pipeline, Undecodable
from latentwrap.datasets.guarding.columns import check_column
from latentwrap.datasets.guarding.rules import RULES, Suspect
from latentwrap.datasets.guarding.walk import Walk, check_attributes
from latentwrap.datasets.layout import DatasetInfo, read_info
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, IntArray

LATENT_FORMAT, LATENTS = "latentwrap-latents", "latents"
"""What `latentwrap encode` writes: the same layout with latents in place of the frames."""

_PART_BYTES = 16 * 2**20
_DAMAGE = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What HDF5's inner layers happen to raise."""


@dataclass
class Found:
    """What was found in a file; sent to the parent as JSON.

    Attributes:
        problems: of the file as a whole.
        episodes: in the index; `None` if it cannot be read.
        rows: of the sound ones.
        sound: numbers of the sound ones.
        unsound: what is wrong with each of the others, by number.
        checksums: whether all columns have them.
        file_format: what the file says that it is.
    """

    problems: list[str] = field(default_factory=list)
    episodes: int | None = None
    rows: int = 0
    sound: list[int] = field(default_factory=list)
    unsound: dict[int, str] = field(default_factory=dict)
    checksums: bool = False
    file_format: str = ""


class _Structure(Walk):
    """Looks at where everything lies, and refuses what leads out, but decodes nothing."""

    def _column(self, column: h5py.h5d.DatasetID, path: str) -> None:
        extent = check_column(column, path, self.suspect)
        self.stored += extent.stored
        if self.stored > self.suspect.size:
            self.suspect.refuse("columns that share the same bytes of the file")
        check_attributes(column, path, self.suspect)


class Examination:
    """Reads one file.

    Args:
        file: open; nothing is known of it.
        name: as the user wrote it.
        found: what to fill, step by step: whatever comes first stays if the rest fails.
        moved: told how many rows were read, of how many.
    """

    def __init__(
        self, file: h5py.File, name: str, found: Found, moved: Callable[[int, int], None]
    ) -> None:
        self._file, self._name, self._found, self._moved = file, name, found, moved
        self._descriptor = file.id.get_vfd_handle()
        self._flaws: dict[str, list[tuple[int, int, str]]] = {}
        self._whole: dict[str, AnyArray] = {}

    def run(self) -> None:
        """Examine everything.

        Raises:
            LatentwrapError, OSError, RuntimeError, ...: the rest of the file cannot be examined.
        """
        size = os.fstat(self._descriptor).st_size
        _Structure(Suspect(self._name, size, self._descriptor, RULES["layout"])).run(self._file)
        path = Path(self._name)
        self._info, self._seen = self._describe(path)
        starts = self._numbers(layout.EPISODE_START)
        lengths = self._numbers(layout.EPISODE_LENGTH)
        self._found.episodes = len(lengths)
        try:
            check_layout(self._file, self._info, path, self._seen)
        except DatasetError:
            self._found.unsound = dict.fromkeys(range(len(lengths)), "a column does not fit")
            raise
        self._columns = self._column_names()
        self._found.checksums = all(
            self._file[name].fletcher32
            for name in (*self._columns, layout.EPISODE_START, layout.EPISODE_LENGTH)
        )
        for name in self._columns:
            self._flaws[name] = list(self._flawed_chunks(name))
        self._episodes(starts, lengths)

    def _describe(self, path: Path) -> tuple[DatasetInfo, Seen]:
        said = self._file.attrs.get("format")
        if said != LATENT_FORMAT:
            info = read_info(self._file, path)
            self._found.file_format = layout.FORMAT
            return info, frame_columns(info)
        info = read_info(self._file, path, file_format=LATENT_FORMAT)
        self._found.file_format = LATENT_FORMAT
        latents = self._file.get(LATENTS)
        shape = latents.shape[1:] if isinstance(latents, h5py.Dataset) else ()
        return info, {LATENTS: (shape, np.float32)}

    def _numbers(self, name: str) -> IntArray:
        column = self._file.get(name)
        if not isinstance(column, h5py.Dataset) or column.ndim != 1 or column.dtype != np.int64:
            raise DatasetError(f"{self._name} has no episode index at /{name}: get it anew.")
        for _, _, reason in self._flawed_chunks(name):
            raise DatasetError(
                f"{self._name} has a damaged episode index at /{name} ({reason}): get it anew."
            )
        return np.asarray(column[:], np.int64)

    def _column_names(self) -> list[str]:
        names: list[str] = []
        self._file.visit(names.append)
        index = (layout.EPISODE_START, layout.EPISODE_LENGTH)
        datasets = [name for name in names if isinstance(self._file[name], h5py.Dataset)]
        known = (*self._seen, *layout.REQUIRED, layout.REWARDS)
        groups = (f"{layout.VECTORS}/", f"{layout.STATE}/")
        return [
            name
            for name in datasets
            if name not in index and (name in known or name.startswith(groups))
        ]

    def _flawed_chunks(self, name: str) -> Iterator[tuple[int, int, str]]:
        """First row, end and flaw of each chunk that cannot be decoded to its size."""
        column = self._file[name]
        if column.chunks is None:
            return
        plist = column.id.get_create_plist()
        numbers = [plist.get_filter(n)[0] for n in range(plist.get_nfilters())]
        pipeline = Pipeline(tuple(numbers))
        size = int(np.prod(column.chunks)) * column.dtype.itemsize
        places: list[Any] = []
        column.id.chunk_iter(places.append)
        for place in places:
            data = os.pread(self._descriptor, place.size, place.byte_offset)
            first = place.chunk_offset[0]
            try:
                pipeline.check(data, size, place.filter_mask)
            except Undecodable as error:
                yield first, first + column.chunks[0], str(error)

    def _episodes(self, starts: IntArray, lengths: IntArray) -> None:
        rows = len(self._file[layout.ACTIONS])
        total = int(lengths[lengths > 0].sum())
        self._read_small()
        if not len(lengths):
            self._found.problems.append("it holds no episodes")
        for number in range(len(lengths)):
            following = starts[number + 1] if number + 1 < len(starts) else rows
            flaw = _index_flaw(int(starts[number]), int(lengths[number]), int(following), rows)
            flaw = flaw or self._flaw(int(starts[number]), int(lengths[number]))
            if flaw is None:
                self._found.sound.append(number)
                self._found.rows += int(lengths[number])
            else:
                self._found.unsound[number] = flaw
            self._moved(min(int(starts[number] + lengths[number]), total), total)

    def _read_small(self) -> None:
        """Hold all columns but the frames that can be read as one."""
        for name in self._columns:
            if name not in self._seen and not self._flaws[name]:
                try:
                    self._whole[name] = self._file[name][:]
                except _DAMAGE:
                    continue  # episode by episode it shows where

    def _flaw(self, start: int, length: int) -> str | None:
        """What is wrong with an episode."""
        end = start + length
        for name, flaws in self._flaws.items():
            for first, after, reason in flaws:
                if first < end and start < after:
                    return f"/{name} is damaged in rows {max(first, start)} on ({reason})"
        values: dict[str, AnyArray] = {}
        for name in self._columns:
            try:
                if name in self._seen:
                    self._read_through(name, start, end)
                else:
                    values[name] = self._rows(name, start, end)
            except _DAMAGE as error:  # noqa: PERF203 - which column it was
                return f"/{name} is damaged ({reason_of(error)})"
        try:
            check_values(self._one(values, length), self._info, Path("the episode"))
        except DatasetError as error:
            return without_advice(error).removeprefix("the episode ")
        return None

    def _rows(self, name: str, start: int, end: int) -> AnyArray:
        whole = self._whole.get(name)
        rows: AnyArray = self._file[name][start:end] if whole is None else whole[start:end]
        return rows

    def _read_through(self, name: str, start: int, end: int) -> None:
        column = self._file[name]
        step = max(1, _PART_BYTES // max(1, column.dtype.itemsize * int(np.prod(column.shape[1:]))))
        for first in range(start, end, step):
            rows = column[first : min(first + step, end)]
            if rows.dtype.kind == "f" and not np.isfinite(rows).all():
                raise ValueError("it has numbers that are NaN or infinite")

    def _one(self, values: Mapping[str, AnyArray], length: int) -> Columns:
        """An episode as if it were alone in a file."""
        vectors = [values[layout.vector_path(name)] for name in self._info.vectors.names]
        return Columns(
            starts=np.zeros(1, np.int64),
            lengths=np.array([length]),
            actions=values[layout.ACTIONS],
            rewards=values.get(layout.REWARDS),
            terminations=values[layout.TERMINATIONS],
            truncations=values[layout.TRUNCATIONS],
            states={},
            vectors=np.concatenate(vectors, axis=1) if vectors else None,
        )


def _index_flaw(start: int, length: int, following: int, rows: int) -> str | None:
    """What is wrong with an entry of the index: it must end where the next one begins."""
    if length < 2 or start < 0 or start + length > rows:
        return f"the index gives it rows {start} to {start + length} of {rows}"
    if start + length != following:
        return f"it ends at row {start + length}, but the next begins at row {following}"
    return None


def reason_of(error: Exception) -> str:
    """What HDF5 says, on one line."""
    # Every chunk was decoded before, so that the only filter left to fail is the checksum.
    failed = "filter returned failure" in str(error)
    return "a checksum does not match" if failed else _one_line(error)


def without_advice(error: Exception) -> str:
    """A sentence without how to mend it: the parent knows better."""
    return _one_line(error).rpartition(": ")[0] or _one_line(error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
