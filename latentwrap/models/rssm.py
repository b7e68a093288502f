"""The recurrent state-space model (Hafner et al. 2019, arXiv:1811.04551)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.actions import ActionSpec
from latentwrap.errors import ConfigError
from latentwrap.models.base import Innovation, LossTerms, WindowTensors, map_belief
from latentwrap.models.distributions import Distribution, Gaussian, kl_divergence
from latentwrap.models.networks import CategoricalHead, GaussianHead, initialize
from latentwrap.models.observation import ObservationConfig, ObservationModel
from latentwrap.models.rollout import RolloutWeights, roll_out
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

_MIN_STD = 0.01


class RSSMConfig(ObservationConfig):
    """Hyperparameters of the model.

    Attributes:
        memory: size of the deterministic state h.
        stochastic: variables of the stochastic state s.
        classes: values of each variable; 0 makes them Gaussian.
        kl_weight: factor of the KL.
        kl_balance: share of the KL that trains the prior; the rest trains the posterior
            (Hafner et al. 2020, arXiv:2010.02193).
        free_nats: a KL below this, per frame, is free.
    """

    memory: int = Field(128, ge=1)
    stochastic: int = Field(32, ge=1)
    classes: Literal[0] | Annotated[int, Field(ge=2)] = 0
    kl_weight: float = Field(1.0, ge=0)
    kl_balance: float = Field(0.8, ge=0, le=1)
    free_nats: float = Field(1.0, ge=0)

    @property
    def stochastic_size(self) -> int:
        """Numbers that s consists of."""
        return self.stochastic * max(self.classes, 1)

    @classmethod
    def latent_options(cls, size: int) -> dict[str, Any]:
        """Options that make the latent have `size` dimensions, half of them memory."""
        if size < 2:
            raise ConfigError(
                f"A rssm model requires a latent of at least 2 dimensions, got {size}: "
                "use the kind slac."
            )
        return {"stochastic": size // 2, "memory": size - size // 2, "classes": 0}


class RSSMBelief(NamedTuple):
    """The filter's state: h float32 (B, memory), s float32 (B, stochastic · classes)."""

    h: Tensor
    s: Tensor


class Posterior(NamedTuple):
    """The posterior over a window: q of every s, and h and s; each (B, L+1, ·)."""

    q: Distribution
    h: Tensor
    s: Tensor


class RSSMModel(ObservationModel):
    """A deterministic memory beside a stochastic state: what is hidden is not forgotten.

    Generative model:
        h_1 = f(0, 0, 0), h_{t+1} = f(h_t, s_t, a_t), a GRU;
        p(s_t|h_t), p(x_t|h_t, s_t), p(r_t|h_t, s_t, a_t, h_{t+1}, s_{t+1}).
    Posterior:
        q(s_t|h_t, x_t).
    With vectors, x_t is the frame and its vectors.

    Args:
        config: hyperparameters.
        frame_spec, action_spec, frame_skip, vector_spec: what the data looks like.
        generator: draws the initial weights; `None` leaves them to be loaded.
    """

    kind: ClassVar[str] = "rssm"
    config: RSSMConfig

    def __init__(
        self,
        config: RSSMConfig,
        frame_spec: FrameSpec,
        action_spec: ActionSpec,
        *,
        frame_skip: int = 1,
        vector_spec: VectorSpec | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        memory, stochastic = config.memory, config.stochastic_size
        latent = memory + stochastic
        super().__init__(config, frame_spec, action_spec, frame_skip, vector_spec, latent=latent)
        # h_{t+1} = f(h_t, s_t, a_t)
        self.embed = nn.Sequential(nn.Linear(stochastic + action_spec.size, memory), nn.ELU())
        self.memory = nn.GRUCell(memory, memory)
        # p(s_t|h_t), q(s_t|h_t, x_t)
        self.prior = self._state_head(memory)
        self.posterior = self._state_head(memory + self.seen_size)
        if generator is not None:
            initialize(self, generator)

    @property
    def latent_size(self) -> int:
        return self.config.memory + self.config.stochastic_size

    @property
    def noise_size(self) -> int:
        return self.config.stochastic_size

    def believe_first(self, features: Tensor, noise: Tensor | None = None) -> RSSMBelief:
        return self._believe(self._first_memory(len(features)), features, noise)

    def believe_next(
        self, belief: RSSMBelief, action: Tensor, features: Tensor, noise: Tensor | None = None
    ) -> RSSMBelief:
        return self._believe(self._remember(belief, action), features, noise)

    def predict(
        self, belief: RSSMBelief, action: Tensor, noise: Tensor | None = None
    ) -> RSSMBelief:
        h = self._remember(belief, action)
        # s_{t+1} ~ p(s_{t+1}|h_{t+1})
        return RSSMBelief(h, self.prior(h).sample(noise))

    def latent(self, belief: RSSMBelief) -> Tensor:
        return torch.cat([belief.h, belief.s], dim=-1)

    def kl_per_dimension(self, windows: WindowTensors, noise: Tensor) -> Tensor:
        posterior = self.infer(self.features(windows), windows.actions, noise[..., :-1])
        # KL(q(s_t|h_t, x_t) ‖ p(s_t|h_t))
        kl = kl_divergence(posterior.q, self.prior(posterior.h))
        return kl[:, 1:].mean(dim=(0, 1))

    def loss(self, windows: WindowTensors, noise: Tensor) -> LossTerms:
        """−log p(x, r|h, s) + KL(q ‖ p), summed over time and pixels, averaged over windows."""
        features = self.features(windows)
        posterior = self.infer(features, windows.actions, noise[..., :-1])
        z = torch.cat([posterior.h, posterior.s], dim=-1)
        terms = {
            "kl": self._kl_loss(posterior),
            "image": self.image_loss(z, windows.frames, noise[..., -1]),
            **self.vector_loss(z, windows),
            **self.transition_losses(z, windows),
        }
        total = self.weigh(terms, kl=self.config.kl_weight)
        return LossTerms(total, terms, features.detach())

    def innovation(
        self,
        belief: RSSMBelief | None,
        action: Tensor | None,
        frame: Tensor,
        vectors: Tensor | None = None,
    ) -> Innovation:
        if belief is None or action is None:
            h = self._first_memory(len(frame))
        else:
            h = self._remember(belief, action)
        # KL(q(s_t|h_t, x_t) ‖ p(s_t|h_t))
        q = self.posterior(h, self.see(frame, vectors))
        return Innovation(kl_divergence(q, self.prior(h)).sum(-1), q.std)

    def infer(self, features: Tensor, actions: Tensor, noise: Tensor) -> Posterior:
        """Sample the posterior along windows.

        Args:
            features: float32 (B, L+1, `seen_size`).
            actions: float32 (B, L, A).
            noise: float32 (B, L+1, stochastic · classes).
        """
        if not self.config.classes:
            return self._infer_gaussian(features, actions, noise)
        h = self._first_memory(len(features))
        qs: list[Distribution] = []
        hs: list[Tensor] = []
        ss: list[Tensor] = []
        for t in range(features.shape[1]):
            if t:
                h = self._remember(RSSMBelief(h, ss[-1]), actions[:, t - 1])
            # q(s_t|h_t, x_t)
            q = self.posterior(h, features[:, t])
            qs.append(q)
            hs.append(h)
            ss.append(q.sample(noise[:, t]))
        stacked = map_belief(lambda *steps: torch.stack(steps, dim=1), *qs)
        return Posterior(stacked, torch.stack(hs, dim=1), torch.stack(ss, dim=1))

    def _infer_gaussian(self, features: Tensor, actions: Tensor, noise: Tensor) -> Posterior:
        embed, first, *deeper = self._linear(self.embed, self.posterior.net)
        s, h = self.config.stochastic, self.config.memory
        # What does not depend on the steps before, for all steps at once; no action comes first.
        nothing = actions.new_zeros(len(actions), 1, self.action_spec.size)
        taken = F.linear(torch.cat([nothing, actions], dim=1), embed.weight[:, s:], embed.bias)
        seen = F.linear(features, first.weight[:, h:], first.bias)
        gru = self.memory
        weights = RolloutWeights(
            embed.weight[:, :s],
            gru.weight_ih,
            gru.bias_ih,
            gru.weight_hh,
            gru.bias_hh,
            first.weight[:, :h],
            tuple(p for layer in deeper for p in (layer.weight, layer.bias)),
        )
        rolled = roll_out(
            taken, seen, noise, weights, activation=self.config.activation, min_std=_MIN_STD
        )
        return Posterior(Gaussian(rolled.mean, rolled.std), rolled.h, rolled.s)

    @staticmethod
    def _linear(*networks: nn.Sequential) -> list[nn.Linear]:
        return [layer for net in networks for layer in net if isinstance(layer, nn.Linear)]

    def _kl_loss(self, posterior: Posterior) -> Tensor:
        """α KL(sg(q) ‖ p) + (1 − α) KL(q ‖ sg(p)), each at least `free_nats`; sg: no gradient."""
        q, p = posterior.q, self.prior(posterior.h)
        fixed_q, fixed_p = map_belief(Tensor.detach, q), map_belief(Tensor.detach, p)
        balance, free = self.config.kl_balance, self.config.free_nats
        to_prior = kl_divergence(fixed_q, p).sum(-1).clamp(min=free)
        to_posterior = kl_divergence(q, fixed_p).sum(-1).clamp(min=free)
        return (balance * to_prior + (1 - balance) * to_posterior).sum() / len(posterior.h)

    def _first_memory(self, count: int) -> Tensor:
        nothing = RSSMBelief(
            torch.zeros(count, self.config.memory, device=self.device),
            torch.zeros(count, self.config.stochastic_size, device=self.device),
        )
        return self._remember(nothing, nothing.h.new_zeros(count, self.action_spec.size))

    def _remember(self, belief: RSSMBelief, action: Tensor) -> Tensor:
        # h_{t+1} = f(h_t, s_t, a_t)
        h: Tensor = self.memory(self.embed(torch.cat([belief.s, action], dim=-1)), belief.h)
        return h

    def _believe(self, h: Tensor, features: Tensor, noise: Tensor | None) -> RSSMBelief:
        # s_t ~ q(s_t|h_t, x_t)
        return RSSMBelief(h, self.posterior(h, features).sample(noise))

    def _state_head(self, inputs: int) -> GaussianHead | CategoricalHead:
        config = self.config
        if not config.classes:
            return self.head(inputs, config.stochastic, min_std=_MIN_STD)
        return CategoricalHead(
            inputs,
            config.stochastic,
            config.classes,
            config.hidden,
            activation=config.activation,
        )
