"""Examining one column of an HDF5 file: its type, its filters, and where its bytes lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from h5py import h5d, h5s, h5t

from latentwrap.datasets.guarding.codecs import FILTERS, Pipeline, Undecodable
from latentwrap.datasets.guarding.rules import FREE_BYTES, MAX_CHUNK_BYTES, Suspect

_NUMBERS = (h5t.TypeIntegerID, h5t.TypeFloatID, h5t.TypeEnumID)
_PLACE_OF_TEXT = 4 + 8 + 4
"""Bytes of a length, an address and a number, where `get_size` gives those of a pointer."""

MAX_GROWN_BYTES = 2**48
"""Of a column whose dimensions have all the size that they may have."""

_SLACK = 4096
"""How much larger than its content an encoded chunk may be, beside a sixteenth of it."""


@dataclass(frozen=True)
class Extent:
    """How large a column is.

    Attributes:
        size: bytes in memory.
        stored: bytes in the file.
        varies: its elements point to bytes elsewhere in the file, such as texts.
        chunks: where it has any; they are to be checked before the HDF5 library decodes them.
    """

    size: int
    stored: int
    varies: bool
    chunks: Chunks | None = None


def check_column(column: h5d.DatasetID, path: str, suspect: Suspect) -> Extent:
    """Refuse a column that leads out of the file or is not wholly stored in it.

    Raises:
        DatasetError: it is refused.
    """
    plist = column.get_create_plist()
    if plist.get_layout() == h5d.VIRTUAL:
        suspect.refuse(
            f"a virtual column {path} made of other files", "get a copy that holds the data itself"
        )
    if plist.get_external_count():
        suspect.refuse(
            f"a column {path} stored outside of the file", "get a copy that holds the data itself"
        )
    varies = _check_type(column.get_type(), path, suspect)
    size = _check_shape(column, path, suspect)
    if plist.get_layout() != h5d.CHUNKED:
        return Extent(size, _check_contiguous(column, size, path, suspect), varies)
    pipeline = _check_filters(plist, path, suspect)
    chunk = math.prod(plist.get_chunk()) * _element_bytes(column.get_type())
    if chunk > MAX_CHUNK_BYTES:
        suspect.refuse(
            f"chunks of {chunk:,} bytes in {path}, at most {MAX_CHUNK_BYTES:,} are read",
            "write it with smaller chunks",
        )
    chunks = Chunks(path, suspect, pipeline, chunk)
    chunks.check_places(column, _expected_chunks(column.shape, plist.get_chunk()), size)
    return Extent(size, chunks.stored, varies, chunks)


def _check_type(kind: h5t.TypeID, path: str, suspect: Suspect) -> bool:
    """Whether the elements, which must be numbers, truths or allowed texts, lie elsewhere."""
    if isinstance(kind, _NUMBERS) and kind.get_size() <= 16:
        return False
    if suspect.rules.texts and isinstance(kind, h5t.TypeStringID):
        return bool(kind.is_variable_str())
    if suspect.rules.texts and isinstance(kind, h5t.TypeVlenID):
        kind = kind.get_super()
        if isinstance(kind, _NUMBERS):
            return True
    return suspect.refuse(
        f"a column {path} that holds {_kind(kind)}, not plain numbers", "leave that column out"
    )


def _kind(kind: h5t.TypeID) -> str:
    names = {h5t.REFERENCE: "references", h5t.COMPOUND: "records", h5t.VLEN: "lists"}
    return {**names, h5t.STRING: "texts"}.get(kind.get_class(), "objects")


def _check_shape(column: h5d.DatasetID, path: str, suspect: Suspect) -> int:
    space = column.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        return 0
    shape = column.shape
    if len(shape) > suspect.rules.rank:
        suspect.refuse(f"a column {path} of {len(shape)} dimensions")
    item = _element_bytes(column.get_type())
    most, unlimited = space.get_simple_extent_dims(maxdims=True), h5s.UNLIMITED
    grown = [now if limit == unlimited else limit for now, limit in zip(shape, most, strict=True)]
    if math.prod(grown) * item > MAX_GROWN_BYTES:  # beyond that the library miscounts chunks
        suspect.refuse(f"a column {path} that could grow to {tuple(grown)}")
    return int(math.prod(shape)) * item


def _element_bytes(kind: h5t.TypeID) -> int:
    """Size of one element in the file; of a text of any length, of what says where it lies."""
    varies = isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()
    return _PLACE_OF_TEXT if varies else int(kind.get_size())


def _check_contiguous(column: h5d.DatasetID, size: int, path: str, suspect: Suspect) -> int:
    """The bytes of a column that is stored in one piece, which must lie in the file."""
    if column.get_create_plist().get_layout() == h5d.COMPACT:
        return size
    offset = column.get_offset()
    if offset is None:  # never written: it reads as zeros
        return _check_unwritten(size, path, suspect)
    if offset + size > suspect.size:
        suspect.refuse(f"a column {path} that ends behind the end of the file")
    return size


def _check_unwritten(size: int, path: str, suspect: Suspect) -> int:
    limit = 0 if suspect.rules.in_memory else FREE_BYTES
    if size > limit:
        suspect.refuse(f"a column {path} of {size:,} bytes that are not all in the file")
    return 0


def _expected_chunks(shape: tuple[int, ...], chunk: tuple[int, ...]) -> int:
    return math.prod(-(-rows // step) for rows, step in zip(shape, chunk, strict=True))


def _check_filters(plist: Any, path: str, suspect: Suspect) -> Pipeline:
    filters = [plist.get_filter(number)[:1][0] for number in range(plist.get_nfilters())]
    for number in filters:
        if number not in FILTERS:
            suspect.refuse(
                f"a column {path} encoded with the HDF5 filter {number}, which is not read safely",
                "write it with LZ4, Zstd, gzip, LZF or without compression",
            )
    try:
        return Pipeline(tuple(filters))
    except Undecodable as error:
        suspect.refuse(f"a column {path} with {error}", "write it with one codec")


@dataclass
class Chunks:
    """The chunks of a column; `stored` is the bytes of all of them in the file."""

    path: str
    suspect: Suspect
    pipeline: Pipeline
    size: int
    stored: int = 0
    count: int = 0
    fault: str = ""

    def check_places(self, column: h5d.DatasetID, expected: int, size: int) -> None:
        """Refuse chunks outside of the file, of absurd size, or fewer than the shape needs.

        Raises:
            DatasetError: there are such chunks.
        """
        room = self.size + self.size // 16 + _SLACK

        def note(chunk: h5d.StoreInfo) -> bool | None:
            self.count += 1
            self.stored += chunk.size
            if chunk.byte_offset is None or chunk.byte_offset + chunk.size > self.suspect.size:
                self.fault = f"a chunk of {self.path} behind the end of the file"
            elif chunk.size > room:
                self.fault = f"a chunk of {self.path} larger than its content"
            elif self.stored > self.suspect.size or self.count > expected:
                self.fault = f"more chunks of {self.path} than it has rows for"
            return True if self.fault else None

        self._every(column, note)
        if self.count < expected:
            _check_unwritten(size, self.path, self.suspect)

    def check_contents(self, column: h5d.DatasetID) -> None:
        """Decode every chunk, which must give exactly its size.

        The HDF5 library would read past the end of one that turns out shorter.

        Raises:
            DatasetError: it gives another size, or none.
        """

        def decode(chunk: h5d.StoreInfo) -> bool | None:
            data = self.suspect.read(chunk.byte_offset, chunk.size)
            try:
                self.pipeline.check(data, self.size, chunk.filter_mask)
            except Undecodable as error:
                self.fault = f"a damaged chunk in {self.path} at {chunk.chunk_offset} ({error})"
            return True if self.fault else None

        self.suspect.expect(self.count * self.size)
        self._every(column, decode)

    def _every(self, column: h5d.DatasetID, visit: Any) -> None:
        """Visit chunks until one is faulty."""
        column.chunk_iter(visit)
        if self.fault:
            self.suspect.refuse(self.fault)
