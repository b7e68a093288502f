"""Beliefs, and the latest features and actions, of streams that are followed frame by frame."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentwrap.devices import to_device
from latentwrap.models import LatentModel, map_belief
from latentwrap.types import FloatArray, Frames


class Seen(NamedTuple):
    """What some streams show.

    Attributes:
        frames: uint8 (num, H, W, C).
        vectors: standardised, float32 (num, V), where the model sees them.
        noise: standard normal, float32 (num, k), or `None` for means.
    """

    frames: Tensor
    vectors: Tensor | None
    noise: Tensor | None

    @classmethod
    def by(
        cls,
        model: LatentModel,
        frames: Frames,
        vectors: FloatArray,
        noise: Tensor | None = None,
    ) -> Seen:
        """What a model sees of frames uint8 (num, H, W, C) and the vectors beside them (num, V)."""
        shown = to_device(np.ascontiguousarray(frames), model.device)
        return cls(shown, model.prepare_vectors(vectors), noise)


class History(NamedTuple):
    """The latest of an episode; before its first frame that frame again, and zero actions.

    Attributes:
        features: of frames, float32 (num, length, F).
        actions: encoded, taken between them, float32 (num, length − 1, A).
    """

    features: Tensor
    actions: Tensor

    def joined(self) -> Tensor:
        """All of it, features first, float32 (num, length · F + (length − 1) · A)."""
        return torch.cat([self.features.flatten(1), self.actions.flatten(1)], dim=1)


class Followed(NamedTuple):
    """Where some streams are: the belief after their latest frame, and their history."""

    belief: Any
    history: History

    @property
    def features(self) -> Tensor:
        """Of the latest frames, float32 (num, F)."""
        return self.history.features[:, -1]

    def where(self, mask: Tensor, other: Followed) -> Followed:
        """These streams where the mask, bool (num,), is true, and the `other` elsewhere."""
        return Followed(
            choose(mask, self.belief, other.belief), choose(mask, self.history, other.history)
        )


class Follower:
    """Filters streams by a model, which may learn meanwhile.

    Args:
        model: filters, as it is at each step.
        length: frames that a history holds.
    """

    def __init__(self, model: LatentModel, length: int) -> None:
        self._model, self._length = model, length

    @torch.no_grad()
    def begin(self, seen: Seen) -> Followed:
        """Streams that begin an episode with what they show."""
        features = self._model.see(seen.frames, seen.vectors)
        nothing = features.new_zeros(len(features), self._length - 1, self._model.action_spec.size)
        history = History(features[:, None].repeat(1, self._length, 1), nothing)
        return Followed(self._model.believe_first(features, seen.noise), history)

    @torch.no_grad()
    def step(self, before: Followed, actions: Tensor, seen: Seen) -> Followed:
        """Streams after one more action, encoded float32 (num, A), and what they then show."""
        features = self._model.see(seen.frames, seen.vectors)
        belief = self._model.believe_next(before.belief, actions, features, seen.noise)
        history = History(
            torch.cat([before.history.features[:, 1:], features[:, None]], dim=1),
            torch.cat([before.history.actions, actions[:, None]], dim=1)[:, 1:],
        )
        return Followed(belief, history)


def choose(mask: Tensor, chosen: Any, other: Any) -> Any:
    """Beliefs that are `chosen` where the mask, bool (B,), is true, and `other` elsewhere."""

    def where(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)

    return map_belief(where, chosen, other)
