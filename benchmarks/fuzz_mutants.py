"""Damages HDF5 files for fuzz_datasets.py, also so that their checksums still hold.

HDF5 1.10 keeps a checksum (Jenkins's lookup3) at the end of each piece of metadata, which stops
nearly all random damage at the door. Half of the mutants get theirs repaired, so that the damage
reaches what lies behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SIGNATURES = (
    *(b"OHDR", b"OCHK", b"FRHP", b"FHIB", b"FSHD", b"FSSE", b"SMTB", b"SMLI"),
    *(b"BTHD", b"BTLF", b"BTIN", b"FAHD", b"FADB", b"EAHD", b"EAIB", b"EASB", b"EADB"),
)
"""With which pieces of metadata begin that end with a checksum."""

HEAP = b"GCOL"
"""With which the texts of attributes begin, which have none."""

LONGEST = 768
"""Bytes of a piece of metadata that are searched for its checksum."""

WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Seed:
    """A sound or hostile file to damage.

    Attributes:
        name: what it is.
        content: its bytes.
        pieces: begin and end (without the checksum) of pieces with a checksum.
        heaps: where attributes' texts lie.
    """

    name: str
    content: bytes
    pieces: tuple[tuple[int, int], ...]
    heaps: tuple[int, ...]

    @classmethod
    def of(cls, name: str, content: bytes) -> Seed:
        """Find the pieces of a file."""
        pieces = [(0, 44)] if content[8] in (2, 3) else []  # the superblock
        for signature in SIGNATURES:
            for start in places(content, signature):
                length = checked_length(content[start : start + LONGEST])
                pieces += [(start, start + length)] if length else []
        return cls(name, content, tuple(pieces), tuple(places(content, HEAP)))


def places(content: bytes, what: bytes) -> list[int]:
    """Where it occurs."""
    found, at = [], content.find(what)
    while at >= 0:
        found.append(at)
        at = content.find(what, at + 1)
    return found


def mutant(seed: Seed, rng: np.random.Generator) -> bytes:
    """A damaged copy of a file."""
    content = bytearray(seed.content)
    if rng.random() < 0.15:
        return bytes(RESHAPES[rng.integers(len(RESHAPES))](content, rng))
    for _ in range(rng.geometric(0.6)):
        CHANGES[rng.integers(len(CHANGES))](content, place(seed, rng), rng)
    if rng.random() < 0.5:
        repair(content, seed)
    return bytes(content)


def place(seed: Seed, rng: np.random.Generator) -> int:
    """Mostly in metadata, the smallest and most interesting share of a file."""
    draw = rng.random()
    if draw < 0.55 and seed.pieces:
        begin, end = seed.pieces[rng.integers(len(seed.pieces))]
        return int(rng.integers(begin, end))
    if draw < 0.6 and seed.heaps:
        at = seed.heaps[rng.integers(len(seed.heaps))]
        return int(rng.integers(at, min(at + 4096, len(seed.content))))
    return int(rng.integers(len(seed.content)))


def repair(content: bytearray, seed: Seed) -> None:
    """Write the checksums of all pieces anew, of those that others lie in last."""
    for begin, end in seed.pieces:
        if content[begin : end + 4] != seed.content[begin : end + 4]:
            content[end : end + 4] = lookup3(content[begin:end]).to_bytes(4, "little")


def _flip(content: bytearray, at: int, rng: np.random.Generator) -> None:
    content[at] ^= 1 << int(rng.integers(8))


def _byte(content: bytearray, at: int, rng: np.random.Generator) -> None:
    content[at] = int(rng.integers(256))


def _run(content: bytearray, at: int, rng: np.random.Generator) -> None:
    end = min(at + int(rng.integers(1, 65)), len(content))
    content[at:end] = rng.bytes(end - at)


def _fill(content: bytearray, at: int, rng: np.random.Generator) -> None:
    end = min(at + int(rng.integers(1, 513)), len(content))
    content[at:end] = bytes([int(rng.choice([0, 255]))]) * (end - at)


def _number(content: bytearray, at: int, rng: np.random.Generator) -> None:
    """An integer at an edge, of a usual size."""
    size = int(rng.choice([1, 2, 4, 8]))
    edges = [0, 1, 2, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1]
    number = int(edges[rng.integers(len(edges))]) & (2 ** (8 * size) - 1)
    content[at : at + size] = number.to_bytes(size, "little")[: len(content) - at]


def _add(content: bytearray, at: int, rng: np.random.Generator) -> None:
    """A number slightly off, such as a size or an address."""
    size = int(rng.choice([1, 2, 4, 8]))
    number = int.from_bytes(content[at : at + size], "little") + int(rng.integers(-16, 17))
    content[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")[
        : len(content) - at
    ]


def _copy(content: bytearray, at: int, rng: np.random.Generator) -> None:
    """Bytes from elsewhere: a valid structure in a wrong place."""
    size = int(rng.choice([8, 16, 64]))
    source = int(rng.integers(len(content)))
    piece = content[source : source + size][: len(content) - at]
    content[at : at + len(piece)] = piece


def _truncated(content: bytearray, rng: np.random.Generator) -> bytearray:
    return content[: rng.integers(len(content))]


def _inserted(content: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(len(content)))
    return content[:at] + rng.bytes(int(rng.integers(1, 257))) + content[at:]


def _deleted(content: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(len(content)))
    return content[:at] + content[at + int(rng.integers(1, 257)) :]


def _swapped(content: bytearray, rng: np.random.Generator) -> bytearray:
    size = int(rng.choice([64, 512, 4096]))
    first, second = sorted(int(n) * size for n in rng.integers(len(content) // size + 1, size=2))
    one, two = content[first : first + size], content[second : second + size]
    if len(one) == len(two):
        content[first : first + size], content[second : second + size] = two, one
    return content


CHANGES: tuple[Callable[[bytearray, int, np.random.Generator], None], ...] = (
    *(_flip, _byte, _run, _fill, _number, _number, _add, _copy),
)
RESHAPES: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (
    *(_truncated, _inserted, _deleted, _swapped),
)


def checked_length(content: bytes) -> int:
    """How many bytes from the start are followed by their own checksum; 0 if none are."""
    lengths = np.arange(8, max(len(content) - 3, 9))
    stored = np.lib.stride_tricks.sliding_window_view(np.frombuffer(content, np.uint8), 4)
    stored = stored[8:].astype(np.uint32) @ (np.uint32(1) << np.arange(0, 32, 8, dtype=np.uint32))
    fits = np.flatnonzero(lookup3_of_beginnings(content, lengths)[: len(stored)] == stored)
    return int(lengths[fits[0]]) if len(fits) else 0


def lookup3(data: bytes | bytearray) -> int:
    """Jenkins's hash of bytes as HDF5 computes it."""
    a = b = c = (0xDEADBEEF + len(data)) & WORD
    padded = bytes(data) + bytes(-len(data) % 12)
    words = [int.from_bytes(padded[i : i + 4], "little") for i in range(0, len(padded), 4)]
    for i in range(0, len(words), 3):
        a, b, c = (a + words[i]) & WORD, (b + words[i + 1]) & WORD, (c + words[i + 2]) & WORD
        if i + 3 < len(words):
            a, b, c = _mixed(a, b, c)
    return _final(a, b, c) if words else c


def lookup3_of_beginnings(content: bytes, lengths: np.ndarray) -> np.ndarray:
    """The hashes of the first so many bytes each, computed side by side; uint32 (K,)."""
    data = np.frombuffer(content + bytes(16), np.uint8)
    start = (np.uint32(0xDEADBEEF) + lengths.astype(np.uint32)).astype(np.uint32)
    a, b, c = start.copy(), start.copy(), start.copy()
    result = np.zeros_like(start)
    for at in range(0, int(lengths.max()), 12):
        active = lengths > at
        inside = at + np.arange(12) < lengths[:, None]
        block = (data[at : at + 12] * inside).astype(np.uint32)
        words = block.reshape(-1, 3, 4) @ (np.uint32(1) << np.arange(0, 32, 8, dtype=np.uint32))
        a, b, c = a + words[:, 0], b + words[:, 1], c + words[:, 2]
        last = active & (lengths <= at + 12)
        result[last] = _final(a, b, c)[last]
        a, b, c = _mixed(a, b, c)
    return result


def _turned(x: int, by: int) -> int:
    return (x << by | x >> (32 - by)) & WORD


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    """The hash's inner step, of Python integers and of uint32 arrays alike."""
    a, c = (a - c) & WORD ^ _turned(c, 4), (c + b) & WORD
    b, a = (b - a) & WORD ^ _turned(a, 6), (a + c) & WORD
    c, b = (c - b) & WORD ^ _turned(b, 8), (b + a) & WORD
    a, c = (a - c) & WORD ^ _turned(c, 16), (c + b) & WORD
    b, a = (b - a) & WORD ^ _turned(a, 19), (a + c) & WORD
    c, b = (c - b) & WORD ^ _turned(b, 4), (b + a) & WORD
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = (c ^ b) - _turned(b, 14) & WORD
    a = (a ^ c) - _turned(c, 11) & WORD
    b = (b ^ a) - _turned(a, 25) & WORD
    c = (c ^ b) - _turned(b, 16) & WORD
    a = (a ^ c) - _turned(c, 4) & WORD
    b = (b ^ a) - _turned(a, 14) & WORD
    return (c ^ b) - _turned(b, 24) & WORD
