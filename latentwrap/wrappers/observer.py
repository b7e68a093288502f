"""What every wrapper shares: observations of some environments in, latents and vectors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.envs.frames import Renderer
from latentwrap.errors import EnvironmentMismatch
from latentwrap.filtering.fitting import check_made
from latentwrap.normalizer import CLIP
from latentwrap.types import BoolArray, FloatArray
from latentwrap.wrappers.choosing import Inputs, choose_inputs
from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.scaling import vector_scale
from latentwrap.wrappers.vector_memory import VectorMemory
from latentwrap.wrappers.workers import MadeFrames


class LatentObserver:
    """Filters the images of some environments and appends their vectors to the latents.

    Args:
        latents: the filter, with one stream for each environment.
        space: what one environment observes.
        image_keys: entries of a Dict that are images; `None` takes the cameras of the pretraining
            data, or the only image.
        vector_keys: entries of a Dict to append; `None` takes those of the pretraining data.
        layout: of the images; `None` tells it by their shape.
        made: what `RenderFrame` observes, where it is there.
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
        made: MadeFrames | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self._filter, self._renderer = latents, renderer
        self._inputs = choose_inputs(
            latents.model,
            space,
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
            made=made,
        )
        _check_images(latents, self._inputs, made, space, renderer)
        self._scale = vector_scale(latents.model, self._inputs)
        self.vector_names = self._inputs.vector_spec.names
        size = self._inputs.vector_spec.size
        self._vectors = np.zeros((latents.num, size), np.float32)
        self._memory = VectorMemory(latents.num, size, self.vector_names)
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
        if self._vectors.shape[1]:
            # A model that learns meanwhile may have come to know other vectors.
            self._scale = vector_scale(self._filter.model, self._inputs)
        chosen = np.ones(num, bool) if mask is None else mask
        rows = [
            row if c else None
            for row, c in zip(split_observations(observations, num), chosen, strict=True)
        ]
        frames = [self._images(row) if c else None for row, c in zip(rows, chosen, strict=True)]
        vectors = self._read_vectors(rows, chosen)
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
        begun = np.zeros(self._filter.num, bool) if first is None else first
        vectors = self._read_vectors(rows, begun)
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
            and not (self._inputs.reader.cameras or self._vectors.shape[1])
        )

    def _images(self, observation: Any) -> Any:
        if not self._inputs.reader.shapes:
            return None if self._renderer is None else self._renderer()
        images = self._inputs.reader.images(observation)
        # What was fitted already is handed on as one frame, not as the camera's own image.
        return images[0] if images is not None and self._inputs.fitted else images

    def _read_vectors(self, rows: Sequence[Any], begun: BoolArray) -> FloatArray:
        """Of every environment; what is missing or not finite keeps its last value.

        Raises:
            EnvironmentMismatch: something is missing where an episode begins.
        """
        if self._vectors.shape[1]:
            asked = np.array([row is not None for row in rows])
            read = np.zeros_like(self._vectors)
            for stream in np.flatnonzero(asked).tolist():
                read[stream] = self._inputs.vectors(rows[stream])
            self._vectors = self._memory.see(read, begun=begun, mask=asked)
        return self._vectors

    def _append(self, latents: FloatArray) -> FloatArray:
        if not self._vectors.shape[1]:
            return latents
        normalize = self._filter.normalize
        vectors = self._scale.normalize(self._vectors) if normalize else self._vectors
        return np.concatenate([latents, vectors], axis=1)


def _check_images(
    latents: LatentFilter,
    inputs: Inputs,
    made: MadeFrames | None,
    space: gym.Space[Any],
    renderer: Renderer | None,
) -> None:
    spec = latents.model.frame_spec
    if made is not None:
        if made.frames.shape != spec.shape:
            raise EnvironmentMismatch(
                f"The checkpoint expects frames of shape {spec.shape}, RenderFrame makes them "
                f"{made.frames.shape}: give it the height, width and grey of the checkpoint."
            )
        return check_made(made.frames, spec, latents.fitter)
    if inputs.reader.shapes:
        return latents.fitter.check(inputs.reader.shapes)
    if renderer is None:
        raise EnvironmentMismatch(
            f"Several environments require images in their observations, got {space}: wrap each "
            "in latentwrap.RenderFrame, for after an automatic reset the last frame cannot be "
            "rendered any more."
        )
    return renderer.check()


def split_observations(observations: Any, num: int) -> list[Any]:
    """The observation of each environment, out of a batch."""
    if isinstance(observations, Mapping):
        columns = {name: split_observations(column, num) for name, column in observations.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(num)]
    return list(observations)
