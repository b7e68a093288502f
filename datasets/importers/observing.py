"""Frames and vectors out of a source's observations, by the rules of the wrappers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.datasets.importers.bounds import check_frames
from latentwrap.datasets.importers.source import ImportOptions
from latentwrap.envs.observing import ObservationReader
from latentwrap.errors import DatasetError
from latentwrap.pixels import FrameSpec, fit_images
from latentwrap.pixels.frames import source_spec
from latentwrap.types import AnyArray, FloatArray, Frame, Frames
from latentwrap.vectors import VectorSpec


class Observations:
    """Makes frames and vectors of columns of observations.

    Args:
        space: of one observation; a Box that is an image, or a flat Dict of images and vectors.
            `box_of` makes one of a column's shape and dtype.
        options: what the user said.
        known_vectors: what the format is known to have, where the user named no vectors.
        what: the source, for messages.

    Attributes:
        frame: what the frames look like.
        vectors: names and sizes of the vectors.
        cameras: keys of the images; empty where the observation is the image.

    Raises:
        DatasetError: there is no image.
        EnvironmentMismatch: a key that is not there, or not what it should be.

    Example:
        >>> import numpy as np
        >>> columns = {
        ...     "front": np.zeros((5, 96, 96, 3), np.uint8),
        ...     "joints": np.zeros((5, 7)),
        ... }
        >>> space = spaces.Dict({k: box_of(v.shape[1:], v.dtype) for k, v in columns.items()})
        >>> seen = Observations(space, ImportOptions(), known_vectors=["joints"], what="my robot")
        >>> seen.frames(columns).shape, seen.vector_columns(columns)["joints"].shape
        ((5, 64, 64, 3), (5, 7))
    """

    def __init__(
        self,
        space: gym.Space[Any],
        options: ImportOptions,
        *,
        known_vectors: Sequence[str] = (),
        what: str,
    ) -> None:
        self._what = what
        named = options.vector_keys
        self._reader = reader = ObservationReader(
            space,
            image_keys=options.image_keys,
            vector_keys=known_vectors if named is None else named,
            layout=options.layout,
        )
        if not reader.shapes:
            raise DatasetError(
                f"{what} holds no images, only {_described(space)}: import a dataset of pixels, "
                "or make one with latentwrap collect."
            )
        self.vectors: VectorSpec = reader.vector_spec
        self.cameras: tuple[str, ...] = reader.cameras
        self.frame: FrameSpec = source_spec(
            reader.shapes,
            height=options.height,
            width=options.width,
            grey=options.grey,
            cameras=reader.cameras,
            layout=options.layout,
        )

    def frames(self, images: AnyArray | Mapping[str, AnyArray]) -> Frames:
        """The frames of n observations.

        Args:
            images: a column (n, ...) of images, or one by key of a Dict; other keys may be there.

        Returns:
            uint8 (n, H, W, C).

        Raises:
            DatasetError: an image is missing.
            PixelError: an image that cannot become a frame.
        """
        found = []
        for row in self._rows(images, self.cameras):
            found.append(self._frame(row))
            self._check_length(len(found))
        return np.stack(found) if found else np.zeros((0, *self.frame.shape), np.uint8)

    def frames_of_blocks(
        self, blocks: Iterable[AnyArray | Mapping[str, AnyArray]], rows: int | None = None
    ) -> Frames:
        """The frames of consecutive blocks of observations, one block in memory at a time.

        Args:
            blocks: of images, as `frames` takes them.
            rows: how many there are, where that is known before: an episode that is too long is
                refused before its first block is read.

        Raises:
            DatasetError: the frames of an episode are more than memory is for, or not `rows`.
        """
        self._check_length(rows or 0)
        shape, count = self.frame.shape, 0
        whole: Frames = np.empty((rows or 0, *shape), np.uint8)
        for block in blocks:
            part = self.frames(block)
            end = count + len(part)
            self._check_length(end)
            if end > len(whole):  # in place, so that the frames are never in memory twice
                whole.resize((max(end, len(whole) * 3 // 2), *shape), refcheck=False)
            whole[count:end] = part
            count = end
        if rows is not None and count != rows:
            raise DatasetError(
                f"{self._what} has {count} images where it says that it has {rows}: get it anew."
            )
        whole.resize((count, *shape), refcheck=False)
        return whole

    def vector_columns(self, columns: AnyArray | Mapping[str, AnyArray]) -> dict[str, FloatArray]:
        """The vectors of n observations by name, each float32 (n, k).

        Args:
            columns: a column (n, ...) by key; what is no Dict has no vectors.
        """
        if not isinstance(columns, Mapping) or not self.vectors.names:
            return {}
        rows = self._rows(columns, self.vectors.names)
        found = [self._reader.vectors(row) for row in rows]
        joined = np.stack(found) if found else np.zeros((0, self.vectors.size), np.float32)
        return {name: joined[:, part] for name, part in self.vectors.slices.items()}

    def _check_length(self, rows: int) -> None:
        check_frames(rows, math.prod(self.frame.shape), self._what)

    def _rows(
        self, columns: AnyArray | Mapping[str, AnyArray], keys: Sequence[str]
    ) -> Iterator[Any]:
        if not isinstance(columns, Mapping):
            yield from columns
            return
        for row in zip(*(columns[key] for key in keys), strict=True):
            yield dict(zip(keys, row, strict=True))

    def _frame(self, observation: Any) -> Frame:
        images = self._reader.images(observation)
        if images is None:
            raise DatasetError(
                "An imported image is NaN or missing, but every step requires one: leave such "
                "episodes out of the source."
            )
        return fit_images(images, self.frame)


def box_of(shape: Sequence[int], dtype: Any) -> spaces.Box:
    """The space of one row of a column: bytes as images have them, else any numbers."""
    if np.dtype(dtype) == np.uint8:
        return spaces.Box(0, 255, tuple(shape), np.uint8)
    return spaces.Box(-np.inf, np.inf, tuple(shape), np.float32)


def numbers(values: AnyArray) -> FloatArray:
    """A column as float32 (n, k): rows of scalars get k = 1, larger ones are flattened."""
    array = np.asarray(values)
    flat: FloatArray = array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float32)
    return flat


def join_frames(parts: list[Frames]) -> Frames:
    """All parts in one array; each is gone once it is copied, so that little is there twice."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.uint8)
    parts.reverse()
    start = 0
    while parts:
        part = parts.pop()
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _described(space: gym.Space[Any]) -> str:
    if not isinstance(space, spaces.Dict):
        return f"numbers of shape {space.shape}"
    return ", ".join(f"{key} {entry.shape}" for key, entry in space.items())
