"""What the actor of SLAC sees of some environments, as published: latest features and actions."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from latentwrap.devices import to_device
from latentwrap.models import LatentModel
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames
from latentwrap.wrappers.following import Followed, Follower, Seen
from latentwrap.wrappers.vector_memory import VectorMemory


class HistoryObserver:
    """Appends the latest features and actions of some environments to their vectors.

    Args:
        model: encodes the frames.
        length: frames in a history.

    Attributes:
        space: of what is handed out, float32 (V + length · F + (length − 1) · A,).
    """

    def __init__(self, model: LatentModel, length: int) -> None:
        self._model = model
        self._follower = Follower(model, length)
        self._followed: Followed | None = None
        self._memory: VectorMemory | None = None
        size = length * model.seen_size + (length - 1) * model.action_spec.size
        size += model.vector_spec.size
        self.space = spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def followed(self) -> Followed:
        """Beliefs and histories of all environments."""
        assert self._followed is not None  # noqa: S101 - Gymnasium demands a reset before
        return self._followed

    def step(
        self, actions: AnyArray | None, frames: Frames, vectors: FloatArray, *, first: BoolArray
    ) -> FloatArray:
        """Follow all environments to what they show now.

        Args:
            actions: that they took, (num, ...) in the space of the model; `None` only where all
                begin.
            frames: uint8 (num, H, W, C).
            vectors: those that the model knows, float32 (num, V); what is not finite keeps its last
                value.
            first: bool (num,), true where an episode has just begun, whatever the action was.

        Returns:
            A new float32 array (num, V + length · F + (length − 1) · A).
        """
        if self._memory is None:
            spec = self._model.vector_spec
            self._memory = VectorMemory(len(first), spec.size, spec.names)
        vectors = self._memory.see(vectors, begun=first)
        seen = Seen.by(self._model, frames, vectors)
        if first.all():
            self._followed = self._follower.begin(seen)
        else:
            self._followed = self._moved(np.asarray(actions), seen)
            if first.any():
                mask = to_device(first, self._model.device)
                self._followed = self._follower.begin(seen).where(mask, self._followed)
        return self._joined(vectors)

    def _moved(self, actions: AnyArray, seen: Seen) -> Followed:
        spec = self._model.action_spec
        encoded = torch.from_numpy(spec.encode(spec.flatten_batch(actions)))
        taken = to_device(encoded, self._model.device)
        return self._follower.step(self.followed, taken, seen)

    def _joined(self, vectors: FloatArray) -> FloatArray:
        normalizer = self._model.vector_normalizer
        scaled = vectors if normalizer is None else normalizer.normalize(vectors)
        history = self.followed.history.joined().cpu().numpy()
        return np.concatenate([scaled, history], axis=1)
