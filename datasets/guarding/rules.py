"""What a file from a stranger may hold: how deep, how many, how large, of which types."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from latentwrap.errors import DatasetError

MIB = 2**20

MAX_CHUNK_BYTES = 256 * MIB
"""Decoded size of a chunk: reading one row takes that much memory."""

FREE_BYTES = 256 * MIB
"""What columns may take in memory whatever they take in the file."""

EXPANSION = 8
"""How much larger than in the file columns may be in memory, beyond `FREE_BYTES`."""


@dataclass(frozen=True)
class Rules:
    """What is accepted.

    Attributes:
        depth: groups inside each other.
        objects: groups and columns together.
        rank: dimensions of a column.
        attribute_bytes: of all attributes of an object together.
        texts: whether columns may hold texts, and lists of bytes such as encoded images.
        in_memory: whether all columns but the frames are read into memory.
    """

    depth: int
    objects: int
    rank: int
    attribute_bytes: int
    texts: bool
    in_memory: bool


RULES: Mapping[str, Rules] = {
    "layout": Rules(3, 10_000, 8, 4 * MIB, texts=False, in_memory=True),
    "foreign": Rules(16, 2_000_000, 32, 64 * MIB, texts=True, in_memory=False),
}
"""For a dataset of ours, and for an HDF5 file of another project."""


def _no_more(size: int) -> None:
    """Leave the limits as they are."""


@dataclass(frozen=True)
class Suspect:
    """The file under examination.

    Attributes:
        name: as the user wrote it.
        size: in bytes.
        descriptor: of the file, opened beside HDF5's own to read chunks as they lie there.
        rules: what it may hold.
        expect: tells that so many bytes are going to be decoded, which takes its time.
    """

    name: str
    size: int
    descriptor: int
    rules: Rules
    expect: Callable[[int], None] = _no_more

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file; fewer where it ends."""
        os.lseek(self.descriptor, offset, os.SEEK_SET)  # not every system has pread
        return os.read(self.descriptor, size)

    def refuse(self, what: str, advice: str = "get it anew") -> NoReturn:
        """Say what the file has that it may not have.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self.name} has {what}: {advice}.")
