"""Examining what an HDF5 file holds, object by object, before anything in it is followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t

from latentwrap.datasets.chunks import read_table
from latentwrap.datasets.guarding.columns import Extent, check_column
from latentwrap.datasets.guarding.rules import EXPANSION, FREE_BYTES, Suspect

_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}
_PLAIN = (h5t.TypeIntegerID, h5t.TypeFloatID, h5t.TypeEnumID, h5t.TypeStringID)
_FRAMES = "frames"

PART_BYTES = 4 * 2**20
"""Of a column that are read at a time."""


@dataclass
class Walk:
    """Goes through a file from its root.

    Attributes:
        suspect: the file.
        objects: how many were met.
        groups: where those lie that were met.
        stored: bytes in the file that chunks and columns claim.
        columns_stored, columns_size: of all columns but frames, in the file and in memory.
        frames: the columns of frames.
    """

    suspect: Suspect
    objects: int = 0
    groups: set[int] = field(default_factory=set)
    stored: int = 0
    columns_stored: int = 0
    columns_size: int = 0
    frames: list[tuple[h5d.DatasetID, Extent]] = field(default_factory=list)

    def run(self, file: h5py.File) -> None:
        """Examine everything, then read what its user will read.

        Raises:
            DatasetError: there is something that is not accepted.
            OSError, RuntimeError, ...: the HDF5 library cannot read it.
        """
        if file.userblock_size:
            self.suspect.refuse("a user block before its content")
        self._group(file.id, "", 0)
        self._read_frames()

    def _group(self, group: h5g.GroupID, path: str, depth: int) -> None:
        where = h5o.get_info(group).addr
        if where in self.groups:
            self.suspect.refuse(f"a group {path} that is also elsewhere in the file")
        if depth > self.suspect.rules.depth:
            self.suspect.refuse(f"groups more than {self.suspect.rules.depth} deep")
        self.groups.add(where)
        check_attributes(group, path or "/", self.suspect)
        for name in self._names(group, path):
            self._object(group, name, f"{path}/{name.decode()}", depth)

    def _names(self, group: h5g.GroupID, path: str) -> list[bytes]:
        """What is in a group, if everything there is a hard link with a readable name."""
        found: list[tuple[bytes, int]] = []
        room = self.suspect.rules.objects - self.objects

        def note(name: bytes, info: h5l.LinkInfo) -> bool | None:
            found.append((name, info.type))
            return True if len(found) > room else None

        group.links.iterate(note, info=True)
        if len(found) > room:
            self.suspect.refuse(f"more than {self.suspect.rules.objects} objects")
        self.objects += len(found)
        for name, kind in found:
            self._link(name, kind, path)
        return [name for name, _ in found]

    def _link(self, name: bytes, kind: int, path: str) -> None:
        readable = _text(name)
        if readable is None:
            self.suspect.refuse(f"a name in {path or '/'} that is no UTF-8 text")
        if kind != h5l.TYPE_HARD:
            what = _LINKS.get(kind, "a link of unknown kind")
            self.suspect.refuse(
                f"{what} at {path}/{readable}, which could lead out of the file",
                "get a copy that holds the data itself",
            )

    def _object(self, group: h5g.GroupID, name: bytes, path: str, depth: int) -> None:
        kind = h5o.get_info(group, name).type
        if kind == h5o.TYPE_GROUP:
            self._group(h5g.open(group, name), path, depth + 1)
        elif kind == h5o.TYPE_DATASET:
            self._column(h5d.open(group, name), path)
        else:
            self.suspect.refuse(f"an object {path} that is neither a group nor a column")

    def _column(self, column: h5d.DatasetID, path: str) -> None:
        extent = check_column(column, path, self.suspect)
        check_attributes(column, path, self.suspect)
        self.stored += extent.stored
        if self.stored > self.suspect.size:
            self.suspect.refuse("columns that share the same bytes of the file")
        if not self.suspect.rules.in_memory:
            read_column(column, extent)
        elif path.split("/")[1] == _FRAMES:
            self.frames.append((column, extent))
        else:
            self.columns_stored += extent.stored
            self.columns_size += extent.size
            self._in_proportion()
            read_column(column, extent)

    def _read_frames(self) -> None:
        """Read frames unless they are never given to the HDF5 library to decode."""
        tables = [read_table(h5py.Dataset(column)) for column, _ in self.frames]
        if any(table is None for table in tables):
            for column, extent in self.frames:
                read_column(column, extent)

    def _in_proportion(self) -> None:
        if self.columns_size > FREE_BYTES + EXPANSION * self.columns_stored:
            self.suspect.refuse(
                f"columns of {self.columns_size:,} bytes in {self.columns_stored:,} bytes of file"
            )


_MOST_ATTRIBUTES = 1000


def check_attributes(owner: Any, path: str, suspect: Suspect) -> None:
    """Read all attributes of an object, if they are numbers and texts of some size.

    Raises:
        DatasetError: they are something else.
    """
    names: list[bytes] = []
    # Told more than there are, HDF5 lists what lies in its memory beyond them.
    count = h5a.get_num_attrs(owner)
    if count > _MOST_ATTRIBUTES:
        suspect.refuse(f"{count:,} attributes at {path}, more than {_MOST_ATTRIBUTES:,}")
    h5a.iterate(owner, names.append)
    if len(names) != count:
        suspect.refuse(f"{len(names)} attributes at {path} where it says {count}")
    left = suspect.rules.attribute_bytes
    for name in names:
        readable = _text(name)
        if readable is None:
            suspect.refuse(f"an attribute of {path} whose name is no UTF-8 text")
        left -= _attribute_bytes(owner, name, f"{readable} of {path}", suspect, left)


def _attribute_bytes(owner: Any, name: bytes, what: str, suspect: Suspect, left: int) -> int:
    attribute = h5a.open(owner, name)
    kind = attribute.get_type()
    if not isinstance(kind, _PLAIN):
        suspect.refuse(f"an attribute {what} that is neither a number nor a text")
    points = attribute.get_space().get_simple_extent_npoints()
    size = points * max(kind.get_size(), 1)
    if size > left:
        suspect.refuse(f"an attribute {what} of {size:,} bytes")
    value = h5py.AttributeManager(_High(owner))[name]
    texts = [value] if isinstance(value, str) else np.asarray(value, object).ravel().tolist()
    for text in texts:
        size += len(text) if isinstance(text, str | bytes) else 0
        if isinstance(text, str) and _text(text) is None:
            suspect.refuse(f"an attribute {what} that is no UTF-8 text")
    if size > left:
        suspect.refuse(f"an attribute {what} of {size:,} bytes")
    return int(size)


@dataclass(frozen=True)
class _High:
    """What h5py's AttributeManager wants of the owner of attributes."""

    id: Any


def read_column(column: h5d.DatasetID, extent: Extent) -> None:
    """Read a column as its user will, a part at a time, and drop it.

    Of one that lies in the file as it is, the ends: between them the HDF5 library has no choice.

    Raises:
        DatasetError: a chunk is damaged.
    """
    if extent.chunks is not None:
        extent.chunks.check_contents(column)
    high = h5py.Dataset(column)
    for part in _parts(high, whole=extent.varies or extent.chunks is not None):
        _ = high[part]


def _parts(column: h5py.Dataset, *, whole: bool) -> Iterator[Any]:
    if not column.shape or not column.size:
        yield ()
        return
    rows = column.shape[0]
    if not whole:
        yield from (slice(0, 1), slice(rows - 1, rows))
        return
    step = max(1, PART_BYTES // max(1, column.nbytes // rows))
    if column.chunks:
        step = -(-step // column.chunks[0]) * column.chunks[0]  # no chunk is decoded twice
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _text(name: str | bytes) -> str | None:
    """The name if it can be printed, whatever the terminal."""
    try:
        return name.decode() if isinstance(name, bytes) else name.encode().decode()
    except UnicodeError:
        return None
