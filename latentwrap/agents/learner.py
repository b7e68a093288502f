"""The mathematics of soft actor-critic: one update, as a list of named steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from latentwrap.agents.batch import Batch
from latentwrap.agents.config import SACConfig
from latentwrap.agents.flat import Adam, FlatParameters
from latentwrap.agents.kinds import ActionKind
from latentwrap.agents.networks import Actor, Critics, Decision, initialize
from latentwrap.agents.rescaling import Rescaling, rescale_inputs, rescale_moments
from latentwrap.devices import to_device
from latentwrap.graphs import Record, graphed, record_on
from latentwrap.optimizers import under
from latentwrap.seeding import torch_generator


class Sight(NamedTuple):
    """Which columns of an observation the actor sees, and which the critics."""

    actor: slice
    critics: slice

    @classmethod
    def of_all(cls, size: int) -> Sight:
        """Both see all columns."""
        return cls(slice(0, size), slice(0, size))


class Decisions(NamedTuple):
    """What the policy decides in the states of a batch, those that followed and those before."""

    following: Decision
    current: Decision


class Learner:
    """Actor, critics, temperature, and their optimisers, for any kind of action.

    Args:
        kind: of the actions: it makes the networks, and the actor takes the expectations.
        sight: what actor and critics see of an observation.
        config: hyperparameters.
        device: where the networks are.
        seed: of the initial weights and of the noise.
        record: records updates as graphs; `None` does so on CUDA and makes none elsewhere.

    Attributes:
        sight: as given.
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
        record: Record | None = None,
    ) -> None:
        self.device = device
        self._config, self.sight, self._action_size = config, sight, kind.size
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
        self._flat = {
            "actor": FlatParameters(list(self.actor.parameters())),
            "critics": FlatParameters(list(self.critics.parameters())),
            "targets": FlatParameters(list(self.targets.parameters())),
            "temperature": FlatParameters([self.log_temperature]),
        }
        self._optimizers = {
            part: Adam(self._flat[part], config.learning_rate)
            for part in ("actor", "critics", "temperature")
        }
        self._steps = graphed(self._update, record or record_on(device))

    @torch.no_grad()
    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of each part; returns metrics that are not yet synchronised."""
        return self._steps(batch.rows, self.draw_noise(batch))

    def draw_noise(self, batch: Batch) -> Tensor | None:
        """What `decide` draws the actions of a batch from, on the device."""
        noise = self.actor.noise(2 * len(batch.reward), self.noise)
        return None if noise is None else to_device(noise, self.device)

    def _update(self, rows: Tensor, noise: Tensor | None) -> dict[str, Tensor]:
        batch = Batch(rows, rows.shape[2] - self._action_size - 1)
        following, current = self.decide(batch, noise)
        critic_loss, values = self.critic_loss(batch, self.critic_target(batch, following))
        self._optimizers["critics"].step()
        actor_loss, entropy = self.actor_loss(batch, current)
        self._optimizers["actor"].step()
        temperature_loss = self.temperature_loss(entropy)
        self._optimizers["temperature"].step()
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
    def decide(self, batch: Batch, noise: Tensor | None) -> Decisions:
        """What the policy decides in the states of a batch, both at once, by `draw_noise`."""
        decided = self.actor.decide(batch.states[:, self.sight.actor], noise)
        half = len(batch.reward)
        return Decisions(decided.rows(slice(half)), decided.rows(slice(half, None)))

    @torch.no_grad()
    def critic_target(self, batch: Batch, following: Decision) -> Tensor:
        """y = r + γ (1 − terminated) (E_π[min_i Q̄_i(s', a')] + α H(π(·|s'))), (B,)."""
        state = batch.next_observation[:, self.sight.critics]
        value, entropy = self.actor.expect(following, state, self.targets)
        soft = value + self.temperature * entropy
        return batch.reward + self._config.gamma * (1 - batch.terminated) * soft

    @torch.no_grad()
    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_i mean (Q_i(s, a) − y)², and the mean Q; writes the critics' gradient."""
        judged = self.critics.judge(batch.observation[:, self.sight.critics], batch.action)
        values = self.critics.pick(judged.output, batch.action)
        error = values - target
        # ∂/∂Q_i mean (Q_i − y)² = 2 (Q_i − y) / B
        self.critics.backward(judged, error * (2 / len(target)), batch.action)
        return error.square().mean(dim=1).sum(), values.mean()

    @torch.no_grad()
    def actor_loss(self, batch: Batch, current: Decision) -> tuple[Tensor, Tensor]:
        """−mean (E_π[min_i Q_i(s, a)] + α H(π(·|s))), and the policy's mean entropy.

        Writes the actor's gradient.
        """
        alpha, state = self.temperature, batch.observation[:, self.sight.critics]
        value, entropy = self.actor.backward(current, state, self.critics, alpha)
        return -(value + alpha * entropy).mean(), entropy.mean()

    @torch.no_grad()
    def temperature_loss(self, entropy: Tensor) -> Tensor:
        """log α (H(π) − H̄): the temperature falls while the entropy is above its target.

        Writes the temperature's gradient.
        """
        surplus = entropy - self.target_entropy
        self._flat["temperature"].gradients.copy_(surplus)
        return self.log_temperature * surplus

    def state(self) -> dict[str, Tensor]:
        """Copies of all weights, moments and the state of the noise, by name."""
        tensors = {"log_temperature": self.log_temperature.detach().clone()}
        tensors["noise"] = self.noise.get_state()
        for part, module in self._modules().items():
            tensors |= {f"{part}.{name}": t.clone() for name, t in module.state_dict().items()}
        for part, optimizer in self._optimizers.items():
            tensors |= {f"adam.{part}.{name}": t for name, t in optimizer.state().items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        with torch.no_grad():
            self.log_temperature.copy_(tensors["log_temperature"])
        self.noise.set_state(tensors["noise"])
        for part, module in self._modules().items():
            module.load_state_dict(under(f"{part}.", tensors))
        for part, optimizer in self._optimizers.items():
            optimizer.restore(under(f"adam.{part}.", tensors))

    @torch.no_grad()
    def rescale(self, change: Rescaling) -> None:
        """See observations in another scale and act and judge as before.

        The first layers absorb the change: W x + b of the old observation is W' x' + b' of the
        new one. Their moments follow, but for what the shift of a weight's gradient would add.
        """
        for part, module in self._modules().items():
            rescale_inputs(module.first, change)
            if part in self._optimizers:
                # The weight of the first layer is the first parameter.
                rescale_moments(module.first, self._optimizers[part].moments()[0], change)

    def _update_targets(self) -> None:
        # Q̄ ← (1 − τ) Q̄ + τ Q
        self._flat["targets"].values.lerp_(self._flat["critics"].values, self._config.tau)

    def _modules(self) -> dict[str, Actor | Critics]:
        return {"actor": self.actor, "critics": self.critics, "targets": self.targets}
