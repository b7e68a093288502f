"""Whether a chunk decodes to exactly its size: nothing is ever decoded past that."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from latentwrap.datasets.codecs import CHECKSUM_BYTES, CODECS, FLETCHER32, Undecodable

DEFLATE = 1
SHUFFLE = 2
LZF = 32000

__all__ = ["DEFLATE", "FILTERS", "LZF", "Pipeline", "Undecodable"]


@dataclass(frozen=True)
class Pipeline:
    """The filters of a column, in the order in which they were applied.

    Raises:
        Undecodable: more than one of them compresses.

    Example:
        >>> Pipeline((2, 1)).check(zlib.compress(bytes(8)), 8, mask=0)
        >>> Pipeline((2, 1)).check(zlib.compress(bytes(8)), 16, mask=0)
        Traceback (most recent call last):
        ...
        latentwrap.datasets.codecs.Undecodable: 8 bytes instead of 16
    """

    filters: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(FILTERS[number] is not None for number in self.filters) > 1:
            raise Undecodable("several compressing filters")

    def check(self, data: bytes, size: int, mask: int) -> None:
        """Decode an encoded chunk.

        Args:
            data: as it lies in the file.
            size: that it must have once decoded.
            mask: a bit for each filter that was left out.

        Raises:
            Undecodable: it has another size or is damaged.
        """
        decode, trailer = None, 0
        for position, number in enumerate(self.filters):
            if mask >> position & 1:
                continue
            decode = decode or FILTERS[number]
            if number == FLETCHER32 and decode:
                trailer += CHECKSUM_BYTES
            elif number == FLETCHER32:
                size += CHECKSUM_BYTES
        body = memoryview(data)[: len(data) - trailer] if len(data) >= trailer else b""
        (decode or _check_plain)(memoryview(body), size)


def _check_plain(data: memoryview, size: int) -> None:
    _check_size(len(data), size)


def _check_deflate(data: memoryview, size: int) -> None:
    stream = zlib.decompressobj()
    try:
        # One byte more than expected tells a bomb from a chunk without decoding it all.
        found = len(stream.decompress(data, size + 1))
        found += 0 if stream.eof or found > size else len(stream.flush(1))
    except zlib.error as error:
        raise Undecodable(str(error)) from None
    if not stream.eof and found <= size:
        raise Undecodable("it ends too early")
    _check_size(found, size)


def _checked_by(name: str) -> Callable[[memoryview, int], None]:
    """A check that decodes as `latentwrap.datasets.codecs` does."""

    def check(data: memoryview, size: int) -> None:
        CODECS[name].decode(bytes(data), [0], [len(data)], [np.empty(size, np.uint8).data])

    return check


def _check_lzf(data: memoryview, size: int) -> None:
    """Follow LZF's tokens without copying: literals, and references to what was decoded."""
    at = found = 0
    while at < len(data):
        control = data[at]
        at += 1
        if control < 32:
            at, found = at + control + 1, found + control + 1
        else:
            length, high = control >> 5, control & 31
            if length == 7:
                length += _byte(data, at)
                at += 1
            distance = (high << 8) + _byte(data, at) + 1
            at += 1
            if distance > found:
                raise Undecodable("a reference before its begin")
            found += length + 2
        if at > len(data) or found > size:
            raise Undecodable("a token beyond its end")
    _check_size(found, size)


def _byte(data: memoryview, at: int) -> int:
    if at >= len(data):
        raise Undecodable("it ends too early")
    return data[at]


def _check_size(found: int, size: int) -> None:
    if found != size:
        raise Undecodable(f"{found} bytes instead of {size}")


FILTERS: Mapping[int, Callable[[memoryview, int], None] | None] = {
    DEFLATE: _check_deflate,
    SHUFFLE: None,
    FLETCHER32: None,
    LZF: _check_lzf,
    32004: _checked_by("lz4"),
    32015: _checked_by("zstd"),
}
"""The filters that are read, by HDF5's number, and what decodes a chunk; `None` keeps its size."""
