"""Observations in HDF5: one column, or a group with a column for each key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from gymnasium import spaces

from latentwrap.datasets.importers.hdf5 import blocks, read_rows
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray, Frames

_SMALLEST_FLAT = 32
"""Side of an image whose pixels lie in one row; a shorter row is more likely a state."""


class ObservedRows:
    """Rows of observations that an `Observations` reads.

    Args:
        node: the column, or the group of columns; columns of text and the like are left out.
        what: the source, for messages.

    Raises:
        DatasetError: it is neither.
    """

    def __init__(self, node: Any, what: str) -> None:
        self._what = what
        entries = dict(node.items()) if isinstance(node, h5py.Group) else {None: node}
        self._columns: dict[str | None, h5py.Dataset] = {
            key: entry
            for key, entry in entries.items()
            if isinstance(entry, h5py.Dataset) and entry.ndim and entry.dtype.kind in "biuf"
        }
        if not self._columns:
            raise DatasetError(f"{what} holds no observations: get it anew.")

    def __len__(self) -> int:
        return min(len(column) for column in self._columns.values())

    @property
    def space(self) -> gym.Space[Any]:
        """Of one observation."""
        boxes = {key: _box(column) for key, column in self._columns.items()}
        return boxes[None] if None in boxes else spaces.Dict({str(k): b for k, b in boxes.items()})

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row by key; empty for a single column."""
        return {key: column.shape[1:] for key, column in self._columns.items() if key is not None}

    def require(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse rows that lack one of these columns, or have it with rows of another shape.

        Raises:
            DatasetError: they do.
        """
        for key, shape in sizes.items():
            found = self.sizes.get(key)
            if found != shape:
                raise DatasetError(
                    f"{self._what} requires {key} of shape {shape} in every episode, got "
                    f"{found or 'none'}: leave it out by --image-key and --vector-key."
                )

    def read(self, keys: tuple[str, ...], start: int, stop: int) -> dict[str, AnyArray]:
        """Rows of some columns.

        Raises:
            DatasetError: they are too large to be in memory at once.
        """
        return {key: read_rows(self._columns[key], start, stop) for key in keys}

    def parts(
        self, seen: Observations, start: int, stop: int
    ) -> Iterator[AnyArray | Mapping[str, AnyArray]]:
        """The images of some rows, a block of them in memory at a time."""
        if not seen.cameras:
            yield from self._blocks(None, start, stop)
            return
        columns = [self._blocks(key, start, stop) for key in seen.cameras]
        for part in zip(*columns, strict=True):
            yield dict(zip(seen.cameras, part, strict=True))

    def _blocks(self, key: str | None, start: int, stop: int) -> Iterator[AnyArray]:
        column = self._columns[key]
        shape = _image_shape(column)
        for block in blocks(column, start, stop):
            yield block.reshape(len(block), *shape)


@dataclass(frozen=True)
class Observed:
    """What was observed in the rows of one episode.

    Attributes:
        frames: uint8 (T, H, W, C), or (T+1, H, W, C) where it is known what came last.
        vectors: by name, float32 (rows of frames, k).
        others: the columns that were asked for, likewise.
    """

    frames: Frames
    vectors: Mapping[str, FloatArray]
    others: Mapping[str, AnyArray]


def observed(
    seen: Observations,
    rows: ObservedRows,
    after: ObservedRows | None,
    start: int,
    stop: int,
    others: tuple[str, ...] = (),
) -> Observed:
    """What an episode saw before each of its actions, and after the last one.

    Args:
        seen: makes frames and vectors of observations.
        rows: what was observed before each action.
        after: what was observed after each of them, where that was stored.
        start, stop: its first row, and the one after its last.
        others: keys of further columns to read.

    Raises:
        DatasetError: they are too large to be in memory at once.
    """
    ends = [(rows, start, stop)]
    if after is not None and stop > start:
        ends.append((after, stop - 1, stop))
    keys = tuple(dict.fromkeys((*seen.vectors.names, *others)))
    count = sum(end - begin for _, begin, end in ends)
    frames = seen.frames_of_blocks(
        chain.from_iterable(each.parts(seen, begin, end) for each, begin, end in ends), count
    )
    parts = [each.read(keys, begin, end) for each, begin, end in ends]
    columns = {key: np.concatenate([part[key] for part in parts]) for key in keys}
    return Observed(frames, seen.vector_columns(columns), {key: columns[key] for key in others})


def _box(column: h5py.Dataset) -> spaces.Box:
    shape = _image_shape(column)
    flat = shape != column.shape[1:]
    return box_of(shape, np.uint8 if flat else column.dtype)


def _image_shape(column: h5py.Dataset) -> tuple[int, ...]:
    """The shape of one row; a square RGB image whose pixels lie in one row gets its own."""
    shape = tuple(column.shape[1:])
    if len(shape) != 1:
        return shape
    side = math.isqrt(shape[0] // 3)
    flat = side >= _SMALLEST_FLAT and 3 * side**2 == shape[0]
    return (side, side, 3) if flat else shape
