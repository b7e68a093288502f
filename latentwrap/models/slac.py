"""The latent variable model of SLAC (Lee et al. 2020, arXiv:1907.00953)."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from latentwrap.actions import ActionSpec
from latentwrap.models.base import Innovation, LossTerms, WindowTensors
from latentwrap.models.distributions import Gaussian, kl_divergence
from latentwrap.models.networks import initialize
from latentwrap.models.observation import ObservationConfig, ObservationModel
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

_QUIET_STD = 0.05


class SLACConfig(ObservationConfig):
    """Hyperparameters of the model; the defaults are those of the paper.

    Attributes:
        z1, z2: sizes of the two latent variables.
        z2_only: z2 alone explains frames and rewards, and is what is handed out. Its standard
            deviation then begins at 0.05, not at ln 2, in which a few dimensions cannot keep a
            velocity long enough to learn what it is good for.
        shared_first: p(z2_1|z1_1) is p(z2|z1, 0, 0) instead of a network of its own; the latents
            of first frames then lie where all others do.
        kl_weight: factor of the KL.
    """

    z1: int = Field(32, ge=1)
    z2: int = Field(256, ge=1)
    z2_only: bool = False
    shared_first: bool = False
    kl_weight: float = Field(1.0, ge=0)

    @classmethod
    def latent_options(cls, size: int) -> dict[str, Any]:
        """Options that make the latent have `size` dimensions: those of z2."""
        return {"z2": size, "z2_only": True}


class SLACBelief(NamedTuple):
    """The filter's state: z1 float32 (B, z1), z2 float32 (B, z2)."""

    z1: Tensor
    z2: Tensor


class Posterior(NamedTuple):
    """The posterior over a window: q of every z1, and the samples; each (B, L+1, ·)."""

    q: Gaussian
    z1: Tensor
    z2: Tensor


class SLACModel(ObservationModel):
    """Two latent variables per step, z1 before z2; only z1 has a posterior of its own.

    Generative model:
        p(z1_1) = N(0, I), p(z2_1|z1_1),
        p(z1_{t+1}|z2_t, a_t), p(z2_{t+1}|z1_{t+1}, z2_t, a_t),
        p(x_t|z1_t, z2_t), p(r_t|z_t, a_t, z_{t+1}).
    Posterior:
        q(z1_1|x_1), q(z1_{t+1}|x_{t+1}, z2_t, a_t), and q = p for z2.
    With vectors, x_t is the frame and its vectors.

    Args:
        config: hyperparameters.
        frame_spec, action_spec, frame_skip, vector_spec: what the data looks like.
        generator: draws the initial weights; `None` leaves them to be loaded.
    """

    kind: ClassVar[str] = "slac"
    config: SLACConfig

    def __init__(
        self,
        config: SLACConfig,
        frame_spec: FrameSpec,
        action_spec: ActionSpec,
        *,
        frame_skip: int = 1,
        vector_spec: VectorSpec | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        action, both = action_spec.size, config.z1 + config.z2
        latent = config.z2 if config.z2_only else both
        super().__init__(config, frame_spec, action_spec, frame_skip, vector_spec, latent=latent)
        head = self.head
        # q(z1_1|x_1), q(z1_{t+1}|x_{t+1}, z2_t, a_t)
        self.z1_posterior_first = head(self.seen_size, config.z1)
        self.z1_posterior = head(self.seen_size + config.z2 + action, config.z1)
        # p(z1_{t+1}|z2_t, a_t)
        self.z1_prior = head(config.z2 + action, config.z1)
        # p(z2_1|z1_1), p(z2_{t+1}|z1_{t+1}, z2_t, a_t)
        self.z2_prior_first = None if config.shared_first else head(config.z1, config.z2)
        self.z2_prior = head(both + action, config.z2)
        if generator is not None:
            initialize(self, generator)
            if config.z2_only:
                self._quieten_z2()

    @property
    def latent_size(self) -> int:
        return self.config.z2 if self.config.z2_only else self.config.z1 + self.config.z2

    @property
    def noise_size(self) -> int:
        return self.config.z1 + self.config.z2

    def believe_first(self, features: Tensor, noise: Tensor | None = None) -> SLACBelief:
        noise1, noise2 = self._split(noise)
        # z1_1 ~ q(z1_1|x_1)
        z1 = self.z1_posterior_first(features).sample(noise1)
        # z2_1 ~ p(z2_1|z1_1)
        z2 = self._first_z2(z1).sample(noise2)
        return SLACBelief(z1, z2)

    def believe_next(
        self, belief: SLACBelief, action: Tensor, features: Tensor, noise: Tensor | None = None
    ) -> SLACBelief:
        # q(z1_{t+1}|x_{t+1}, z2_t, a_t)
        q = self.z1_posterior(features, belief.z2, action)
        return self._advance(belief, action, q, noise)

    def predict(
        self, belief: SLACBelief, action: Tensor, noise: Tensor | None = None
    ) -> SLACBelief:
        # p(z1_{t+1}|z2_t, a_t)
        return self._advance(belief, action, self.z1_prior(belief.z2, action), noise)

    def latent(self, belief: SLACBelief) -> Tensor:
        return self._explaining(belief.z1, belief.z2)

    def loss(self, windows: WindowTensors, noise: Tensor) -> LossTerms:
        """−log p(x, r|z) + KL(q ‖ p), summed over time and pixels, averaged over windows."""
        count = len(windows.frames)
        features = self.features(windows)
        posterior = self.infer(features, windows.actions, noise[..., :-1])
        prior = self.prior(posterior.z2, windows.actions)
        z = self._explaining(posterior.z1, posterior.z2)
        terms = {
            # Σ_t KL(q(z1_{t+1}|x_{t+1}, z2_t, a_t) ‖ p(z1_{t+1}|z2_t, a_t)); z2 has q = p
            "kl": kl_divergence(posterior.q, prior).sum() / count,
            "image": self.image_loss(z, windows.frames, noise[..., -1]),
            **self.vector_loss(z, windows),
            **self.transition_losses(z, windows),
        }
        total = self.weigh(terms, kl=self.config.kl_weight)
        return LossTerms(total, terms, features.detach())

    def kl_per_dimension(self, windows: WindowTensors, noise: Tensor) -> Tensor:
        """KL_i = mean_t KL(q(z1_{t+1,i}|x_{t+1}, z2_t, a_t) ‖ p(z1_{t+1,i}|z2_t, a_t)), (z1,)."""
        posterior = self.infer(self.features(windows), windows.actions, noise[..., :-1])
        prior = self.prior(posterior.z2, windows.actions)
        # Without the first step, whose prior N(0, I) knows nothing.
        return kl_divergence(posterior.q, prior)[:, 1:].mean(dim=(0, 1))

    def innovation(
        self,
        belief: SLACBelief | None,
        action: Tensor | None,
        frame: Tensor,
        vectors: Tensor | None = None,
    ) -> Innovation:
        features = self.see(frame, vectors)
        if belief is None or action is None:
            # KL(q(z1_1|x_1) ‖ N(0, I))
            q = self.z1_posterior_first(features)
            p = Gaussian(torch.zeros_like(q.mean), torch.ones_like(q.std))
        else:
            # KL(q(z1_{t+1}|x_{t+1}, z2_t, a_t) ‖ p(z1_{t+1}|z2_t, a_t)); z2 has q = p
            q = self.z1_posterior(features, belief.z2, action)
            p = self.z1_prior(belief.z2, action)
        return Innovation(kl_divergence(q, p).sum(-1), q.std)

    def infer(self, features: Tensor, actions: Tensor, noise: Tensor) -> Posterior:
        """Sample the posterior along windows.

        Args:
            features: float32 (B, L+1, `seen_size`).
            actions: float32 (B, L, A).
            noise: float32 (B, L+1, z1 + z2).
        """
        noise1, noise2 = torch.split(noise, [self.config.z1, self.config.z2], dim=-1)
        # q(z1_1|x_1), p(z2_1|z1_1)
        q = self.z1_posterior_first(features[:, 0])
        z1 = q.sample(noise1[:, 0])
        z2 = self._first_z2(z1).sample(noise2[:, 0])
        means, stds, z1s, z2s = [q.mean], [q.std], [z1], [z2]
        for t in range(actions.shape[1]):
            # q(z1_{t+1}|x_{t+1}, z2_t, a_t)
            q = self.z1_posterior(features[:, t + 1], z2, actions[:, t])
            z1 = q.sample(noise1[:, t + 1])
            # p(z2_{t+1}|z1_{t+1}, z2_t, a_t)
            z2 = self.z2_prior(z1, z2, actions[:, t]).sample(noise2[:, t + 1])
            for series, value in zip((means, stds, z1s, z2s), (q.mean, q.std, z1, z2), strict=True):
                series.append(value)
        q = Gaussian(torch.stack(means, 1), torch.stack(stds, 1))
        return Posterior(q, torch.stack(z1s, 1), torch.stack(z2s, 1))

    def prior(self, z2: Tensor, actions: Tensor) -> Gaussian:
        """p(z1) along windows given the posterior's z2 (B, L+1, z2); (B, L+1, z1)."""
        # p(z1_{t+1}|z2_t, a_t)
        later = self.z1_prior(z2[:, :-1], actions)
        # p(z1_1) = N(0, I)
        zeros = torch.zeros_like(later.mean[:, :1])
        mean = torch.cat([zeros, later.mean], dim=1)
        return Gaussian(mean, torch.cat([zeros + 1, later.std], dim=1))

    def _quieten_z2(self) -> None:
        for prior in (self.z2_prior, self.z2_prior_first):
            if prior is not None:
                prior.initialize_std(_QUIET_STD)

    def _explaining(self, z1: Tensor, z2: Tensor) -> Tensor:
        """What explains frames and rewards."""
        return z2 if self.config.z2_only else torch.cat([z1, z2], dim=-1)

    def _first_z2(self, z1: Tensor) -> Gaussian:
        """p(z2_1|z1_1)."""
        if self.z2_prior_first is not None:
            first: Gaussian = self.z2_prior_first(z1)
        else:
            before = (len(z1), self.config.z2 + self.action_spec.size)
            first = self.z2_prior(z1, z1.new_zeros(before))
        return first

    def _advance(
        self, belief: SLACBelief, action: Tensor, z1: Gaussian, noise: Tensor | None
    ) -> SLACBelief:
        noise1, noise2 = self._split(noise)
        next_z1 = z1.sample(noise1)
        # p(z2_{t+1}|z1_{t+1}, z2_t, a_t)
        next_z2 = self.z2_prior(next_z1, belief.z2, action).sample(noise2)
        return SLACBelief(next_z1, next_z2)

    def _split(self, noise: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if noise is None:
            return None, None
        noise1, noise2 = torch.split(noise, [self.config.z1, self.config.z2], dim=-1)
        return noise1, noise2
