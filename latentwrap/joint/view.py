"""What actor and critics see of beliefs, features and actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from latentwrap.agents.learner import Sight
from latentwrap.devices import to_device
from latentwrap.joint.config import JointConfig
from latentwrap.models import LatentModel
from latentwrap.normalizer import CLIP, STD_FLOOR, LatentNormalizer
from latentwrap.types import FloatArray
from latentwrap.wrappers.following import History


class AgentView:
    """Joins what the agent learns from into observations.

    The critics see the latent and the vectors beside the frames. So does the actor with
    `actor_input="latent"`, and latents are then standardised, as a `LatentObservation` would hand
    them out. With `"history"` they are as the model has them, and the actor sees the latest
    features and actions instead, as SLAC was published.

    Args:
        model: with the statistics of its vectors, if there are any.
        config: says what the actor sees.

    Attributes:
        size: columns of an observation.
        sight: which of them actor and critics see.
    """

    def __init__(self, model: LatentModel, config: JointConfig) -> None:
        self._model = model
        self.with_history = config.actor_input == "history"
        state = model.latent_size + model.vector_spec.size
        frames, action = config.history, model.action_spec.size
        history = frames * model.seen_size + (frames - 1) * action
        self.size = state + (history if self.with_history else 0)
        begin = model.latent_size if self.with_history else 0
        self.sight = Sight(actor=slice(begin, self.size), critics=slice(0, state))
        if model.normalizer is None:
            model.normalizer = LatentNormalizer.identity(model.latent_size)
        self.rescale(model.normalizer)

    @property
    def actor_space(self) -> spaces.Box:
        """Of what the actor sees, as `LatentObservation` and `HistoryObservation` have it."""
        bound = CLIP if self.standardizes else np.inf
        size = self.sight.actor.stop - self.sight.actor.start
        return spaces.Box(-bound, bound, (size,), np.float32)

    @property
    def standardizes(self) -> bool:
        """Whether latents are standardised."""
        return not self.with_history

    def rescale(self, scale: LatentNormalizer) -> None:
        """Standardise latents by other statistics from now on."""
        self.scale = scale
        device = self._model.device
        self._mean = to_device(scale.mean, device)
        std = np.maximum(scale.std, np.float32(STD_FLOOR))
        self._std = to_device(std, device)

    def state(self, beliefs: Any, vectors: FloatArray) -> Tensor:
        """What the critics see, float32 (B, d + V), of beliefs of B and their vectors (B, V)."""
        latents = self._model.latent(beliefs)
        if not self.with_history:
            latents = ((latents - self._mean) / self._std).clamp(-CLIP, CLIP)
        return torch.cat([latents, self._scaled(vectors)], dim=1)

    def observe(self, beliefs: Any, vectors: FloatArray, history: History | None) -> Tensor:
        """Observations, float32 (B, `size`)."""
        state = self.state(beliefs, vectors)
        if not self.with_history or history is None:
            return state
        return torch.cat([state, history.joined()], dim=1)

    def _scaled(self, vectors: FloatArray) -> Tensor:
        normalizer = self._model.vector_normalizer
        scaled = vectors if normalizer is None else normalizer.normalize(vectors)
        return to_device(np.array(scaled, np.float32), self._model.device)
