"""The mathematics of soft actor-critic: one update, as a list of named steps."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from latentwrap.agents.config import SACConfig
from latentwrap.agents.kinds import ActionKind
from latentwrap.agents.networks import Actor, Critics, Expectation, initialize
from latentwrap.agents.replay import Batch
from latentwrap.agents.rescaling import Rescaling, rescale_inputs, rescale_moments
from latentwrap.optimizers import moments, restore_moments, under
from latentwrap.seeding import torch_generator


class Sight(NamedTuple):
    """Which columns of an observation the actor sees, and which the critics."""

    actor: slice
    critics: slice

    @classmethod
    def of_all(cls, size: int) -> Sight:
        """Both see all columns."""
        return cls(slice(0, size), slice(0, size))


class Learner:
    """Actor, critics, temperature, and their optimisers, for any kind of action.

    Args:
        kind: of the actions: it makes the networks, and the actor takes the expectations.
        sight: what actor and critics see of an observation.
        config: hyperparameters.
        device: where the networks are.
        seed: of the initial weights and of the noise.

    Attributes:
        noise: the generator of all noise, on the CPU.
    """

    def __init__(
        self,
        kind: ActionKind,
        sight: Sight,
        config: SACConfig,
        *,
        device: torch.device,
        seed: int,
    ) -> None:
        self.device = device
        self._config, self._sight = config, sight
        self.noise = torch_generator(seed)
        seen_by_actor, seen_by_critics = (part.stop - part.start for part in sight)
        self.actor = kind.make_actor(seen_by_actor, config)
        self.critics = kind.make_critics(seen_by_critics, config)
        for network in (self.actor, self.critics):
            initialize(network, self.noise)
            network.to(device)
        self.targets = kind.make_critics(seen_by_critics, config).to(device)
        self.targets.load_state_dict(self.critics.state_dict())
        self.targets.requires_grad_(requires_grad=False)
        start = math.log(config.initial_temperature)
        self.log_temperature = torch.tensor(start, device=device, requires_grad=True)
        self.target_entropy = kind.target_entropy(config)
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

    @torch.no_grad()
    def critic_target(self, batch: Batch) -> Tensor:
        """y = r + γ (1 − terminated) (E_π[min_i Q̄_i(s', a')] + α H(π(·|s'))), (B,)."""
        value, entropy = self._expect(batch.next_observation, self.targets)
        soft = value + self.temperature * entropy
        return batch.reward + self._config.gamma * (1 - batch.terminated) * soft

    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_i mean (Q_i(s, a) − y)², and the mean Q."""
        values = self.critics(batch.observation[:, self._sight.critics], batch.action)
        loss = F.mse_loss(values, target.expand_as(values), reduction="none").mean(dim=1).sum()
        return loss, values.detach().mean()

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """−mean (E_π[min_i Q_i(s, a)] + α H(π(·|s))), and the policy's mean entropy."""
        value, entropy = self._expect(batch.observation, self.critics)
        return -(value + self.temperature * entropy).mean(), entropy.detach().mean()

    def temperature_loss(self, entropy: Tensor) -> Tensor:
        """log α (H(π) − H̄): the temperature falls while the entropy is above its target."""
        return self.log_temperature * (entropy - self.target_entropy)

    def state(self) -> dict[str, Tensor]:
        """Copies of all weights, moments and the state of the noise, by name."""
        tensors = {"log_temperature": self.log_temperature.detach().clone()}
        tensors["noise"] = self.noise.get_state()
        for part, module in self._modules().items():
            tensors |= {f"{part}.{name}": t.clone() for name, t in module.state_dict().items()}
        for part, optimizer in self._optimizers.items():
            tensors |= {f"adam.{part}.{name}": t for name, t in moments(optimizer).items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        with torch.no_grad():
            self.log_temperature.copy_(tensors["log_temperature"])
        self.noise.set_state(tensors["noise"])
        for part, module in self._modules().items():
            module.load_state_dict(under(f"{part}.", tensors))
        for part, optimizer in self._optimizers.items():
            restore_moments(optimizer, under(f"adam.{part}.", tensors))

    @torch.no_grad()
    def rescale(self, change: Rescaling) -> None:
        """See observations in another scale and act and judge as before.

        The first layers absorb the change: W x + b of the old observation is W' x' + b' of the
        new one. Their moments follow, but for what the shift of a weight's gradient would add.
        """
        for part, module in self._modules().items():
            rescale_inputs(module.first, change)
            if part in self._optimizers:
                state = self._optimizers[part].state.get(module.first.weight, {})
                rescale_moments(module.first, state, change)

    def _expect(self, observation: Tensor, critics: Critics) -> Expectation:
        seen, state = observation[:, self._sight.actor], observation[:, self._sight.critics]
        return self.actor.expect(seen, state, critics, self.noise)

    def _update_critics(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, values = self.critic_loss(batch, self.critic_target(batch))
        self._descend("critics", loss)
        return loss.detach(), values

    def _update_actor(self, batch: Batch) -> tuple[Tensor, Tensor]:
        # The critics only pass the gradient on; it must not pile up in their weights.
        self.critics.requires_grad_(requires_grad=False)
        loss, entropy = self.actor_loss(batch)
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

    def _modules(self) -> dict[str, Actor | Critics]:
        return {"actor": self.actor, "critics": self.critics, "targets": self.targets}
