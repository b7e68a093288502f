"""What all kinds share: p(x|z), p(v|z), p(r|z, a, z') and p(end|z, a, z') given latents z."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.actions import ActionSpec
from latentwrap.config import Config
from latentwrap.errors import ConfigError, LatentwrapError
from latentwrap.models.base import LatentModel, WindowTensors
from latentwrap.models.distributions import fixed_variance_log_prob
from latentwrap.models.networks import Activation, GaussianHead, mlp
from latentwrap.models.pixel_networks import PaperNetworks, PatchNetworks, PixelNetworks
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

_CONSTANT, _LEAST_REWARD_STD = 1e-6, 1e-3
_LARGEST_REWARD = 10.0  # standard deviations; a rare reward must not drown the pixels


class ObservationConfig(Config):
    """Hyperparameters that every kind has; the defaults are those of SLAC's paper.

    Attributes:
        network: `paper` for the published convolutions, `patch` for a cheaper pair.
        patch, widths: side of the patches of the `patch` networks, and their channels on the
            grid of patches and on each grid of half its size.
        features: size of the encoder's output.
        hidden: hidden layers of every head.
        activation: between them, `leaky_relu` or `elu`.
        standardize_frames: the networks see frames minus the mean frame of the training data,
            over the standard deviation of all its pixels.
        decoder_var: variance of p(x|z), in squared units of [0, 1] pixels.
        decoded_fraction: share of the frames of each window that are reconstructed, at least one,
            drawn anew for every update; their loss counts for all.
        blurred_weight: what errors of frames that are blurred by a Gaussian of one patch (2 pixels
            of the `paper` networks) count beside those of the pixels. Positions are then closer
            to linear in the latents; small latents of small frames gain most.
        image_weight, reward_weight: factors of the loss terms.
        rewards: learn p(r|z, a, z').
        standardize_rewards: learn rewards minus their mean over their standard deviation, at most
            10 of these.
        min_reward_std: floor of the reward's std, so that a constant reward has a finite loss.
        terminations: learn p(end|z, a, z').
        vectors: see the standardised vectors of the data beside its frames, and learn p(v|z).
        vector_weight: factor of that loss term.
    """

    network: Literal["paper", "patch"] = "paper"
    patch: int = Field(4, ge=1)
    widths: tuple[PositiveInt, ...] = Field((32, 64, 128), min_length=1)
    features: int = Field(256, ge=1)
    hidden: tuple[PositiveInt, ...] = (256, 256)
    activation: Activation = "leaky_relu"
    standardize_frames: bool = False
    decoder_var: float = Field(0.1, gt=0)
    decoded_fraction: float = Field(1.0, gt=0, le=1)
    blurred_weight: float = Field(0.0, ge=0)
    image_weight: float = Field(1.0, ge=0)
    reward_weight: float = Field(1.0, ge=0)
    rewards: bool = True
    standardize_rewards: bool = False
    min_reward_std: float = Field(1e-5, gt=0)
    terminations: bool = False
    vectors: bool = False
    vector_weight: float = Field(1.0, ge=0)

    @classmethod
    def latent_options(cls, size: int) -> dict[str, Any]:
        """Options that make the latent which is handed out have `size` dimensions.

        Raises:
            ConfigError: the kind has no latent that small.
        """
        raise NotImplementedError


class _Decoded(NamedTuple):
    """Latents float32 (N, d) and the uint8 frames (N, H, W, C) that they explain."""

    z: Tensor
    frames: Tensor


class ObservationModel(LatentModel):
    """A latent model that explains frames, vectors, rewards and terminations by its latents."""

    config: ObservationConfig
    networks: PixelNetworks
    reward: GaussianHead | None
    termination: GaussianHead | None
    vector_head: nn.Sequential | None
    reward_scale: Tensor

    def __init__(
        self,
        config: ObservationConfig,
        frame_spec: FrameSpec,
        action_spec: ActionSpec,
        frame_skip: int,
        vector_spec: VectorSpec | None,
        *,
        latent: int,
    ) -> None:
        super().__init__(frame_spec, action_spec, frame_skip, vector_spec)
        if config.vectors and not self.vector_spec.size:
            raise ConfigError(
                "A model with vectors=True requires data with vectors, got some without: collect "
                "it with vector_keys, or leave the option out."
            )
        self.config = config
        self.networks = _pixel_networks(config, frame_spec, latent)
        # p(r_t|z_t, a_t, z_{t+1}), p(end_t|z_t, a_t, z_{t+1})
        transition = 2 * latent + action_spec.size
        self.reward = (
            self.head(transition, 1, min_std=config.min_reward_std) if config.rewards else None
        )
        self.termination = self.head(transition, 1) if config.terminations else None
        # p(v_t|z_t)
        self.vector_head = (
            mlp(latent, self.vector_spec.size, config.hidden, config.activation)
            if config.vectors
            else None
        )
        self.register_buffer("reward_scale", torch.tensor([0.0, 1.0]))

    def head(self, inputs: int, outputs: int, *, min_std: float = 1e-5) -> GaussianHead:
        """A Gaussian head with the hidden layers of the configuration."""
        config = self.config
        return GaussianHead(
            inputs, outputs, config.hidden, activation=config.activation, min_std=min_std
        )

    @property
    def sees_vectors(self) -> bool:
        return self.config.vectors

    @property
    def seen_size(self) -> int:
        return self.config.features + (self.vector_spec.size if self.sees_vectors else 0)

    @property
    def loss_noise_size(self) -> int:
        # The last number of each frame draws which are reconstructed.
        return self.noise_size + 1

    def decode(self, belief: Any) -> Tensor:
        return self.networks.frames(self.networks.decode(self.latent(belief)))

    def encode(self, frames: Tensor) -> Tensor:
        """Features of uint8 frames (N, H, W, C); float32 (N, features)."""
        return self.networks.encode(frames)

    def see(self, frames: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Features of frames, joined with vectors where the model sees any."""
        if self.sees_vectors == (vectors is None):
            named = ", ".join(self.vector_spec.names)
            raise LatentwrapError(
                f"The model sees the vectors {named} beside each frame, got none: pass them."
                if self.sees_vectors
                else "The model sees frames alone, got vectors: leave them out, or pretrain it "
                "with vectors=True."
            )
        features = self.encode(frames)
        return features if vectors is None else torch.cat([features, vectors], dim=-1)

    def features(self, windows: WindowTensors) -> Tensor:
        """All that is seen in windows, float32 (B, L+1, `seen_size`)."""
        count, steps = windows.frames.shape[:2]
        vectors = None if windows.vectors is None else windows.vectors.flatten(0, 1)
        return self.see(windows.frames.flatten(0, 1), vectors).view(count, steps, -1)

    def fit_frames(self, frames: Tensor) -> None:
        self.networks.fit(frames)

    def fit_rewards(self, mean: float, std: float) -> None:
        if self.config.standardize_rewards:
            # Of a reward that never changed, as a sparse one in random data, no scale is known.
            scale = 1.0 if std < _CONSTANT else max(std, _LEAST_REWARD_STD)
            self.reward_scale = self.reward_scale.new_tensor([mean, scale])

    def image_loss(self, z: Tensor, frames: Tensor, draws: Tensor) -> Tensor:
        """−Σ_t log p(x_t|z_t), averaged over windows; a scalar.

        With `blurred_weight`, the squared error of blurred frames comes to that of the pixels.

        Args:
            z: latents, float32 (B, L+1, d).
            frames: uint8 (B, L+1, H, W, C).
            draws: standard normal, float32 (B, L+1); the largest of each window are reconstructed.
        """
        chosen = self._choose(z, frames, draws)
        # p(x_t|z_t) = N(x_t; decoder(z_t), decoder_var)
        squares = self.networks.reconstruction_error(chosen.z, chosen.frames)
        variance = self.config.decoder_var
        log_prob = fixed_variance_log_prob(squares, chosen.frames.numel(), variance)
        return -log_prob * (z.shape[1] / len(chosen.z))

    def mean_squared_error(self, z: Tensor, frames: Tensor, draws: Tensor) -> Tensor:
        """Mean squared error of the pixels; a scalar. Arguments and blurring as of `image_loss`."""
        chosen = self._choose(z, frames, draws)
        return self.networks.reconstruction_error(*chosen) / chosen.frames.numel()

    def _choose(self, z: Tensor, frames: Tensor, draws: Tensor) -> _Decoded:
        """The share of the frames that is reconstructed.

        Every window has the same, so that the loss is the mean of the losses of its windows,
        however they are divided among processes.
        """
        flat = _Decoded(z.flatten(0, 1), frames.flatten(0, 1))
        windows, steps = draws.shape
        count = max(1, round(self.config.decoded_fraction * steps))
        if count == steps:
            return flat
        firsts = steps * torch.arange(windows, device=draws.device).unsqueeze(1)
        chosen = (firsts + draws.topk(count, dim=1).indices).flatten()
        return _Decoded(flat.z[chosen], flat.frames[chosen])

    def vector_loss(self, z: Tensor, windows: WindowTensors) -> dict[str, Tensor]:
        """−Σ_t log p(v_t|z_t), averaged over windows; nothing for a model that sees no vectors.

        Args:
            z: latents, float32 (B, L+1, d).
            windows: that they were inferred from.
        """
        if self.vector_head is None or windows.vectors is None:
            return {}
        # p(v_t|z_t) = N(v_t; head(z_t), 1)
        squares = (self.vector_head(z) - windows.vectors).square().sum()
        log_prob = fixed_variance_log_prob(squares, windows.vectors.numel(), 1.0)
        return {"vectors": -log_prob / len(z)}

    def transition_losses(self, z: Tensor, windows: WindowTensors) -> dict[str, Tensor]:
        """−Σ_t log-likelihoods of rewards and terminations, averaged over windows."""
        inputs = (z[:, :-1], windows.actions, z[:, 1:])
        terms = {}
        if self.reward is not None and windows.rewards is not None:
            # −Σ_t log p(r_t|z_t, a_t, z_{t+1})
            mean, std = self.reward_scale
            target = ((windows.rewards - mean) / std).unsqueeze(-1)
            if self.config.standardize_rewards:
                target = target.clamp(-_LARGEST_REWARD, _LARGEST_REWARD)
            terms["reward"] = -self.reward(*inputs).log_prob(target).sum() / len(target)
        if self.termination is not None:
            # −Σ_t log p(end_t|z_t, a_t, z_{t+1}), Bernoulli
            logits = self.termination(*inputs).mean.squeeze(-1)
            loss = F.binary_cross_entropy_with_logits(logits, windows.terminations, reduction="sum")
            terms["termination"] = loss / len(logits)
        return terms

    def weigh(self, terms: dict[str, Tensor], **weights: float) -> Tensor:
        """Sum of the terms, each times its weight.

        Args:
            terms: scalars by name.
            weights: of terms that only some kinds have; 1 where none is given.
        """
        config = self.config
        known = {
            "image": config.image_weight,
            "reward": config.reward_weight,
            "vectors": config.vector_weight,
            **weights,
        }
        return torch.stack([known.get(name, 1.0) * term for name, term in terms.items()]).sum()


def _pixel_networks(config: ObservationConfig, frame: FrameSpec, latent: int) -> PixelNetworks:
    standardize, blurred_weight = config.standardize_frames, config.blurred_weight
    if config.network == "paper":
        return PaperNetworks(
            frame,
            config.features,
            latent,
            standardize=standardize,
            blurred_weight=blurred_weight,
        )
    return PatchNetworks(
        frame,
        config.features,
        latent,
        widths=config.widths,
        patch=config.patch,
        standardize=standardize,
        blurred_weight=blurred_weight,
    )
