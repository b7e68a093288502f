"""One update against Stable-Baselines3's formulas on the same weights, batch and noise."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.utils import polyak_update
from torch import Tensor
from torch.distributions import Normal
from torch.distributions.transforms import TanhTransform

from latentwrap.agents.batch import Batch
from latentwrap.agents.config import SACConfig
from latentwrap.agents.continuous import ContinuousActions
from latentwrap.agents.learner import Learner, Sight

OBSERVATIONS, ACTIONS, COUNT = 3, 1, 64


def make_learner(*, actions: int = ACTIONS, seed: int = 0, **options: object) -> Learner:
    kind = ContinuousActions(spaces.Box(-1, 1, (actions,)))
    config = SACConfig(hidden=(32, 32)).replace(**options)
    return Learner(kind, Sight.of_all(OBSERVATIONS), config, device=torch.device("cpu"), seed=seed)


def next_noise(learner: Learner) -> tuple[Tensor, Tensor]:
    """The noise of the learner's next decisions; it stays the next one."""
    twin = torch.Generator()
    twin.set_state(learner.noise.get_state())
    following, current = torch.randn(2 * COUNT, ACTIONS, generator=twin).chunk(2)
    return following, current


def make_batch() -> Batch:
    g = torch.Generator().manual_seed(5)
    return Batch.of(
        observation=torch.randn(COUNT, OBSERVATIONS, generator=g),
        action=2 * torch.rand(COUNT, ACTIONS, generator=g) - 1,
        reward=torch.randn(COUNT, generator=g),
        next_observation=torch.randn(COUNT, OBSERVATIONS, generator=g),
        terminated=(torch.rand(COUNT, generator=g) < 0.3).float(),
    )


@pytest.fixture
def peer() -> SB3SAC:
    options = {"policy_kwargs": {"net_arch": [32, 32]}, "device": "cpu", "seed": 1}
    return SB3SAC("MlpPolicy", gym.make("Pendulum-v1"), **options)


@torch.no_grad()
def copy_into_peer(learner: Learner, peer: SB3SAC) -> None:
    actor = peer.policy.actor
    ours = [learner.actor.net[i] for i in (0, 2)]
    for target, source in zip([actor.latent_pi[0], actor.latent_pi[2]], ours, strict=True):
        target.load_state_dict(source.state_dict())
    last = learner.actor.net[4]
    for head, rows in ((actor.mu, slice(0, 1)), (actor.log_std, slice(1, 2))):
        head.weight.copy_(last.weight[rows])
        head.bias.copy_(last.bias[rows])
    for critics, theirs in (
        (learner.critics, peer.policy.critic),
        (learner.targets, peer.policy.critic_target),
    ):
        for index, network in enumerate((theirs.qf0, theirs.qf1)):
            for layer, twin in zip([network[i] for i in (0, 2, 4)], critics.layers, strict=True):
                layer.weight.copy_(twin.weight[index].t())
                layer.bias.copy_(twin.bias[index, 0])


def peer_sample(peer: SB3SAC, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """SB3's action_log_prob with our noise instead of its own."""
    mean, log_std, _ = peer.actor.get_action_dist_params(observation)
    dist = peer.actor.action_dist.proba_distribution(mean, log_std)
    raw = mean + log_std.exp() * noise
    action = raw.tanh()
    return action, dist.log_prob(action, raw)


def test_losses_are_those_of_stable_baselines3(peer: SB3SAC) -> None:
    learner, batch = make_learner(initial_temperature=0.7), make_batch()
    copy_into_peer(learner, peer)
    next_step, this_step = next_noise(learner)
    following, current = learner.decide(batch, learner.draw_noise(batch))
    with torch.no_grad():
        action, log_prob = peer_sample(peer, batch.next_observation, next_step)
        values = torch.cat(peer.critic_target(batch.next_observation, action), 1)
        soft = values.min(1).values - 0.7 * log_prob
        target = batch.reward + (1 - batch.terminated) * 0.99 * soft
    ours = learner.critic_target(batch, following)
    torch.testing.assert_close(ours, target, rtol=1e-4, atol=1e-4)

    q = peer.critic(batch.observation, batch.action)
    # SB3 halves the sum of the two errors.
    expected = sum(torch.nn.functional.mse_loss(values, target[:, None]) for values in q)
    torch.testing.assert_close(learner.critic_loss(batch, ours)[0], expected, rtol=1e-4, atol=1e-5)

    action, log_prob = peer_sample(peer, batch.observation, this_step)
    values = torch.cat(peer.critic(batch.observation, action), 1).min(1).values
    loss, entropy = learner.actor_loss(batch, current)
    torch.testing.assert_close(loss, (0.7 * log_prob - values).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(entropy, -log_prob.mean(), rtol=1e-4, atol=1e-5)

    expected = -(math.log(0.7) * (log_prob + learner.target_entropy).detach()).mean()
    torch.testing.assert_close(learner.temperature_loss(entropy), expected, rtol=1e-4, atol=1e-5)


def test_targets_move_by_tau(peer: SB3SAC) -> None:
    learner = make_learner(tau=0.25)
    theirs = make_learner()
    start = [p.clone() for p in learner.targets.parameters()]
    learner.update(make_batch())
    for target, parameter in zip(theirs.targets.parameters(), start, strict=True):
        target.data.copy_(parameter)
    polyak_update(learner.critics.parameters(), theirs.targets.parameters(), 0.25)
    for ours, expected in zip(
        learner.targets.parameters(), theirs.targets.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_an_update_moves_everything_and_leaves_critics_trainable() -> None:
    learner = make_learner()
    before = {name: tensor.clone() for name, tensor in learner.state().items()}
    metrics = learner.update(make_batch())
    after = learner.state()
    for name in ("actor.net.0.weight", "critics.layers.0.weight", "targets.layers.0.weight"):
        assert not torch.equal(before[name], after[name])
    assert before["log_temperature"] != after["log_temperature"]
    assert all(p.requires_grad for p in learner.critics.parameters())
    assert not any(p.requires_grad for p in learner.targets.parameters())
    assert all(torch.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("hidden", [(), (16,), (32, 24, 16)])
@pytest.mark.parametrize("bounds", [(-20.0, 2.0), (-0.2, 0.1)])  # the latter clamps most
@pytest.mark.parametrize("actions", [1, 3])
def test_gradients_are_those_of_autograd(
    hidden: tuple[int, ...], bounds: tuple[float, float], actions: int
) -> None:
    low, high = bounds
    learner = make_learner(
        actions=actions, hidden=hidden, log_std_min=low, log_std_max=high, initial_temperature=0.7
    )
    batch = Batch.of(**make_batch().columns() | {"action": torch.rand(COUNT, actions) * 2 - 1})
    noise = learner.draw_noise(batch)
    _, current = learner.decide(batch, noise)
    target = torch.randn(COUNT)

    found = learner.critic_loss(batch, target)[0]
    critics = list(learner.critics.parameters())
    values = learner.critics(batch.observation, batch.action)
    loss = (values - target).square().mean(dim=1).sum()
    torch.testing.assert_close(found, loss)
    compare_gradients(loss, critics)

    found, entropy = learner.actor_loss(batch, current)
    mean, log_std = learner.actor(batch.observation)
    normal = Normal(mean, log_std.exp())
    raw = mean + log_std.exp() * noise[COUNT:]
    squash = TanhTransform()
    action = squash(raw)
    log_prob = (normal.log_prob(raw) - squash.log_abs_det_jacobian(raw, action)).sum(dim=1)
    loss = (0.7 * log_prob - learner.critics(batch.observation, action).amin(dim=0)).mean()
    torch.testing.assert_close(found, loss)
    compare_gradients(loss, list(learner.actor.parameters()))

    before = [p.grad.clone() for p in critics]
    learner.actor_loss(batch, current)
    for gradient, parameter in zip(before, critics, strict=True):
        assert torch.equal(parameter.grad, gradient), "the actor's gradient reached the critics"
    learner.temperature_loss(entropy)
    torch.testing.assert_close(learner.log_temperature.grad, entropy - learner.target_entropy)


def compare_gradients(loss: Tensor, parameters: list[Tensor]) -> None:
    expected = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_steps_are_those_of_torchs_adam() -> None:
    learner, batch = make_learner(learning_rate=0.01), make_batch()
    copies = [p.detach().clone().requires_grad_() for p in learner.critics.parameters()]
    peer = torch.optim.Adam(copies, lr=0.01)
    for _ in range(5):
        learner.update(batch)  # which leaves the gradient of its step
        for copied, parameter in zip(copies, learner.critics.parameters(), strict=True):
            copied.grad = parameter.grad.clone()
        peer.step()
        for copied, parameter in zip(copies, learner.critics.parameters(), strict=True):
            torch.testing.assert_close(parameter, copied)


@pytest.mark.parametrize(("target", "sign"), [(5.0, 1), (-5.0, -1)])
def test_the_temperature_moves_entropy_towards_its_target(target: float, sign: int) -> None:
    learner = make_learner(target_entropy=target)
    before = learner.log_temperature.item()
    learner.update(make_batch())
    assert np.sign(learner.log_temperature.item() - before) == sign


def test_the_target_entropy_is_minus_the_number_of_actions() -> None:
    assert make_learner(actions=4).target_entropy == -4.0


def test_a_state_is_a_copy() -> None:
    learner = make_learner()
    learner.update(make_batch())
    state = learner.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    learner.update(make_batch())
    for name, tensor in before.items():
        assert torch.equal(state[name], tensor), name


def test_a_restored_learner_goes_on_bit_for_bit() -> None:
    whole, half, batch = make_learner(), make_learner(), make_batch()
    for _ in range(6):
        whole.update(batch)
    for _ in range(3):
        half.update(batch)
    resumed = make_learner(seed=7)
    resumed.restore(half.state())
    for _ in range(3):
        resumed.update(batch)
    for name, tensor in whole.state().items():
        torch.testing.assert_close(resumed.state()[name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301
def test_a_copy_learns_as_the_original_does(how: Callable[[Learner], Learner]) -> None:
    learner, batch = make_learner(), make_batch()
    learner.update(batch)
    copied = how(learner)
    before = {name: tensor.clone() for name, tensor in learner.state().items()}
    for _ in range(3):
        copied.update(batch)
    for name, tensor in before.items():
        assert torch.equal(learner.state()[name], tensor), f"{name} of the original moved"
    for _ in range(3):
        learner.update(batch)
    for name, tensor in learner.state().items():
        assert torch.equal(copied.state()[name], tensor), name
