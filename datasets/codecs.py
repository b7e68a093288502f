"""How frames are compressed, and how their chunks are decoded without the HDF5 library.

What is written once and read thousands of times may take its time to be written: LZ4's thorough
mode makes chunks a sixth to a third smaller, which are decoded in three fifths of the time.

HDF5 holds a global lock while it reads, copies every chunk through a cache, and its LZ4 filter
believes the sizes that a file claims. Here chunks go straight from the file into the caller's
array, outside Python's lock, and never past its end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cramjam
import hdf5plugin
import lz4.block

from latentwrap.errors import DatasetError

FLETCHER32 = 3
"""HDF5's number of its checksum."""

CHECKSUM_BYTES = 4
"""Its size, behind a chunk."""

_LZ4_HEADER = struct.Struct(">QI")  # decoded size, size of a decoded block
_LZ4_BLOCK = struct.Struct(">I")  # size of an encoded block
_LZ4_LEVEL = 9
_ZSTD_LEVEL = 9


_Offsets: TypeAlias = Sequence[int]
_Places: TypeAlias = Sequence[memoryview]


class Undecodable(ValueError):
    """A chunk whose bytes are not what its codec writes."""


@dataclass(frozen=True)
class Codec:
    """One way to compress a chunk.

    Attributes:
        name: what users call it.
        filter: HDF5's number of the filter; `None` for none.
        options: for `h5py.Group.create_dataset`.
        encode: makes a chunk that HDF5's filter can decode.
        draft: likewise, quicker and larger, for what is soon written anew.
        decode: fills K equally long places with K encoded chunks, which begin and end there in the
            data, or raises `Undecodable`.
    """

    name: str
    filter: int | None
    options: Callable[[], Mapping[str, Any]]
    encode: Callable[[bytes], bytes]
    draft: Callable[[bytes], bytes]
    decode: Callable[[bytes, _Offsets, _Offsets, _Places], None]


def _keep(data: bytes) -> bytes:
    return data


def _encode_lz4(data: bytes) -> bytes:
    options = {"mode": "high_compression", "compression": _LZ4_LEVEL}
    return _framed(data, lz4.block.compress(data, store_size=False, **options))


def _draft_lz4(data: bytes) -> bytes:
    return _framed(data, lz4.block.compress(data, store_size=False))


def _framed(data: bytes, block: bytes) -> bytes:
    """HDF5's frame around one block, which is kept as it is where LZ4 does not make it smaller."""
    kept = block if len(block) < len(data) else data
    return _LZ4_HEADER.pack(len(data), len(data)) + _LZ4_BLOCK.pack(len(kept)) + kept


def _encode_zstd(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data, _ZSTD_LEVEL))


def _draft_zstd(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data, 1))


def _copy(data: bytes, begins: _Offsets, ends: _Offsets, places: _Places) -> None:
    view = memoryview(data)
    for begin, end, place in zip(begins, ends, places, strict=True):
        _check_size(end - begin, len(place))
        place[:] = view[begin:end]


def _decode_lz4(data: bytes, begins: _Offsets, ends: _Offsets, places: _Places) -> None:
    """HDF5's frame around LZ4: a header, then blocks with their sizes in front."""
    view, size = memoryview(data), len(places[0])
    usual, skipped = _LZ4_HEADER.pack(size, size), _LZ4_HEADER.size + _LZ4_BLOCK.size
    decode, stored = cramjam.lz4.decompress_block_into, size + skipped
    try:
        for begin, end, place in zip(begins, ends, places, strict=True):
            # Nearly all chunks are one block that LZ4 made smaller; parsing each as if it might
            # be several would cost more than decoding it.
            if data.startswith(usual, begin) and end - begin != stored:
                filled = decode(view[begin + skipped : end], place, size)
                if filled != size:
                    _check_size(filled, size)
            else:
                _decode_blocks(view[begin:end], place)
    except cramjam.DecompressionError as error:
        raise Undecodable(str(error)) from None


def _decode_blocks(data: memoryview, place: memoryview) -> None:
    if len(data) < _LZ4_HEADER.size:
        raise Undecodable("no LZ4 header")
    size, block = _LZ4_HEADER.unpack_from(data)
    _check_size(size, len(place))
    if not block:
        raise Undecodable("blocks of no size")
    at = _LZ4_HEADER.size
    for begin in range(0, size, block):
        part = place[begin : begin + block]
        if at + _LZ4_BLOCK.size > len(data):
            raise Undecodable("it ends too early")
        (encoded,) = _LZ4_BLOCK.unpack_from(data, at)
        at += _LZ4_BLOCK.size
        _decode_block(data[at : at + encoded], part)
        at += encoded


def _decode_block(data: memoryview, part: memoryview) -> None:
    """A block that LZ4 could not make smaller lies there as it is."""
    if len(data) == len(part):
        part[:] = data
    else:
        filled = cramjam.lz4.decompress_block_into(data, part, len(part))
        _check_size(filled, len(part))


def _decode_zstd(data: bytes, begins: _Offsets, ends: _Offsets, places: _Places) -> None:
    view = memoryview(data)
    try:
        for begin, end, place in zip(begins, ends, places, strict=True):
            _check_size(cramjam.zstd.decompress_into(view[begin:end], place), len(place))
    except cramjam.DecompressionError as error:
        raise Undecodable(str(error)) from None


def _check_size(found: int, expected: int) -> None:
    if found != expected:
        raise Undecodable(f"{found} bytes instead of {expected}")


CODECS: Mapping[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec("lz4", 32004, hdf5plugin.LZ4, _encode_lz4, _draft_lz4, _decode_lz4),
        Codec("zstd", 32015, hdf5plugin.Zstd, _encode_zstd, _draft_zstd, _decode_zstd),
        Codec("none", None, dict, _keep, _keep, _copy),
    )
}
"""The codecs that are decoded here; others are left to the HDF5 library."""


def find_codec(name: str) -> Codec:
    """The codec that a user named.

    Raises:
        DatasetError: there is none of that name.

    >>> find_codec("lz4").filter
    32004
    """
    if name not in CODECS:
        raise DatasetError(f"A codec must be one of {', '.join(CODECS)}, got {name!r}.")
    return CODECS[name]
