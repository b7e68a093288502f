"""Streams of frames and actions: what every filter is given, checked, and how it is driven."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latentwrap.actions import ActionSpec
from latentwrap.errors import LatentwrapError
from latentwrap.filtering.fitting import FrameFitter
from latentwrap.pixels import FrameSpec
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames
from latentwrap.vectors import VectorSpec


class StreamFilter(ABC):
    """Filters one or several streams, each with a belief of its own.

    Args:
        num: independent streams.
        frame_spec: of the frames that the model sees.
        normalize: hand out standardised latents.
        stretch: accept images of another aspect ratio than the pretraining data's.

    Attributes:
        num, normalize: as given.
        fitter: makes the model's frames out of images.
        frames: what the model saw last of each stream, uint8 (num, H, W, C).
    """

    frames: Frames

    def __init__(self, num: int, frame_spec: FrameSpec, *, normalize: bool, stretch: bool) -> None:
        if num < 1:
            raise LatentwrapError(f"{type(self).__name__} requires num of at least 1, got {num}.")
        self.num = num
        self.normalize = normalize
        self.fitter = FrameFitter(frame_spec, num, stretch=stretch)
        self.frames = np.zeros((num, *frame_spec.shape), np.uint8)
        self._belief: Any = None

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """Dimensions d of a latent."""

    @property
    def belief(self) -> Any:
        """The belief of all streams, to save and restore; `None` before the first reset."""
        return self._belief

    @belief.setter
    def belief(self, belief: Any) -> None:
        self._belief = belief

    def reset(
        self, frame: Any, mask: BoolArray | None = None, *, vectors: AnyArray | None = None
    ) -> FloatArray:
        """Begin new episodes.

        Args:
            frame: first frame of each stream.
            mask: bool (num,); streams where it is false keep their belief bit for bit, and
                their frames are ignored. `None` begins all.
            vectors: float (num, V), where the model sees vectors; (V,) where num is 1.

        Returns:
            Latents of all streams, a new float32 array (num, d).

        Raises:
            LatentwrapError: a dropped frame, for nothing is known before the first.
        """
        begun = self._mask(mask, default=True)
        return self.advance(None, frame, vectors, begun=begun, stepped=np.zeros(self.num, bool))

    def step(
        self,
        action: Any,
        frame: Any,
        *,
        first: BoolArray | None = None,
        vectors: AnyArray | None = None,
    ) -> FloatArray:
        """Filter one more action and the frame that followed it.

        Args:
            action: as the environment took them, (num, ...) or one action where num is 1.
            frame: of each stream.
            first: bool (num,); streams where it is true begin a new episode with their frame,
                and their action is ignored.
            vectors: as in `reset`.

        Returns:
            Latents, a new float32 array (num, d).
        """
        begun = self._mask(first, default=False)
        return self.advance(action, frame, vectors, begun=begun, stepped=~begun)

    def imagine(self, actions: Sequence[Any] | AnyArray) -> FloatArray:
        """Predict the latents after some actions; the belief stays as it is.

        Args:
            actions: as the environment takes them, T of them; where num is above 1 each holds
                one action for every stream.

        Returns:
            float32 (num, T, d), or (T, d) where num is 1.
        """
        belief, latents, foresee = self._started(), [], self._foresight()
        everyone = np.ones(self.num, bool)
        for action in actions:
            rows = [action] if self.num == 1 else action
            belief = foresee(belief, self._encoded(rows, everyone))
            latents.append(self._hand_out(belief))
        if not latents:
            raise LatentwrapError("imagine requires at least one action, got none.")
        imagined = np.stack(latents, axis=1)
        return imagined[0] if self.num == 1 else imagined

    @property
    @abstractmethod
    def _action_spec(self) -> ActionSpec:
        """The actions that the model was trained on."""

    @abstractmethod
    def _foresight(self) -> Callable[[Any, FloatArray], Any]:
        """What makes of a belief and encoded actions (num, A) the belief after them."""

    @abstractmethod
    def _hand_out(self, belief: Any) -> FloatArray:
        """Latents of all streams, a new float32 array (num, d)."""

    @abstractmethod
    def advance(
        self,
        action: Any,
        frame: Any,
        vectors: AnyArray | None,
        *,
        begun: BoolArray,
        stepped: BoolArray,
    ) -> FloatArray:
        """Begin some streams and step some; those in neither mask stay as they are.

        Args:
            action, frame, vectors: as of `step`.
            begun: bool (num,), streams that begin an episode with their frame.
            stepped: bool (num,), others that filter their action and frame.

        Returns:
            Latents, a new float32 array (num, d).
        """

    def _mask(self, mask: BoolArray | None, *, default: bool) -> BoolArray:
        if mask is None:
            return np.full(self.num, default)
        if np.shape(mask) != (self.num,):
            raise LatentwrapError(
                f"The filter requires a mask of shape ({self.num},), got {np.shape(mask)}."
            )
        return np.asarray(mask, bool)

    def _check_begun(self, begun: BoolArray, seen: BoolArray) -> None:
        """Refuse streams that step before they began, or begin without a frame."""
        # Counting takes a tenth of the time of `all`, which a robot's loop notices.
        if np.count_nonzero(begun) < self.num:
            self._started()
        if np.count_nonzero(seen) < self.num and (begun & ~seen).any():
            raise LatentwrapError(
                "The first frame of an episode was dropped, but a belief begins with one: wait "
                "for a frame before reset."
            )

    def _started(self) -> Any:
        belief = self.belief
        if belief is None:
            raise LatentwrapError("The filter has no belief yet: call reset(frame) first.")
        return belief

    def _keep(self, frames: Frames, mask: BoolArray) -> None:
        """Remember what was seen, in an array of its own: the last one was handed out."""
        if np.count_nonzero(mask) < self.num:
            frames = np.where(mask[:, None, None, None], frames, self.frames)
        self.frames = frames

    def _encoded(self, actions: Any, stepped: BoolArray) -> FloatArray:
        """Encoded actions; zeros for streams that take none, whose action may be anything."""
        spec, count = self._action_spec, np.count_nonzero(stepped)
        encoded = np.zeros((self.num, spec.size), np.float32)
        if not count:
            return encoded
        rows = np.asarray(actions)
        if rows.ndim == 0 or len(rows) != self.num:
            found = f"one, {actions}" if rows.ndim == 0 else len(rows)
            raise LatentwrapError(
                f"The filter requires one action for each of {self.num} streams, got {found}."
            )
        if count == self.num:
            return spec.encode(spec.flatten_batch(rows))
        encoded[stepped] = spec.encode(spec.flatten_batch(rows[stepped]))
        return encoded

    def _checked_vectors(self, spec: VectorSpec, vectors: AnyArray | None) -> FloatArray:
        """Vectors as observed, float32 (num, V), for a model that sees them."""
        shape = (self.num, spec.size)
        if vectors is None or np.size(vectors) != np.prod(shape):
            raise LatentwrapError(
                f"The model sees the vectors {', '.join(spec.names)} and requires "
                f"them as an array {shape}, got {None if vectors is None else np.shape(vectors)}."
            )
        raw = np.asarray(vectors, np.float32).reshape(shape)
        if not np.isfinite(raw).all():
            raise LatentwrapError(
                f"The model requires finite vectors {', '.join(spec.names)}, got "
                f"{raw.tolist()}: pass the last ones that were."
            )
        return raw
