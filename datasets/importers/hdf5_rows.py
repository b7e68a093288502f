"""Observations in HDF5: one column, or a group with a column for each key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from gymnasium import spaces

from latentwrap.datasets.importers.hdf5 import blocks
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

    def frames(self, seen: Observations, start: int, stop: int) -> Frames:
        """The frames of some rows, a block of images in memory at a time."""
        nothing = np.zeros((0, *seen.frame.shape), np.uint8)
        return np.concatenate([nothing, *map(seen.frames, self._parts(seen, start, stop))])

    def vectors(self, seen: Observations, start: int, stop: int) -> dict[str, FloatArray]:
        """The vectors of some rows by name."""
        return seen.vector_columns(self.read(seen.vectors.names, start, stop))

    def read(self, keys: tuple[str, ...], start: int, stop: int) -> dict[str, AnyArray]:
        """Rows of some columns."""
        return {key: np.asarray(self._columns[key][start:stop]) for key in keys}

    def _parts(
        self, seen: Observations, start: int, stop: int
    ) -> Iterator[AnyArray | Mapping[str, AnyArray]]:
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
