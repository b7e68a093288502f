"""Soft actor-critic of discrete actions against torch.distributions, sums by hand, a known MDP."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical

from latentwrap.agents.batch import Batch
from latentwrap.agents.config import SACConfig
from latentwrap.agents.discrete import AllActionCritics, CategoricalActor, DiscreteActions
from latentwrap.agents.flat import FlatParameters
from latentwrap.agents.learner import Learner, Sight
from latentwrap.agents.networks import initialize
from latentwrap.errors import EnvironmentMismatch

STATES, ACTIONS, COUNT = 5, 3, 64


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_actor(seed: int = 0) -> CategoricalActor:
    actor = CategoricalActor(STATES, ACTIONS, (16, 16))
    initialize(actor, generator(seed))
    return actor


def make_learner(
    count: int = ACTIONS, *, states: int = STATES, seed: int = 0, **options: object
) -> Learner:
    kind = DiscreteActions(spaces.Discrete(count))
    config = SACConfig(hidden=(32, 32)).replace(**options)
    return Learner(kind, Sight.of_all(states), config, device=torch.device("cpu"), seed=seed)


def make_batch() -> Batch:
    g = generator(5)
    return Batch.of(
        observation=torch.randn(COUNT, STATES, generator=g),
        action=torch.randint(ACTIONS, (COUNT, 1), generator=g).float(),
        reward=torch.randn(COUNT, generator=g),
        next_observation=torch.randn(COUNT, STATES, generator=g),
        terminated=(torch.rand(COUNT, generator=g) < 0.3).float(),
    )


class Fixed(AllActionCritics):
    """Critics with the same values in every state."""

    def __init__(self, values: list[list[float]]) -> None:
        super().__init__(STATES, len(values[0]), ())
        self.values = torch.tensor(values)

    def all_values(self, observation: Tensor) -> Tensor:
        return self.values[:, None].expand(2, len(observation), -1)


def test_an_expectation_by_hand() -> None:
    actor = CategoricalActor(STATES, 2, ())
    nn.init.zeros_(actor.net[0].weight)
    actor.net[0].bias.data = torch.tensor([0.0, math.log(3)])  # π = 1/4, 3/4
    seen, state = torch.randn(4, STATES), torch.randn(4, 2)
    value, entropy = actor.expect(actor.decide(seen, None), state, Fixed([[1.0, 3.0], [4.0, 2.0]]))
    # The smaller of both critics, action by action: 1 and 2.
    torch.testing.assert_close(value, torch.full((4,), 0.25 * 1 + 0.75 * 2))
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(entropy, torch.full((4,), expected))


@given(st.integers(0, 2**31))
def test_probabilities_and_entropy_are_those_of_a_categorical(seed: int) -> None:
    actor, observation = make_actor(seed), torch.randn(6, STATES, generator=generator(seed))
    peer = Categorical(logits=actor.net(observation))
    torch.testing.assert_close(actor(observation).exp(), peer.probs)
    critics = AllActionCritics(STATES, ACTIONS, (8,))
    initialize(critics, generator(seed))
    value, entropy = actor.expect(actor.decide(observation, None), observation, critics)
    torch.testing.assert_close(entropy, peer.entropy())
    smaller = critics.all_values(observation).min(0).values
    torch.testing.assert_close(value, (peer.probs * smaller).sum(1))


def test_a_certain_policy_has_no_entropy_and_finite_gradients() -> None:
    actor = make_actor()
    actor.net[-1].bias.data = torch.tensor([1e4, 0.0, -1e4])
    FlatParameters(list(actor.parameters()))
    with torch.no_grad():
        decision, state = actor.decide(torch.zeros(2, STATES), None), torch.zeros(2, STATES)
        value, entropy = actor.backward(
            decision, state, Fixed([[1.0, 2, 3]] * 2), torch.tensor(0.5)
        )
    torch.testing.assert_close(entropy, torch.zeros(2))
    torch.testing.assert_close(value, torch.ones(2))
    assert all(torch.isfinite(p.grad).all() for p in actor.parameters())


def test_draws_follow_the_policy_and_the_best_is_the_most_probable() -> None:
    actor, observation = make_actor(3), torch.randn(4, STATES, generator=generator(1))
    count = 20_000
    drawn = actor.draw(observation.repeat_interleave(count, 0), generator(2)).reshape(4, count)
    probs = Categorical(logits=actor.net(observation)).probs
    for row, expected in zip(drawn, probs, strict=True):
        shares = row.bincount(minlength=ACTIONS) / count
        assert ((shares - expected).abs() < 5 * (expected * (1 - expected) / count).sqrt()).all()
    assert actor.best(observation)[:, 0].tolist() == probs.argmax(1).tolist()


def test_the_value_of_an_action_is_its_column_among_all() -> None:
    critics = AllActionCritics(STATES, ACTIONS, (16, 8))
    initialize(critics, generator(0))
    observation, action = torch.randn(6, STATES), torch.tensor([[0.0], [2], [1], [1], [0], [2]])
    for index, values in enumerate(critics(observation, action)):
        x = observation
        for number, layer in enumerate(critics.layers):
            x = nn.functional.linear(x, layer.weight[index].t(), layer.bias[index, 0])
            x = x if number == 2 else x.relu()
        torch.testing.assert_close(values, x[torch.arange(6), action[:, 0].long()])


def compare_gradients(loss: Tensor, network: nn.Module) -> None:
    """Of autograd, with those that the learner wrote."""
    parameters = list(network.parameters())
    for ours, theirs in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(ours.grad, theirs)


def test_losses_are_those_of_the_paper() -> None:
    learner, batch = make_learner(initial_temperature=0.7), make_batch()
    with torch.no_grad():
        policy = Categorical(logits=learner.actor.net(batch.next_observation))
        smaller = learner.targets.all_values(batch.next_observation).min(0).values
        soft = (policy.probs * (smaller - 0.7 * policy.probs.log())).sum(1)
        target = batch.reward + 0.99 * (1 - batch.terminated) * soft
    following, current = learner.decide(batch, learner.draw_noise(batch))
    found = learner.critic_target(batch, following)
    torch.testing.assert_close(found, target, rtol=1e-4, atol=1e-4)

    chosen = batch.action.long().expand(2, -1, -1)
    values = learner.critics.all_values(batch.observation).gather(2, chosen)[..., 0]
    expected = (values - target).square().mean(1).sum()
    torch.testing.assert_close(learner.critic_loss(batch, target)[0], expected)
    compare_gradients(expected, learner.critics)

    policy = Categorical(logits=learner.actor.net(batch.observation))
    smaller = learner.critics.all_values(batch.observation).min(0).values
    expected = (policy.probs * (0.7 * policy.probs.log() - smaller)).sum(1).mean()
    loss, entropy = learner.actor_loss(batch, current)
    torch.testing.assert_close(loss, expected)
    compare_gradients(expected, learner.actor)
    torch.testing.assert_close(entropy, policy.entropy().mean())

    surplus = policy.probs * (policy.probs.log() + learner.target_entropy)
    expected = -(math.log(0.7) * surplus.sum(1)).mean()
    torch.testing.assert_close(learner.temperature_loss(entropy), expected)


def test_the_actors_gradient_is_the_closed_form() -> None:
    learner, batch = make_learner(initial_temperature=0.7, hidden=()), make_batch()
    learner.actor_loss(batch, learner.decide(batch, learner.draw_noise(batch)).current)
    with torch.no_grad():
        probs = learner.actor(batch.observation).exp()
        smaller = learner.critics.all_values(batch.observation).min(0).values
        # With c = α log π − Q and J = Σ_a π_a c_a: ∂J/∂f_a = π_a (c_a − J).
        cost = 0.7 * probs.log() - smaller
        expected = probs * (cost - (probs * cost).sum(1, keepdim=True))
    torch.testing.assert_close(learner.actor.net[0].bias.grad, expected.mean(0))


def test_the_target_entropy_is_a_share_of_the_largest_or_a_number() -> None:
    assert make_learner(4, entropy_share=0.98).target_entropy == pytest.approx(0.98 * math.log(4))
    assert make_learner(4, target_entropy=0.1).target_entropy == 0.1
    largest = Categorical(logits=torch.zeros(4)).entropy().item()
    assert 0 < make_learner(4).target_entropy < largest


# Three states in a row; action 0 leads on (around at the end), action 1 stays and pays.
NEXT = np.array([[1, 0], [2, 1], [0, 2]])
REWARD = np.array([[0.0, 0.2], [0.1, 0.4], [1.0, 0.3]])
GAMMA, TEMPERATURE = 0.8, 0.3


def soft_optimum() -> tuple[np.ndarray, np.ndarray]:
    """Q* and π* of the MDP by soft value iteration."""
    q = np.zeros((3, 2))
    for _ in range(500):
        # V*(s) = α log Σ_a exp(Q*(s, a) / α)
        value = TEMPERATURE * np.log(np.exp(q / TEMPERATURE).sum(1))
        q = REWARD + GAMMA * value[NEXT]
    weights = np.exp(q / TEMPERATURE)
    return q, weights / weights.sum(1, keepdims=True)


def test_it_finds_values_policy_and_temperature_of_a_known_optimum() -> None:
    q, policy = soft_optimum()
    entropy = float(-(policy * np.log(policy)).sum(1).mean())
    # One-hot states and no hidden layer: a table. The entropy of the optimum as target makes
    # its temperature the only one at rest.
    learner = make_learner(
        2, states=3, hidden=(), learning_rate=0.02, tau=0.1, gamma=GAMMA, target_entropy=entropy
    )
    state, action = (np.ravel(index) for index in np.mgrid[:3, :2])
    one_hot = torch.eye(3)
    batch = Batch.of(
        observation=one_hot[state],
        action=torch.tensor(action)[:, None].float(),
        reward=torch.tensor(REWARD[state, action]).float(),
        next_observation=one_hot[NEXT[state, action]],
        terminated=torch.zeros(6),
    )
    for rate, updates in ((0.02, 500), (0.005, 300), (0.001, 100)):  # Adam calms down
        for optimizer in learner._optimizers.values():
            optimizer.learning_rate = rate
        for _ in range(updates):
            learner.update(batch)
    with torch.no_grad():
        values = learner.critics.all_values(one_hot)
        probs = learner.actor(one_hot).exp()
    for found in values:
        np.testing.assert_allclose(found.numpy(), q, atol=0.05)
    np.testing.assert_allclose(probs.numpy(), policy, atol=0.02)
    assert learner.temperature.item() == pytest.approx(TEMPERATURE, rel=0.05)


@given(st.integers(1, 9), st.integers(-5, 5), st.data())
def test_rows_and_actions_are_inverse(count: int, start: int, data: st.DataObject) -> None:
    space = spaces.Discrete(count, start=start)
    kind = DiscreteActions(space)
    actions = data.draw(st.lists(st.integers(start, start + count - 1), min_size=1, max_size=5))
    rows = np.stack([kind.to_row(action) for action in actions])
    assert rows.min() >= 0
    assert rows.max() < count
    back = kind.to_actions(rows)
    assert back.tolist() == actions
    assert all(space.contains(action) for action in back)


@pytest.mark.parametrize("action", [0, 4, [1, 2]])
def test_an_action_outside_of_the_space_is_refused(action: object) -> None:
    kind = DiscreteActions(spaces.Discrete(3, start=1))
    with pytest.raises(EnvironmentMismatch, match="got the action"):
        kind.to_row(action)


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
