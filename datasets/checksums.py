"""The checksum that HDF5 puts behind a chunk."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from latentwrap.types import AnyArray


def fletcher32(data: bytes) -> bytes:
    """Fletcher's checksum of some bytes as HDF5's filter writes it, 4 bytes.

    Two sums modulo 65535 over the bytes as big-endian words of 16 bits: of the words, and of the
    first sum after each. HDF5 adds with an end-around carry, by which a sum that is a multiple of
    65535 is 65535, and 0 only of nothing but zeros.

    >>> fletcher32(bytes(8))
    b'\\x00\\x00\\x00\\x00'
    >>> fletcher32(b"\\x00\\x01\\x00\\x02").hex()
    '03000400'
    """
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    first = _reduced(int(words.sum()))
    second = _reduced(int(words @ _weights(len(words))))
    return (second << 16 | first).to_bytes(4, "little")


@lru_cache(maxsize=64)
def _weights(count: int) -> AnyArray:
    """How often each of so many words is added to the second sum, modulo 65535 but never 0."""
    times = np.arange(count, 0, -1, dtype=np.uint64)
    return (times - np.uint64(1)) % np.uint64(65535) + np.uint64(1)


def _reduced(total: int) -> int:
    """Modulo 65535, where only nothing is 0."""
    return total and (total - 1) % 65535 + 1
