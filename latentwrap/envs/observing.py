"""Finding the images and vectors in an environment's observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import (
    LAYOUTS,
    guess_layout,
    is_dropped,
    is_image_space,
    newest_image,
    newest_shape,
)
from latentwrap.pixels.layouts import check_layout
from latentwrap.types import FloatArray
from latentwrap.vectors import VectorSpec


@dataclass(frozen=True)
class _Image:
    """One image in an observation; `key` is `None` where the observation is the image."""

    key: str | None
    layout: str
    shape: tuple[int, ...]


class ObservationReader:
    """Takes the images and the vectors out of observations of one space.

    Args:
        space: a Box that is an image, or a Dict that holds images and vectors. Of a Box that is
            no image nothing is taken: the picture is elsewhere.
        image_keys: which entries of a Dict are images; `None` takes the only one, and none at all
            leave the picture elsewhere, also where the observation is an image.
        vector_keys: which entries are vectors.
        layout: where height, width, colours and stacked frames stand in the images, one of
            `latentwrap.pixels.LAYOUTS`; `None` tells it by the shape.

    Attributes:
        cameras: names of the images of a Dict; empty for one that is the whole observation.
        shapes: of each newest image, (H, W) or (H, W, C); empty where there is none.
        vector_spec: names and sizes of the vectors.

    Raises:
        EnvironmentMismatch: a key that is not there, or not what it should be.
        PixelError: a layout that does not fit.

    Example:
        >>> import numpy as np
        >>> from gymnasium import spaces
        >>> space = spaces.Dict(
        ...     camera=spaces.Box(0, 255, (96, 96, 3), np.uint8), joints=spaces.Box(-1, 1, (7,))
        ... )
        >>> reader = ObservationReader(space, vector_keys=["joints"])
        >>> reader.shapes, reader.vector_spec.size
        (((96, 96, 3),), 7)
    """

    def __init__(
        self,
        space: gym.Space[Any],
        *,
        image_keys: Sequence[str] | None = None,
        vector_keys: Sequence[str] = (),
        layout: str | None = None,
    ) -> None:
        for name, keys in (("image_keys", image_keys), ("vector_keys", vector_keys)):
            if isinstance(keys, str) or len(set(keys or ())) < len(keys or ()):
                raise EnvironmentMismatch(
                    f"{name} require a list of different names, got {keys!r}."
                )
        self._images = _find_images(space, image_keys, layout)
        self._vectors = {key: _vector_space(space, key) for key in vector_keys}
        self.cameras = tuple(image.key for image in self._images if image.key is not None)
        self.shapes = tuple(newest_shape(image.shape, image.layout) for image in self._images)
        self.vector_spec = VectorSpec(
            names=tuple(vector_keys),
            sizes=tuple(spaces.flatdim(vector) for vector in self._vectors.values()),
        )

    def images(self, observation: Any) -> tuple[Any, ...] | None:
        """The newest image of each camera, (H, W) or (H, W, C).

        Returns:
            `None` for a dropped frame: one of the images is `None`, or nothing but NaN.
        """
        found = []
        for image in self._images:
            array = observation if image.key is None else _entry(observation, image.key)
            if is_dropped(array):
                return None
            found.append(newest_image(np.asarray(array), image.layout))
        return tuple(found)

    def vectors(self, observation: Any) -> FloatArray:
        """All vectors joined, float32 (V,); NaN for one that is `None`."""
        parts = [_numbers(space, _entry(observation, key)) for key, space in self._vectors.items()]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest values of the joined vectors, each float32 (V,); may be infinite."""
        flat = [spaces.flatten_space(space) for space in self._vectors.values()]
        boxes = [space for space in flat if isinstance(space, spaces.Box)]
        low = [np.asarray(box.low, np.float32) for box in boxes]
        high = [np.asarray(box.high, np.float32) for box in boxes]
        nothing = np.zeros(0, np.float32)
        return np.concatenate([nothing, *low]), np.concatenate([nothing, *high])


def _find_images(
    space: gym.Space[Any], keys: Sequence[str] | None, layout: str | None
) -> list[_Image]:
    if not isinstance(space, spaces.Dict):
        if keys:
            raise EnvironmentMismatch(
                f"image_keys require a Dict observation, the environment's is {space}: "
                "leave image_keys out."
            )
        if keys is not None:
            return []
        sides = len(space.shape or ())
        pixels = space.dtype == np.uint8 and sides >= 2
        return [_image(space, None, layout)] if pixels or (layout and sides >= 2) else []
    if keys is None:
        keys = [key for key, entry in _entries(space).items() if is_image_space(entry)]
        if len(keys) > 1:
            raise EnvironmentMismatch(
                f"The observation holds the images {', '.join(keys)}: name one or several as "
                "image_keys."
            )
    return [_image(_subspace(space, key), key, layout) for key in keys]


def _image(space: gym.Space[Any], key: str | None, layout: str | None) -> _Image:
    shape = tuple(space.shape or ())
    found = layout or guess_layout(shape)
    if found is None or not isinstance(space, spaces.Box):
        raise EnvironmentMismatch(
            f"The observation {'' if key is None else f'{key!r} '}of {space} is no image whose "
            f"layout its shape tells: name its layout, one of {', '.join(LAYOUTS)}, or take "
            "the render with image_keys=()."
        )
    check_layout(found, shape)
    return _Image(key, found, shape)


def _vector_space(space: gym.Space[Any], key: str) -> gym.Space[Any]:
    if not isinstance(space, spaces.Dict):
        raise EnvironmentMismatch(
            f"vector_keys require a Dict observation, the environment's is {space}: wrap it in "
            "gymnasium.wrappers.AddRenderObservation(env, render_only=False) to have one."
        )
    found = _subspace(space, key)
    if not found.is_np_flattenable:
        raise EnvironmentMismatch(
            f"vector_keys require numbers, {key!r} is {found}: leave it out or wrap it."
        )
    if len(found.shape or ()) > 2 and is_image_space(found):
        raise EnvironmentMismatch(
            f"vector_keys require vectors, {key!r} is an image: name it as one of image_keys."
        )
    return found


def _entries(space: spaces.Dict, prefix: str = "") -> dict[str, gym.Space[Any]]:
    """All entries of a Dict space, those of Dicts inside as `outer.inner`."""
    found: dict[str, gym.Space[Any]] = {}
    for key, entry in space.spaces.items():
        name = f"{prefix}{key}"
        found |= _entries(entry, f"{name}.") if isinstance(entry, spaces.Dict) else {name: entry}
    return found


def _subspace(space: spaces.Dict, key: str) -> gym.Space[Any]:
    entries = _entries(space)
    if key not in entries:
        raise EnvironmentMismatch(
            f"The observation holds no {key!r}, but {', '.join(entries)}: name one of those."
        )
    return entries[key]


def _entry(observation: Mapping[str, Any] | None, key: str) -> Any:
    """The entry of an observation; keys may hold dots of their own."""
    if observation is None or key in observation:
        return None if observation is None else observation[key]
    outer, _, inner = key.partition(".")
    if not inner or outer not in observation:
        raise EnvironmentMismatch(
            f"The observation lacks {key!r}, which its space promises: mend the environment, and "
            "give None for what was dropped."
        )
    return _entry(observation[outer], inner)


def _numbers(space: gym.Space[Any], value: Any) -> FloatArray:
    if value is None:
        return np.full(spaces.flatdim(space), np.nan, np.float32)
    flat: FloatArray = np.asarray(spaces.flatten(space, value), np.float32).reshape(-1)
    return flat
