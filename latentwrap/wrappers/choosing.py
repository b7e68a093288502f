"""Which images and vectors of an observation a wrapper uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.envs.frames import FRAME, VECTORS
from latentwrap.envs.observing import ObservationReader
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.types import FloatArray, IntArray
from latentwrap.vectors import VectorSpec
from latentwrap.wrappers.workers import MadeFrames


@dataclass(frozen=True)
class Inputs:
    """Where images and vectors are found.

    Attributes:
        reader: takes them out of an observation.
        vector_spec: the vectors that are used, in order.
        columns: where they lie in the vectors that the reader joins, int64 (V,).
        fitted: the image is the frame itself, made by `RenderFrame`.
    """

    reader: ObservationReader
    vector_spec: VectorSpec
    columns: IntArray
    fitted: bool

    def vectors(self, observation: Any) -> FloatArray:
        """The vectors of an observation, float32 (V,); NaN where it lacks one."""
        return self.reader.vectors(observation)[self.columns]

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest values of the vectors, each float32 (V,)."""
        low, high = self.reader.bounds()
        return low[self.columns], high[self.columns]


def choose_inputs(
    model: LatentModel,
    space: gym.Space[Any],
    *,
    image_keys: Sequence[str] | None,
    vector_keys: Sequence[str] | None,
    layout: str | None,
    made: MadeFrames | None,
) -> Inputs:
    """Take what was asked for, or else what the model was trained on.

    Args:
        model: the model.
        space: what one environment observes.
        image_keys, vector_keys, layout: as of `LatentObservation`.
        made: what `RenderFrame` observes, where it is there.

    Raises:
        EnvironmentMismatch: a key that is not there, or cameras in another order than the model's.
        PixelError: a layout that does not fit.
    """
    if made is None:
        found = _observed(model, space, image_keys, vector_keys, layout)
        cameras = found.reader.cameras
    else:
        found = _rendered(model, space, image_keys, vector_keys, layout, made)
        cameras = made.frames.names
    trained = model.frame_spec.names
    if sorted(cameras) == sorted(trained) and cameras != trained:
        raise EnvironmentMismatch(
            f"The checkpoint expects the cameras {', '.join(trained)} from left to right, got "
            f"{', '.join(cameras)}: name them in its order as image_keys."
        )
    return found


def _observed(
    model: LatentModel,
    space: gym.Space[Any],
    image_keys: Sequence[str] | None,
    vector_keys: Sequence[str] | None,
    layout: str | None,
) -> Inputs:
    is_dict = isinstance(space, spaces.Dict)
    layout = layout or model.frame_spec.layout
    observed = model.frame_spec.names if model.frame_spec.rendering is None else ()
    if image_keys is None and is_dict and observed:
        image_keys = observed
    if vector_keys is None:
        vector_keys = model.vector_spec.names if is_dict else ()
    reader = ObservationReader(space, image_keys=image_keys, vector_keys=vector_keys, layout=layout)
    spec = reader.vector_spec
    return Inputs(reader, spec, np.arange(spec.size), fitted=False)


def _rendered(
    model: LatentModel,
    space: gym.Space[Any],
    image_keys: Sequence[str] | None,
    vector_keys: Sequence[str] | None,
    layout: str | None,
    made: MadeFrames,
) -> Inputs:
    names = model.vector_spec.names or made.vectors.names if vector_keys is None else vector_keys
    _check_made("image_keys", image_keys or (), made.frames.names)
    _check_made("vector_keys", names, made.vectors.names)
    joined = isinstance(space, spaces.Dict)
    reader = ObservationReader(
        space,
        image_keys=(FRAME,) if joined else None,
        vector_keys=(VECTORS,) if joined else (),
        layout=layout,
    )
    slices = made.vectors.slices
    parts = [np.arange(slices[name].start, slices[name].stop) for name in names]
    spec = VectorSpec(names=tuple(names), sizes=tuple(len(part) for part in parts))
    return Inputs(reader, spec, np.concatenate([np.arange(0), *parts]), fitted=True)


def _check_made(option: str, asked: Sequence[str], made: Sequence[str]) -> None:
    missing = [name for name in asked if name not in made]
    if missing:
        raise EnvironmentMismatch(
            f"RenderFrame observes {', '.join(made) or 'nothing'} of {option}, {missing[0]!r} was "
            f"asked for: name it as {option} of RenderFrame."
        )
