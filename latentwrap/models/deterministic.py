"""The simplified SLAC: encoder, decoder and latent dynamics without distributions."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from latentwrap.actions import ActionSpec
from latentwrap.models.base import LossTerms, WindowTensors
from latentwrap.models.networks import initialize, mlp
from latentwrap.models.observation import ObservationConfig, ObservationModel
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec


class DeterministicConfig(ObservationConfig):
    """Hyperparameters of the model.

    Attributes:
        z: size of the latent.
        recursive: the latent follows from frame, last latent and last action; otherwise from the
            frame alone.
        prediction_weight: factor of the prediction loss.
    """

    z: int = Field(64, ge=1)
    recursive: bool = True
    prediction_weight: float = Field(1.0, ge=0)
    rewards: bool = False

    @classmethod
    def latent_options(cls, size: int) -> dict[str, Any]:
        """Options that make the latent have `size` dimensions."""
        return {"z": size}


class DeterministicBelief(NamedTuple):
    """The filter's state: z float32 (B, z)."""

    z: Tensor


class DeterministicModel(ObservationModel):
    """A baseline that shows what the stochastic filters buy.

    z_1 = f(x_1, 0, 0), z_{t+1} = f(x_{t+1}, z_t, a_t), prediction g(z_t, a_t) of z_{t+1}; with
    `recursive=False`, z_t = f(x_t). With vectors, x_t is the frame and its vectors. All losses are
    mean squared errors: of the pixels, of the predicted latents, of the vectors. Nothing is
    random: without noise to draw, samples are means.

    Args:
        config: hyperparameters.
        frame_spec, action_spec, frame_skip, vector_spec: what the data looks like.
        generator: draws the initial weights; `None` leaves them to be loaded.
    """

    kind: ClassVar[str] = "deterministic"
    config: DeterministicConfig

    def __init__(
        self,
        config: DeterministicConfig,
        frame_spec: FrameSpec,
        action_spec: ActionSpec,
        *,
        frame_skip: int = 1,
        vector_spec: VectorSpec | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config, frame_spec, action_spec, frame_skip, vector_spec, latent=config.z)
        before = config.z + action_spec.size
        inputs = self.seen_size + (before if config.recursive else 0)
        # z_{t+1} = f(x_{t+1}, z_t, a_t), and g(z_t, a_t) that predicts it
        self.state = mlp(inputs, config.z, config.hidden, config.activation)
        self.dynamics = mlp(before, config.z, config.hidden, config.activation)
        if generator is not None:
            initialize(self, generator)

    @property
    def latent_size(self) -> int:
        return self.config.z

    @property
    def noise_size(self) -> int:
        return 0

    def believe_first(self, features: Tensor, noise: Tensor | None = None) -> DeterministicBelief:
        return DeterministicBelief(self._first(features))

    def believe_next(
        self,
        belief: DeterministicBelief,
        action: Tensor,
        features: Tensor,
        noise: Tensor | None = None,
    ) -> DeterministicBelief:
        return DeterministicBelief(self._next(features, belief.z, action))

    def predict(
        self, belief: DeterministicBelief, action: Tensor, noise: Tensor | None = None
    ) -> DeterministicBelief:
        return DeterministicBelief(self._predict(belief.z, action))

    def latent(self, belief: DeterministicBelief) -> Tensor:
        return belief.z

    def loss(self, windows: WindowTensors, noise: Tensor) -> LossTerms:
        """Mean squared error of the pixels, the predicted latents and the vectors."""
        features = self.features(windows)
        z = self.infer(features, windows.actions)
        predicted = self._predict(z[:, :-1], windows.actions)
        terms = {
            "image": self.mean_squared_error(z, windows.frames, noise[..., -1]),
            "prediction": F.mse_loss(predicted, z[:, 1:]),
            **self.vector_loss(z, windows),
            **self.transition_losses(z, windows),
        }
        total = self.weigh(terms, prediction=self.config.prediction_weight)
        return LossTerms(total, terms, features.detach())

    def vector_loss(self, z: Tensor, windows: WindowTensors) -> dict[str, Tensor]:
        if self.vector_head is None or windows.vectors is None:
            return {}
        return {"vectors": F.mse_loss(self.vector_head(z), windows.vectors)}

    def infer(self, features: Tensor, actions: Tensor) -> Tensor:
        """Latents along windows, float32 (B, L+1, z).

        Args:
            features: float32 (B, L+1, `seen_size`).
            actions: float32 (B, L, A).
        """
        if not self.config.recursive:
            latents: Tensor = self.state(features)
            return latents
        series = [self._first(features[:, 0])]
        for t in range(actions.shape[1]):
            series.append(self._next(features[:, t + 1], series[-1], actions[:, t]))
        return torch.stack(series, dim=1)

    def _first(self, features: Tensor) -> Tensor:
        nothing = features.new_zeros(len(features), self.config.z + self.action_spec.size)
        return self._next(features, nothing)

    def _next(self, features: Tensor, *before: Tensor) -> Tensor:
        inputs = torch.cat([features, *before], dim=-1) if self.config.recursive else features
        z: Tensor = self.state(inputs)
        return z

    def _predict(self, z: Tensor, action: Tensor) -> Tensor:
        predicted: Tensor = self.dynamics(torch.cat([z, action], dim=-1))
        return predicted
