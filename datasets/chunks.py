"""Where the chunks of a column of frames lie in its file, and reading rows through that."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import h5py
import numpy as np

from latentwrap.datasets.checksums import fletcher32
from latentwrap.datasets.codecs import CHECKSUM_BYTES, CODECS, FLETCHER32, Codec, Undecodable
from latentwrap.types import AnyArray, BoolArray, IntArray

_GAP_BYTES = 64 * 1024
"""Chunks this far apart are still read in one go: a call costs more than the bytes between."""


class _Piece(NamedTuple):
    """The chunks that a window lies in.

    Attributes:
        base, span: the stretch of the file that holds all of them.
        begins, ends: of each in that stretch, without its checksum.
        close: whether there is little else in it.
    """

    base: int
    span: int
    begins: list[int]
    ends: list[int]
    close: bool


class _Edges(NamedTuple):
    """Where chunks are decoded that a window holds a part of."""

    first: memoryview
    last: memoryview

    @classmethod
    def of(cls, size: int) -> _Edges:
        """For chunks of `size` bytes."""
        return cls(np.empty(size, np.uint8).data, np.empty(size, np.uint8).data)


@dataclass(frozen=True)
class ChunkTable:
    """The chunks of a column of N rows, whole frames each.

    Attributes:
        offsets, sizes: of each chunk in the file, int64 (K,), first rows first.
        rows: in a chunk.
        shape: of one row.
        codec: how they are encoded.
        trailer: bytes of checksum behind the encoded ones.
        checked: which chunks were found to have their checksum, bool (K,). Each is checked when it
            is first read: doing so every time would take as long as decoding.
    """

    offsets: IntArray
    sizes: IntArray
    rows: int
    shape: tuple[int, ...]
    codec: Codec
    trailer: int
    checked: BoolArray

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return int(np.prod(self.shape))

    def read(self, descriptor: int, starts: IntArray, out: AnyArray) -> None:
        """Fill `out`, uint8 (B, n, ...), with n rows from each of some rows on.

        Args:
            descriptor: of the open file; its position is left alone.
            starts: the first rows, int64 (B,).
            out: contiguous.

        Raises:
            Undecodable: the file is damaged there.
        """
        firsts = starts // self.rows
        counts = (starts + out.shape[1] - 1) // self.rows - firsts + 1
        skipped = (starts - firsts * self.rows) * self.row_bytes
        windows = out.reshape(len(starts), -1)
        edges = _Edges.of(self.rows * self.row_bytes)
        # Windows that lie in equally many chunks are looked up together, in two tables at most.
        for count in range(int(counts.min(initial=1)), int(counts.max(initial=0)) + 1):
            chosen = np.flatnonzero(counts == count)
            chunks = firsts[chosen, None] + np.arange(count)
            self._check(descriptor, chunks)
            pieces = self._locate(chunks)
            befores = skipped[chosen].tolist()
            for number, before, piece in zip(chosen.tolist(), befores, pieces, strict=True):
                self._fill(descriptor, piece, windows[number].data, before, edges)

    def _check(self, descriptor: int, chunks: IntArray) -> None:
        """Compare the checksums of chunks that are read for the first time."""
        if not self.trailer or self.checked[chunks].all():
            return
        for number in np.unique(chunks[~self.checked[chunks]]).tolist():
            data = _read(descriptor, int(self.offsets[number]), int(self.sizes[number]))
            if fletcher32(data[: -self.trailer]) != data[-self.trailer :]:
                raise Undecodable(f"chunk {number} of its frames does not have its checksum")
            self.checked[number] = True

    def _locate(self, chunks: IntArray) -> Iterator[_Piece]:
        """Where the chunks (B, K) lie, for each of B windows."""
        offsets, sizes = self.offsets[chunks], self.sizes[chunks]
        bases, ends = offsets.min(axis=1), (offsets + sizes).max(axis=1)
        close = ends - bases <= sizes.sum(axis=1) + _GAP_BYTES
        begins = offsets - bases[:, None]
        stops = begins + sizes - self.trailer
        columns = (bases, ends - bases, begins, stops, close)
        return map(_Piece, *(column.tolist() for column in columns))

    def _fill(
        self, descriptor: int, piece: _Piece, window: memoryview, before: int, edges: _Edges
    ) -> None:
        """Decode chunks into a window that begins `before` bytes into the first of them."""
        size, length = len(edges.first), len(window)
        begin = size - before if before else 0  # of the first chunk that is wholly inside
        end = begin + max(length - begin, 0) // size * size
        places = [window[at : at + size] for at in range(begin, end, size)]
        # A chunk that sticks out of the window is decoded apart.
        if before:
            places.insert(0, edges.first)
        if end < length:
            places.append(edges.last)
        self._decode(descriptor, piece, places)
        if before:
            inside = min(begin, length)
            window[:inside] = edges.first[before : before + inside]
        if end < length:
            window[end:] = edges.last[: length - end]

    def _decode(self, descriptor: int, piece: _Piece, places: Sequence[memoryview]) -> None:
        decode = self.codec.decode
        if piece.close:
            data = _read(descriptor, piece.base, piece.span)
            decode(data, piece.begins, piece.ends, places)
            return
        for begin, end, place in zip(piece.begins, piece.ends, places, strict=True):
            data = _read(descriptor, piece.base + begin, end - begin)
            decode(data, [0], [len(data)], [place])


def read_table(column: h5py.Dataset) -> ChunkTable | None:
    """Find the chunks of a column; `None` where only the HDF5 library can read it.

    That is where frames are divided, a codec is not among `CODECS`, several filters follow each
    other, a chunk was never written or skips a filter, or this system cannot read at an offset.

    Args:
        column: uint8 (N, ...).
    """
    if not hasattr(os, "pread") or column.dtype != np.uint8 or not column.size:
        return None
    if column.chunks is None:
        return _contiguous(column)
    if column.chunks[1:] != column.shape[1:]:
        return None
    found = _filters(column)
    if found is None:
        return None
    codec, trailer = found
    return _chunked(column, codec, trailer)


def _contiguous(column: h5py.Dataset) -> ChunkTable | None:
    """Rows that follow each other as they are, each as a chunk of its own."""
    offset = column.id.get_offset()
    if offset is None:
        return None
    row = int(np.prod(column.shape[1:]))
    offsets = offset + row * np.arange(len(column), dtype=np.int64)
    return ChunkTable(
        offsets,
        np.full_like(offsets, row),
        1,
        column.shape[1:],
        CODECS["none"],
        0,
        np.ones(len(column), bool),
    )


def _filters(column: h5py.Dataset) -> tuple[Codec, int] | None:
    """Codec and bytes of checksum of a column."""
    plist = column.id.get_create_plist()
    numbers = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    trailer = CHECKSUM_BYTES if numbers[-1:] == [FLETCHER32] else 0
    encoding = numbers[:-1] if trailer else numbers
    if len(encoding) > 1:
        return None
    number = encoding[0] if encoding else None
    codec = next((c for c in CODECS.values() if c.filter == number), None)
    return None if codec is None else (codec, trailer)


def _chunked(column: h5py.Dataset, codec: Codec, trailer: int) -> ChunkTable | None:
    rows = column.chunks[0]
    count = -(-len(column) // rows)
    offsets, sizes = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    masks = 0

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        nonlocal masks
        number = chunk.chunk_offset[0] // rows
        offsets[number], sizes[number] = chunk.byte_offset, chunk.size
        masks |= chunk.filter_mask

    column.id.chunk_iter(note)
    if masks or (offsets < 0).any() or (sizes <= trailer).any():
        return None
    checked = np.full(count, not trailer)
    return ChunkTable(offsets, sizes, rows, column.shape[1:], codec, trailer, checked)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    if len(data) != size:
        raise Undecodable("the file ends too early")
    return data
