"""A policy that acts on what a model makes of frames, for a batch of environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import Explorer
from latentwrap.envs.frames import FRAME, VECTORS
from latentwrap.errors import CheckpointError
from latentwrap.models import LatentModel
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames, IntArray
from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.history_observer import HistoryObserver
from latentwrap.wrappers.observer import LatentObserver
from latentwrap.wrappers.workers import MadeFrames


class CollectionObserver(Protocol):
    """Makes what a policy sees of the frames of a collection."""

    def step(self, actions: AnyArray | None, seen: Any, *, first: BoolArray) -> FloatArray:
        """What a policy sees, (K, d), of frames, or of frames and vectors by name.

        Args:
            actions: that were taken before, (K, ...).
            seen: what `RenderFrame` observes.
            first: bool (K,), true where an episode has just begun.
        """


class ObservingPolicy:
    """Follows the frames that a collection sees by a model, and acts on what that makes of them.

    The model takes the actions that are truly done, those of `explorer` included.

    Args:
        observer: makes what follows a number of environments.
        act: actions (K, ...) for what they observe (K, d).
        explorer: replaces some of them.
    """

    def __init__(
        self,
        observer: Callable[[int], CollectionObserver],
        act: Callable[[FloatArray], AnyArray],
        explorer: Explorer,
    ) -> None:
        self._make, self._act, self._explorer = observer, act, explorer
        self._observer: CollectionObserver | None = None
        self._actions: AnyArray | None = None

    def act_with_vectors(
        self, frames: Frames, started: BoolArray, vectors: FloatArray | None
    ) -> AnyArray:
        """Actions for the environments.

        Args:
            frames: uint8 (K, H, W, C).
            started: bool (K,), true where an episode has just begun.
            vectors: float32 (K, V), where the dataset keeps any.
        """
        if self._observer is None:
            self._observer = self._make(len(started))
        seen = frames if vectors is None else {FRAME: frames, VECTORS: vectors}
        observed = self._observer.step(self._actions, seen, first=started)
        self._actions = self._explorer(self._act(observed))
        return self._actions


def latent_observer(model: LatentModel, info: DatasetInfo, num: int) -> LatentObserver:
    """Filters what a collection sees of `num` environments.

    Raises:
        LatentwrapError: the model does not fit the frames, actions or vectors of the dataset.
    """
    _check_fits(model, info)
    return LatentObserver(
        LatentFilter(model, num),
        _observed(info),
        vector_keys=model.vector_spec.names,
        made=MadeFrames(info.frame, info.vectors),
    )


class CollectedHistory:
    """Latest features and actions of what a collection sees.

    Args:
        model: encodes the frames.
        info: of the dataset that is collected.
        length: frames in a history.

    Attributes:
        space: of what is handed out.

    Raises:
        LatentwrapError: the model does not fit the frames, actions or vectors of the dataset.
    """

    def __init__(self, model: LatentModel, info: DatasetInfo, length: int) -> None:
        _check_fits(model, info)
        self._observer = HistoryObserver(model, length)
        self.space = self._observer.space
        kept = np.arange(info.vectors.size)
        known = [kept[info.vectors.slices[name]] for name in model.vector_spec.names]
        self._known: IntArray = np.concatenate([kept[:0], *known])

    def step(self, actions: AnyArray | None, seen: Any, *, first: BoolArray) -> FloatArray:
        """As `HistoryObserver.step`, of what `RenderFrame` observes."""
        if not isinstance(seen, Mapping):
            seen = {FRAME: seen, VECTORS: np.zeros((len(first), 0), np.float32)}
        vectors = seen[VECTORS][:, self._known]
        return self._observer.step(actions, seen[FRAME], vectors, first=first)


def _observed(info: DatasetInfo) -> gym.Space[Any]:
    frames = spaces.Box(0, 255, info.frame.shape, np.uint8)
    if not info.vectors.names:
        return frames
    vectors = spaces.Box(-np.inf, np.inf, (info.vectors.size,), np.float32)
    return spaces.Dict({FRAME: frames, VECTORS: vectors})


def _check_fits(model: LatentModel, info: DatasetInfo) -> None:
    _check_frames(model, info)
    model.action_spec.check_environment(info.action.space)


def _check_frames(model: LatentModel, info: DatasetInfo) -> None:
    spec, skip = model.frame_spec, model.frame_skip
    if info.frame.shape != spec.shape or info.frame.names != spec.names:
        grey = " --grey" if spec.source_channels else ""
        option = "--image-key" if spec.rendering is None else "--camera"
        cameras = "".join(f" {option} {name}" for name in spec.names)
        words = f"--size {spec.height}x{spec.panels[0].width}{grey}{cameras}"
        raise CheckpointError(
            f"The policy's model sees frames {_shown(spec.shape, spec.names)}, the dataset would "
            f"hold {_shown(info.frame.shape, info.frame.names)}: pass {words}."
        )
    if info.frame_skip != skip:
        raise CheckpointError(
            f"The policy's model was trained with frame skip {skip}, the dataset would have "
            f"{info.frame_skip}: pass --frame-skip {skip}."
        )
    drawn = info.frame.rendering
    if drawn is not None and drawn != spec.rendering:
        raise CheckpointError(
            f"The policy's model was trained on {spec.rendering or 'full'} rendering, the dataset "
            f"would have {drawn}: pass --rendering {spec.rendering or 'full'}."
        )
    missing = [name for name in model.vector_spec.names if name not in info.vectors.names]
    if missing:
        raise CheckpointError(
            f"The policy's model knows the vector {missing[0]!r}, the dataset would not hold it: "
            f"pass --vector-key {missing[0]}."
        )


def _shown(shape: tuple[int, ...], cameras: tuple[str, ...]) -> str:
    return f"{shape} of {', '.join(cameras)}" if cameras else f"{shape}"
