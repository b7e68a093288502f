"""The agent half of benchmarks/slac_parity.py: one update of actor, critics and temperature.

Both get the same weights, the same 256 windows of 9 frames, each the beginning of an episode, and
the same noise. slac.pytorch's losses are those that its own updates report; its critic target is
computed with its networks. Learning rates are zero, so that no update changes what the next sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from latentwrap.actions import ActionSpec
from latentwrap.agents.batch import Batch
from latentwrap.agents.kinds import kind_of
from latentwrap.agents.learner import Learner
from latentwrap.agents.networks import Decision
from latentwrap.joint.beliefs import ReplayFilter
from latentwrap.joint.config import JointConfig
from latentwrap.joint.sequences import SequenceReplay, SequenceSpec
from latentwrap.joint.updates import JointUpdates
from latentwrap.joint.view import AgentView
from latentwrap.models import SLACConfig, SLACModel
from latentwrap.pixels import FrameSpec
from latentwrap.seeding import torch_generator
from latentwrap.training.recipes import TrainingConfig
from latentwrap.training.updater import ModelUpdater

BATCH, ACTIONS, SIZE, ACTION_SIZE = 256, 8, 64, 2
LOG_TEMPERATURE = 0.3
_LATENT = {
    "networks.encoder": "encoder",
    "z1_posterior_first": "z1_posterior_init",
    "z1_posterior": "z1_posterior",
    "z1_prior": "z1_prior",
    "z2_prior_first": "z2_prior_init",
    "z2_prior": "z2_prior",
}
"""Ours → theirs, as far as the agent needs them."""


class SameNoise(ReplayFilter):
    """Draws what slac.pytorch draws after a seed: z1, then z2, frame by frame."""

    def __init__(self, *arguments: Any, sizes: tuple[int, int], seed: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._draws = self._stream(sizes, torch_generator(seed))

    def noise(self, count: int) -> Tensor | None:
        """The next frame's."""
        assert count == BATCH
        return next(self._draws)

    @staticmethod
    def _stream(sizes: tuple[int, int], generator: torch.Generator) -> Iterator[Tensor]:
        while True:
            yield torch.cat([torch.randn(BATCH, n, generator=generator) for n in sizes], dim=-1)


class Scalars:
    """Takes the place of a TensorBoard writer."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add_scalar(self, name: str, value: float, _step: int) -> None:
        """Remember it."""
        self.values[name] = value


def compare_agents() -> dict[str, float]:
    """Relative differences by name; slac.pytorch must be importable."""
    from slac.algo import SlacAlgorithm

    generator = torch_generator(3)
    peer = SlacAlgorithm((3, SIZE, SIZE), (ACTION_SIZE,), 4, torch.device("cpu"), seed=0)
    with torch.no_grad():
        peer.log_alpha.fill_(LOG_TEMPERATURE)
        peer.alpha = peer.log_alpha.exp()
    frames = torch.randint(
        0, 256, (BATCH, ACTIONS + 1, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator
    )
    actions = torch.rand(BATCH, ACTIONS, ACTION_SIZE, generator=generator) * 2 - 1
    rewards = torch.randn(BATCH, ACTIONS, generator=generator)
    ends = torch.rand(BATCH, generator=generator) < 0.2
    theirs = _their_terms(peer, frames, actions, rewards[:, -1:], ends.float()[:, None])
    ours = _our_terms(peer, frames, actions, rewards, ends)
    return {name: _relative(ours[name], theirs[name]) for name in theirs}


def _their_terms(
    peer: Any, frames: Tensor, actions: Tensor, reward: Tensor, done: Tensor
) -> dict[str, Tensor]:
    states = frames.permute(0, 1, 4, 2, 3).float().div(255).contiguous()
    torch.manual_seed(1)
    z, next_z, action, history, next_history = peer.prepare_batch(states, actions)
    for optimizer in (peer.optim_actor, peer.optim_critic, peer.optim_alpha):
        optimizer.param_groups[0]["lr"] = 0.0
    peer.learning_steps_sac = 1000  # it reports every thousandth
    told = Scalars()
    with torch.no_grad():
        torch.manual_seed(2)
        next_action, log_prob = peer.actor.sample(next_history)
        values = torch.min(*peer.critic_target(next_z, next_action))
        target = reward + (1 - done) * peer.gamma * (values - peer.alpha * log_prob)
    torch.manual_seed(2)
    peer.update_critic(z, next_z, action, next_history, reward, done, told)
    torch.manual_seed(4)
    peer.update_actor(z, history, told)
    reported = {name: torch.tensor(value) for name, value in told.values.items()}
    return {
        "critic target": target[:, 0],
        "critic loss": reported["loss/critic"],
        "actor loss": reported["loss/actor"],
        "temperature loss": reported["loss/alpha"],
        "entropy": reported["stats/entropy"],
    }


@torch.no_grad()
def _our_terms(
    peer: Any, frames: Tensor, actions: Tensor, rewards: Tensor, ends: Tensor
) -> dict[str, Tensor]:
    learner, batch = _ours(peer, frames, actions, rewards, ends)
    target = learner.critic_target(batch, _decided(learner, batch.next_observation, seed=2))
    critic_loss, _ = learner.critic_loss(batch, target)
    current = _decided(learner, batch.observation, seed=4)
    actor_loss, entropy = learner.actor_loss(batch, current)
    return {
        "critic target": target,
        "critic loss": critic_loss,
        "actor loss": actor_loss,
        "temperature loss": learner.temperature_loss(entropy),
        "entropy": entropy,
    }


def _decided(learner: Learner, observation: Tensor, *, seed: int) -> Decision:
    noise = learner.actor.noise(len(observation), torch_generator(seed))
    return learner.actor.decide(observation[:, learner.sight.actor], noise)


def _ours(
    peer: Any, frames: Tensor, actions: Tensor, rewards: Tensor, ends: Tensor
) -> tuple[Learner, Batch]:
    spec = ActionSpec(spaces.Box(-1, 1, (ACTION_SIZE,)))
    model = SLACModel(SLACConfig(), FrameSpec(height=SIZE, width=SIZE), spec)
    for mine, name in _LATENT.items():
        _copy(getattr(peer.latent, name), model.get_submodule(mine))
    config = JointConfig(actor_input="history", fresh=True)
    replay = _filled_replay(spec, frames, actions, rewards, ends)
    sizes = model.config.z1, model.config.z2
    noise = torch_generator(0)
    replayed = SameNoise(model, replay, sample=True, noise=noise, sizes=sizes, seed=1)
    view = AgentView(model, config)
    learner = Learner(
        kind_of(spec.space),  # type: ignore[arg-type] # a Box
        view.sight,
        config,
        device=torch.device("cpu"),
        seed=0,
    )
    _copy(peer.actor, learner.actor)
    _copy_critics(peer.critic, learner.critics)
    _copy_critics(peer.critic_target, learner.targets)
    learner.log_temperature.fill_(LOG_TEMPERATURE)
    training = TrainingConfig()
    updater = ModelUpdater(model, training, seed=0)
    updates = JointUpdates(updater, replay, replayed, view, learner, config)
    ends_of = np.array([each.rows[-1] for each in replay.episodes()])
    return learner, updates.batch(ends_of)


def _filled_replay(
    spec: ActionSpec, frames: Tensor, actions: Tensor, rewards: Tensor, ends: Tensor
) -> SequenceReplay:
    kept = SequenceSpec(FrameSpec(height=SIZE, width=SIZE), spec)
    replay = SequenceReplay(BATCH * ACTIONS, kept, lanes=BATCH, seed=0)
    nothing = np.zeros(0, np.float32)
    for lane in range(BATCH):
        replay.begin(lane, frames[lane, 0].numpy(), nothing)
        for t in range(ACTIONS):
            last = t == ACTIONS - 1
            replay.step(
                lane,
                actions[lane, t].numpy(),
                float(rewards[lane, t]),
                frames[lane, t + 1].numpy(),
                nothing,
                terminated=bool(ends[lane]) and last,
                ended=last,
            )
    return replay


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module) -> None:
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        mine.copy_(theirs)


@torch.no_grad()
def _copy_critics(source: Any, target: Any) -> None:
    for number, net in enumerate((source.net1, source.net2)):
        parameters = list(net.parameters())
        for layer, weight, bias in zip(
            target.layers, parameters[::2], parameters[1::2], strict=True
        ):
            layer.weight[number] = weight.T
            layer.bias[number, 0] = bias


def _relative(mine: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest magnitude."""
    return float((mine - theirs).abs().max() / theirs.abs().max())
