"""The mathematics of soft actor-critic: one update, as a list of named steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.agents.config import SACConfig
from latentwrap.agents.networks import Actor, TwinCritics, initialize
from latentwrap.agents.replay import Batch
from latentwrap.optimizers import moments, restore_moments, under
from latentwrap.seeding import torch_generator


class Learner:
    """Actor, critics, temperature, and their optimisers.

    Args:
        observation_size, action_size: columns of an observation and an action.
        config: hyperparameters.
        device: where the networks are.
        seed: of the initial weights and of the noise.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: SACConfig,
        *,
        device: torch.device,
        seed: int,
    ) -> None:
        self.device = device
        self._config = config
        self._action_size = action_size
        self._noise = torch_generator(seed)
        self.actor = Actor(
            observation_size,
            action_size,
            config.hidden,
            log_std_min=config.log_std_min,
            log_std_max=config.log_std_max,
        )
        self.critics = TwinCritics(observation_size, action_size, config.hidden)
        for network in (self.actor, self.critics):
            initialize(network, self._noise)
            network.to(device)
        self.targets = TwinCritics(observation_size, action_size, config.hidden).to(device)
        self.targets.load_state_dict(self.critics.state_dict())
        self.targets.requires_grad_(requires_grad=False)
        start = math.log(config.initial_temperature)
        self.log_temperature = torch.tensor(start, device=device, requires_grad=True)
        entropy = config.target_entropy
        self.target_entropy = -float(action_size) if entropy is None else entropy
        self._optimizers = {
            "actor": self._adam(list(self.actor.parameters())),
            "critics": self._adam(list(self.critics.parameters())),
            "temperature": self._adam([self.log_temperature]),
        }

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of each part; returns metrics that are not yet synchronised."""
        critic_loss, values = self._update_critics(batch)
        actor_loss, entropy = self._update_actor(batch)
        temperature_loss = self._update_temperature(entropy)
        self._update_targets()
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "temperature_loss": temperature_loss,
            "temperature": self.temperature,
            "entropy": entropy,
            "q": values,
        }

    @property
    def temperature(self) -> Tensor:
        """α, the weight of the entropy; a scalar without gradient."""
        return self.log_temperature.detach().exp()

    def draw_noise(self, count: int) -> Tensor:
        """Standard normal noise for `count` actions, (count, A)."""
        shape = (count, self._action_size)
        return torch.randn(shape, generator=self._noise).to(self.device)

    @torch.no_grad()
    def critic_target(self, batch: Batch, noise: Tensor) -> Tensor:
        """y = r + γ (1 − terminated) (min_i Q̄_i(s', a') − α log π(a'|s')), a' ~ π(·|s'); (B,)."""
        action, log_prob = self.actor.sample(batch.next_observation, noise)
        value: Tensor = self.targets(batch.next_observation, action).amin(dim=0)
        soft = value - self.temperature * log_prob
        return batch.reward + self._config.gamma * (1 - batch.terminated) * soft

    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_i mean (Q_i(s, a) − y)², and the mean Q."""
        values = self.critics(batch.observation, batch.action)
        loss = F.mse_loss(values, target.expand_as(values), reduction="none").mean(dim=1).sum()
        return loss, values.detach().mean()

    def actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """mean (α log π(a|s) − min_i Q_i(s, a)), a ~ π(·|s), and the policy's entropy."""
        action, log_prob = self.actor.sample(batch.observation, noise)
        value = self.critics(batch.observation, action).amin(dim=0)
        return (self.temperature * log_prob - value).mean(), -log_prob.detach().mean()

    def temperature_loss(self, entropy: Tensor) -> Tensor:
        """log α (H(π) − H̄): the temperature falls while the entropy is above its target."""
        return self.log_temperature * (entropy - self.target_entropy)

    def state(self) -> dict[str, Tensor]:
        """Copies of all weights, moments and the state of the noise, by name."""
        tensors = {"log_temperature": self.log_temperature.detach().clone()}
        tensors["noise"] = self._noise.get_state()
        for part, module in self._modules().items():
            tensors |= {f"{part}.{name}": t.clone() for name, t in module.state_dict().items()}
        for part, optimizer in self._optimizers.items():
            tensors |= {f"adam.{part}.{name}": t for name, t in moments(optimizer).items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        with torch.no_grad():
            self.log_temperature.copy_(tensors["log_temperature"])
        self._noise.set_state(tensors["noise"])
        for part, module in self._modules().items():
            module.load_state_dict(under(f"{part}.", tensors))
        for part, optimizer in self._optimizers.items():
            restore_moments(optimizer, under(f"adam.{part}.", tensors))

    def _update_critics(self, batch: Batch) -> tuple[Tensor, Tensor]:
        target = self.critic_target(batch, self.draw_noise(len(batch.reward)))
        loss, values = self.critic_loss(batch, target)
        self._descend("critics", loss)
        return loss.detach(), values

    def _update_actor(self, batch: Batch) -> tuple[Tensor, Tensor]:
        # The critics only pass the gradient on; it must not pile up in their weights.
        self.critics.requires_grad_(requires_grad=False)
        loss, entropy = self.actor_loss(batch, self.draw_noise(len(batch.reward)))
        self._descend("actor", loss)
        self.critics.requires_grad_(requires_grad=True)
        return loss.detach(), entropy

    def _update_temperature(self, entropy: Tensor) -> Tensor:
        loss = self.temperature_loss(entropy)
        self._descend("temperature", loss)
        return loss.detach()

    @torch.no_grad()
    def _update_targets(self) -> None:
        # Q̄ ← (1 − τ) Q̄ + τ Q
        targets: list[Tensor] = list(self.targets.parameters())
        critics: list[Tensor] = list(self.critics.parameters())
        torch._foreach_lerp_(targets, critics, self._config.tau)

    def _descend(self, part: str, loss: Tensor) -> None:
        optimizer = self._optimizers[part]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _adam(self, parameters: list[Any]) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, lr=self._config.learning_rate, fused=True)

    def _modules(self) -> dict[str, nn.Module]:
        return {"actor": self.actor, "critics": self.critics, "targets": self.targets}
