"""Where the chunks of a column of frames lie in its file, and reading rows through that."""

from __future__ import annotations

import os
from dataclasses import dataclass

import h5py
import numpy as np

from latentwrap.datasets.codecs import CODECS, FLETCHER32, Codec, Undecodable
from latentwrap.types import AnyArray, IntArray

_CHECKSUM_BYTES = 4
_GAP_BYTES = 64 * 1024
"""Chunks this far apart are still read in one go: a call costs more than the bytes between."""


@dataclass(frozen=True)
class ChunkTable:
    """The chunks of a column of N rows, whole frames each.

    Attributes:
        offsets, sizes: of each chunk in the file, int64 (K,), first rows first.
        rows: in a chunk.
        shape: of one row.
        codec: how they are encoded.
        trailer: bytes of checksum behind the encoded ones.
    """

    offsets: IntArray
    sizes: IntArray
    rows: int
    shape: tuple[int, ...]
    codec: Codec
    trailer: int

    def read(self, descriptor: int, starts: IntArray, out: AnyArray) -> None:
        """Fill `out`, uint8 (B, n, ...), with n rows from each of some rows on.

        Args:
            descriptor: of the open file; its position is left alone.
            starts: the first rows, int64 (B,).
            out: contiguous.

        Raises:
            Undecodable: the file is damaged there.
        """
        length = out.shape[1]
        if self.rows == 1:
            chunks = starts[:, None] + np.arange(length)
            self._decode(descriptor, chunks, out.reshape(len(starts), length, -1))
            return
        for start, window in zip(starts.tolist(), out, strict=True):
            first, last = start // self.rows, -(-(start + length) // self.rows)
            # Whole chunks are decoded apart: the rows may begin and end inside one.
            whole = np.empty((1, last - first, self.rows, *self.shape), np.uint8)
            chunks = np.arange(first, last)[None]
            self._decode(descriptor, chunks, whole.reshape(1, last - first, -1))
            begin = start - first * self.rows
            window[:] = whole.reshape(-1, *self.shape)[begin : begin + length]

    def _decode(self, descriptor: int, chunks: IntArray, out: AnyArray) -> None:
        """Decode chunks (B, K) into uint8 (B, K, bytes), each K of them with one read."""
        offsets, sizes = self.offsets[chunks], self.sizes[chunks]
        bases, ends = offsets.min(axis=1), (offsets + sizes).max(axis=1)
        spans = ends - bases
        if (spans > sizes.sum(axis=1) + _GAP_BYTES).any():
            # They lie scattered: each is read alone.
            each = chunks.reshape(-1, 1)
            if each.shape != chunks.shape:
                self._decode(descriptor, each, out.reshape(len(each), 1, -1))
                return
        begins = offsets - bases[:, None]
        stops = begins + sizes - self.trailer
        decode = self.codec.decode
        for base, span, begin, stop, rows in zip(
            bases.tolist(), spans.tolist(), begins.tolist(), stops.tolist(), out, strict=True
        ):
            data = os.pread(descriptor, span, base)
            if len(data) != span:
                raise Undecodable("the file ends too early")
            decode(data, begin, stop, rows)


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
    return ChunkTable(offsets, np.full_like(offsets, row), 1, column.shape[1:], CODECS["none"], 0)


def _filters(column: h5py.Dataset) -> tuple[Codec, int] | None:
    """Codec and bytes of checksum of a column."""
    plist = column.id.get_create_plist()
    numbers = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    trailer = _CHECKSUM_BYTES if numbers[-1:] == [FLETCHER32] else 0
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
    return ChunkTable(offsets, sizes, rows, column.shape[1:], codec, trailer)
