"""What every wrapper shares: observations of some environments in, latents and vectors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.envs.frames import FRAME, VECTORS, Renderer
from latentwrap.envs.observing import ObservationReader
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.models.normalizer import CLIP
from latentwrap.pixels import FrameSpec
from latentwrap.types import BoolArray, FloatArray
from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.scaling import vector_scale


@dataclass(frozen=True)
class Keys:
    """Which entries of a Dict observation are used.

    Attributes:
        images, vectors: their keys; `None` lets the only image be found.
        joined: the vectors come as one, as `RenderFrame` joins them.
    """

    images: tuple[str, ...] | None
    vectors: tuple[str, ...]
    joined: bool = False

    @classmethod
    def choose(
        cls,
        model: LatentModel,
        space: gym.Space[Any],
        images: Sequence[str] | None,
        vectors: Sequence[str] | None,
    ) -> Keys:
        """What was asked for, or else what the model was trained on."""
        entries = set(space.spaces) if isinstance(space, spaces.Dict) else set()
        if images is None and vectors is None and entries == {FRAME, VECTORS}:
            return cls((FRAME,), (VECTORS,), joined=True)
        cameras = tuple(camera.name for camera in model.frame_spec.cameras)
        if images is None and entries and cameras:
            images = cameras
        if vectors is None:
            vectors = model.vector_spec.names if entries else ()
        return cls(None if images is None else tuple(images), tuple(vectors))


class LatentObserver:
    """Filters the images of some environments and appends their vectors to the latents.

    Args:
        latents: the filter, with one stream for each environment.
        space: what one environment observes.
        image_keys: entries of a Dict that are images; `None` takes the cameras of the pretraining
            data, or the only image.
        vector_keys: entries of a Dict to append; `None` takes those of the pretraining data.
        layout: of the images; `None` tells it by their shape.
        fitted: the frames that `RenderFrame` makes in the workers; `None` where it does not.
        renderer: of the one environment, where observations hold no image.

    Attributes:
        space: of what is handed out, float32 (d + V,).
        vector_names: of the vectors that are appended, in order.

    Raises:
        EnvironmentMismatch: the observations have no images, or not those of the model.
    """

    def __init__(
        self,
        latents: LatentFilter,
        space: gym.Space[Any],
        *,
        image_keys: Sequence[str] | None = None,
        vector_keys: Sequence[str] | None = None,
        layout: str | None = None,
        fitted: FrameSpec | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self._filter, self._fitted, self._renderer = latents, fitted is not None, renderer
        model = latents.model
        keys = Keys.choose(model, space, image_keys, vector_keys)
        self._reader = ObservationReader(
            space, image_keys=keys.images, vector_keys=keys.vectors, layout=layout
        )
        _check_images(latents, self._reader, fitted, space, renderer)
        self._scale = vector_scale(model, self._reader, joined=keys.joined)
        self.vector_names = model.vector_spec.names if keys.joined else keys.vectors
        size = self._reader.vector_spec.size
        self._vectors = np.zeros((latents.num, size), np.float32)
        bound = CLIP if latents.normalize else np.inf
        self.space = spaces.Box(-bound, bound, (latents.latent_size + size,), np.float32)

    def reset(self, observations: Any, mask: BoolArray | None = None) -> FloatArray:
        """Begin episodes in the environments of a mask, or in all.

        Args:
            observations: of every environment, batched or a list; outside of the mask anything.
            mask: bool (num,).

        Returns:
            A new float32 array (num, d + V).
        """
        num = self._filter.num
        chosen = np.ones(num, bool) if mask is None else mask
        rows = [
            row if c else None
            for row, c in zip(split_observations(observations, num), chosen, strict=True)
        ]
        frames = [self._images(row) if c else None for row, c in zip(rows, chosen, strict=True)]
        vectors = self._read_vectors(rows)
        return self._append(self._filter.reset(frames, mask, vectors=vectors))

    def step(
        self, actions: Any, observations: Any, *, first: BoolArray | None = None
    ) -> FloatArray:
        """Filter the actions taken and the observations that followed.

        Args:
            actions: one for each environment.
            observations: likewise, batched or a list.
            first: bool (num,); environments that began an episode instead.

        Returns:
            A new float32 array (num, d + V).
        """
        if self._is_plain(observations):
            return self._filter.step(actions, observations, first=first)
        rows = split_observations(observations, self._filter.num)
        frames = [self._images(row) for row in rows]
        vectors = self._read_vectors(rows)
        return self._append(self._filter.step(actions, frames, first=first, vectors=vectors))

    def compose(self, latents: FloatArray, vectors: FloatArray) -> FloatArray:
        """What is handed out for raw latents (N, d) and vectors (N, V)."""
        if not self._filter.normalize:
            return np.concatenate([latents, vectors], axis=1)
        normalizer = self._filter.model.normalizer
        scaled = latents if normalizer is None else normalizer.normalize(latents)
        return np.concatenate([scaled, self._scale.normalize(vectors)], axis=1)

    def _is_plain(self, observations: Any) -> bool:
        """Whether a batch is already what the model sees."""
        return (
            isinstance(observations, np.ndarray)
            and observations.dtype == np.uint8
            and observations.shape[1:] == self._filter.model.frame_spec.shape
            and not (self._reader.cameras or self._vectors.shape[1])
        )

    def _images(self, observation: Any) -> Any:
        if not self._reader.shapes:
            return None if self._renderer is None else (self._renderer(),)
        images = self._reader.images(observation)
        # What was fitted already is handed on as one frame, not as the camera's own image.
        return images[0] if images is not None and self._fitted else images

    def _read_vectors(self, rows: Sequence[Any]) -> FloatArray:
        """Of every environment; those without an observation keep their last."""
        if self._vectors.shape[1]:
            self._vectors = self._vectors.copy()
            for stream, row in enumerate(rows):
                if row is not None:
                    self._vectors[stream] = self._reader.vectors(row)
        return self._vectors

    def _append(self, latents: FloatArray) -> FloatArray:
        if not self._vectors.shape[1]:
            return latents
        normalize = self._filter.normalize
        vectors = self._scale.normalize(self._vectors) if normalize else self._vectors
        return np.concatenate([latents, vectors], axis=1)


def _check_images(
    latents: LatentFilter,
    reader: ObservationReader,
    fitted: FrameSpec | None,
    space: gym.Space[Any],
    renderer: Renderer | None,
) -> None:
    spec = latents.model.frame_spec
    if fitted is not None:
        if fitted.shape != spec.shape:
            raise EnvironmentMismatch(
                f"The checkpoint expects frames of shape {spec.shape}, RenderFrame makes them "
                f"{fitted.shape}: give it the height, width and grey of the checkpoint."
            )
        return latents.fitter.check(_source_shapes(fitted))
    if reader.shapes:
        return latents.fitter.check(reader.shapes)
    if renderer is None:
        raise EnvironmentMismatch(
            f"Several environments require images in their observations, got {space}: wrap each "
            "in latentwrap.RenderFrame, for after an automatic reset the last frame cannot be "
            "rendered any more."
        )
    return renderer.check()


def _source_shapes(spec: FrameSpec) -> list[tuple[int, ...]]:
    """Shapes of the images that fitted frames were made from."""
    channels = spec.source_channels or spec.channels
    return [
        (panel.source_height or panel.height, panel.source_width or panel.width, channels)
        for panel in spec.panels
    ]


def split_observations(observations: Any, num: int) -> list[Any]:
    """The observation of each environment, out of a batch."""
    if isinstance(observations, Mapping):
        columns = {name: split_observations(column, num) for name, column in observations.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(num)]
    return list(observations)
