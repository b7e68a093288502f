"""An agent that sees in another scale acts and judges as before; actor and critics see apart."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from latentwrap.agents.batch import Batch
from latentwrap.agents.config import SACConfig
from latentwrap.agents.kinds import kind_of
from latentwrap.agents.learner import Learner, Sight
from latentwrap.agents.rescaling import Rescaling
from latentwrap.graphs import Record, Results
from latentwrap.normalizer import STD_FLOOR, LatentNormalizer

BOX, DISCRETE = spaces.Box(-1, 1, (2,)), spaces.Discrete(4)
LATENT, MORE = 5, 3
SIZE = LATENT + MORE
COUNT = 64
SPACES = pytest.mark.parametrize("space", [BOX, DISCRETE])


def make_learner(
    space: Any, sight: Sight | None = None, record: Record | None = None, **options: Any
) -> Learner:
    config = SACConfig(hidden=(16, 16)).replace(**options)
    given = {"device": torch.device("cpu"), "seed": 0, "record": record}
    return Learner(kind_of(space), sight or Sight.of_all(SIZE), config, **given)


def make_batch(space: Any, size: int = SIZE, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    if isinstance(space, spaces.Box):
        action = 2 * torch.rand(COUNT, 2, generator=g) - 1
    else:
        action = torch.randint(4, (COUNT, 1), generator=g).float()
    return Batch.of(
        observation=torch.randn(COUNT, size, generator=g),
        action=action,
        reward=torch.randn(COUNT, generator=g),
        next_observation=torch.randn(COUNT, size, generator=g),
        terminated=(torch.rand(COUNT, generator=g) < 0.3).float(),
    )


def replaced(batch: Batch, **columns: Tensor) -> Batch:
    return Batch.of(**batch.columns() | columns)


def widened(learner: Learner) -> dict[str, nn.Module]:
    """Copies that compute in float64, where rounding hides nothing."""
    parts = {"actor": learner.actor, "critics": learner.critics, "targets": learner.targets}
    return {name: copy.deepcopy(part).double() for name, part in parts.items()}


def judged(modules: dict[str, nn.Module], seen: Tensor, action: Tensor) -> list[Tensor]:
    with torch.no_grad():
        outputs = modules["actor"](seen)
        found = list(outputs) if isinstance(outputs, tuple) else [outputs]
        return [*found, *(modules[part](seen, action) for part in ("critics", "targets"))]


def statistics(rng: np.random.Generator, *, tiny: bool) -> LatentNormalizer:
    """Of a model as it learns; some dimensions hardly vary."""
    std = rng.uniform(0.05, 3, LATENT)
    if tiny:
        std[:2] = rng.choice([0, 1e-6, 0.004, 0.0099], 2)
    mean = rng.normal(size=LATENT)
    return LatentNormalizer(mean.astype(np.float32), std.astype(np.float32))


def standardized(raw: np.ndarray, scale: LatentNormalizer, more: np.ndarray) -> Tensor:
    """Observations in float64, without clipping."""
    std = np.maximum(scale.std, np.float32(STD_FLOOR)).astype(np.float64)
    return torch.from_numpy(np.concatenate([(raw - scale.mean) / std, more], axis=1))


@SPACES
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), tiny=st.booleans(), learned=st.booleans())
def test_outputs_are_those_before(space: Any, seed: int, tiny: bool, learned: bool) -> None:
    rng = np.random.default_rng(seed)
    old, new = statistics(rng, tiny=tiny), statistics(rng, tiny=tiny)
    learner, batch = make_learner(space, learning_rate=0.01), make_batch(space)
    if learned:
        learner.update(batch)
    raw = new.mean + rng.normal(size=(COUNT, LATENT)) * np.maximum(new.std, STD_FLOOR)
    more = rng.normal(size=(COUNT, MORE))
    before = standardized(raw, old, more)
    expected = judged(widened(learner), before, batch.action.double())
    learner.rescale(Rescaling.between(old, new))
    after = standardized(raw, new, more)
    found = judged(widened(learner), after, batch.action.double())
    # Weights are rounded to float32, and the old scale may be a hundredth of the new one.
    size = max(1.0, float(before.abs().max()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6 * size)


@SPACES
def test_there_and_back_is_nothing(space: Any) -> None:
    rng = np.random.default_rng(0)
    old, new = statistics(rng, tiny=True), statistics(rng, tiny=False)
    learner = make_learner(space)
    learner.update(make_batch(space))
    before = learner.state()
    learner.rescale(Rescaling.between(old, new))
    changed = {name for name, value in learner.state().items() if not value.equal(before[name])}
    first = {"actor.net.0", "critics.layers.0", "targets.layers.0"}
    names = {name.rpartition(".")[0] for name in changed if not name.startswith("adam")}
    assert names == first
    learner.rescale(Rescaling.between(new, old))
    for name, value in learner.state().items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-5, msg=name)


def by_input(name: str, tensor: Tensor) -> Tensor:
    """Inputs last: the critics' weights have them in the middle."""
    return tensor if tensor.ndim == 2 else tensor.transpose(1, 2)


@SPACES
def test_other_columns_and_layers_stay_bit_for_bit(space: Any) -> None:
    rng = np.random.default_rng(1)
    learner = make_learner(space)
    learner.update(make_batch(space))
    before = learner.state()
    learner.rescale(Rescaling.between(statistics(rng, tiny=False), statistics(rng, tiny=False)))
    after = learner.state()
    for part in ("actor.net.0", "critics.layers.0", "targets.layers.0"):
        ours, theirs = (by_input(part, state[f"{part}.weight"]) for state in (after, before))
        assert torch.equal(ours[..., LATENT:], theirs[..., LATENT:])
        assert not torch.isclose(ours[..., :LATENT], theirs[..., :LATENT]).all()
    assert torch.equal(after["noise"], before["noise"])
    assert torch.equal(after["log_temperature"], before["log_temperature"])


@SPACES
def test_moments_follow_the_gradient(space: Any) -> None:
    """The gradient by a rescaled weight is 1 / factor as large where nothing was shifted."""
    rng = np.random.default_rng(2)
    old = statistics(rng, tiny=True)
    new = LatentNormalizer(old.mean, statistics(rng, tiny=False).std)
    factor = torch.from_numpy(np.maximum(new.std, 0.01) / np.maximum(old.std, np.float32(0.01)))
    # Weights that moved would give the actor other gradients.
    still = {"learning_rate": 1e-12}
    learner, twin = make_learner(space, **still), make_learner(space, **still)
    twin.rescale(Rescaling.between(old, new))
    batch = make_batch(space)
    scaled = torch.cat([1 / factor, torch.ones(MORE)])
    learner.update(batch)
    observations = batch.observation * scaled, batch.next_observation * scaled
    twin.update(replaced(batch, observation=observations[0], next_observation=observations[1]))
    learner.rescale(Rescaling.between(old, new))
    ours, theirs = learner.state(), twin.state()
    for part in ("actor", "critics"):
        for name in ("exp_avg", "exp_avg_sq"):
            key = f"adam.{part}.0.{name}"
            scale = float(theirs[key].abs().max())
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-3, atol=1e-5 * scale)
            untouched = f"adam.{part}.0.step"
            assert ours[untouched] == theirs[untouched] == 1


@SPACES
def test_before_the_first_update_there_are_no_moments(space: Any) -> None:
    learner = make_learner(space)
    same = LatentNormalizer.identity(LATENT)
    before = learner.state()
    learner.rescale(Rescaling.between(same, same))
    for name, value in learner.state().items():
        assert torch.equal(value, before[name])


def test_a_rescaling_is_that_of_the_standardisation() -> None:
    rng = np.random.default_rng(4)
    old, new = statistics(rng, tiny=True), statistics(rng, tiny=True)
    change = Rescaling.between(old, new)
    raw = new.mean + 3 * rng.normal(size=(50, LATENT)) * new.std
    nothing = np.zeros((50, 0))
    before, after = standardized(raw, old, nothing), standardized(raw, new, nothing)
    assert change.factor.dtype == change.shift.dtype == torch.float32
    torch.testing.assert_close(
        change.factor.double() * after + change.shift.double(), before, rtol=1e-5, atol=1e-4
    )


# Actor and critics that see different columns.

APART = Sight(actor=slice(3, 8), critics=slice(0, 4))


def parted(space: Any, **options: Any) -> Learner:
    return make_learner(space, APART, **options)


def q_by_hand(critics: Any, state: Tensor, action: Tensor | None) -> Tensor:
    """(2, B) for actions, (2, B, n) for all choices."""
    values = []
    for twin in (0, 1):
        x = state if action is None else torch.cat([state, action], dim=1)
        for place, layer in enumerate(critics.layers):
            x = x @ layer.weight[twin] + layer.bias[twin]
            x = x.relu() if place < len(critics.layers) - 1 else x
        values.append(x if action is None else x[:, 0])
    return torch.stack(values)


class ByHand:
    """Value and entropy of a policy, from the formulas."""

    def __init__(self, learner: Learner, space: Any) -> None:
        self.learner, self.space = learner, space
        twin = torch.Generator()
        twin.set_state(learner.noise.get_state())
        self.noise = iter(torch.randn(2 * COUNT, 2, generator=twin).chunk(2))

    def expect(self, observation: Tensor, critics: Any) -> tuple[Tensor, Tensor]:
        seen, state = observation[:, 3:8], observation[:, :4]
        outputs = self.learner.actor.net(seen)
        if isinstance(self.space, spaces.Discrete):
            policy = Categorical(logits=outputs)
            values = q_by_hand(critics, state, None).amin(0)
            return (policy.probs * values).sum(1), policy.entropy()
        noise = next(self.noise)
        mean, log_std = outputs.chunk(2, dim=1)
        policy = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
        action = (mean + log_std.exp() * noise).tanh()
        entropy = -policy.log_prob(action).sum(1)
        return q_by_hand(critics, state, action).amin(0), entropy


@SPACES
def test_losses_are_those_of_the_two_parts_by_hand(space: Any) -> None:
    learner = parted(space, initial_temperature=0.3)
    batch = make_batch(space)
    learner.update(batch)  # so that targets are not the critics
    by_hand, alpha = ByHand(learner, space), learner.temperature
    with torch.no_grad():
        value, entropy = by_hand.expect(batch.next_observation, learner.targets)
        target = batch.reward + 0.99 * (1 - batch.terminated) * (value + alpha * entropy)
    following, current = learner.decide(batch, learner.draw_noise(batch))
    found = learner.critic_target(batch, following)
    torch.testing.assert_close(found, target, rtol=1e-4, atol=1e-5)

    state = batch.observation[:, :4]
    if isinstance(space, spaces.Discrete):
        chosen = batch.action.long()[:, 0]
        q = q_by_hand(learner.critics, state, None)[:, torch.arange(COUNT), chosen]
    else:
        q = q_by_hand(learner.critics, state, batch.action)
    expected = sum((values - target).square().mean() for values in q)
    loss, mean = learner.critic_loss(batch, target)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean, q.mean(), rtol=1e-4, atol=1e-5)

    value, entropy = by_hand.expect(batch.observation, learner.critics)
    loss, mean = learner.actor_loss(batch, current)
    torch.testing.assert_close(loss, -(value + alpha * entropy).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean, entropy.mean(), rtol=1e-4, atol=1e-5)

    expected = learner.log_temperature.detach() * (mean - learner.target_entropy)
    torch.testing.assert_close(learner.temperature_loss(mean).detach(), expected)


@SPACES
def test_columns_that_a_part_does_not_see_do_not_matter_to_it(space: Any) -> None:
    learner, batch = parted(space), make_batch(space)
    actors, critics = batch.observation.clone(), batch.observation.clone()
    actors[:, :3] += 100  # the critics' alone
    critics[:, 4:] += 100  # the actor's alone
    target = torch.zeros(COUNT)
    same = learner.critic_loss(batch, target)[0]
    assert torch.equal(learner.critic_loss(replaced(batch, observation=critics), target)[0], same)
    assert learner.critic_loss(replaced(batch, observation=actors), target)[0] != same

    def entropy_of(observation: Tensor) -> Tensor:
        learner.noise.manual_seed(1)
        seen = replaced(batch, observation=observation)
        return learner.actor_loss(seen, learner.decide(seen, learner.draw_noise(seen)).current)[1]

    same = entropy_of(batch.observation)
    assert torch.equal(entropy_of(actors), same)
    assert entropy_of(critics) != same
    assert learner.actor.first.in_features == 5
    assert learner.critics.first.weight.shape[1] == (4 if space is DISCRETE else 6)


@SPACES
def test_the_parts_learn_and_are_restored(space: Any) -> None:
    whole, half, batch = parted(space), parted(space), make_batch(space)
    for _ in range(4):
        metrics = whole.update(batch)
    assert all(math.isfinite(float(value)) for value in metrics.values())
    for _ in range(2):
        half.update(batch)
    resumed = parted(space)
    resumed.restore(half.state())
    for _ in range(2):
        resumed.update(batch)
    for name, tensor in whole.state().items():
        torch.testing.assert_close(resumed.state()[name], tensor, rtol=0, atol=0, msg=name)


class Recorder:
    """Repeats an update as a GPU would: from the same inputs into the same results."""

    def __init__(self) -> None:
        self.replayed = 0

    def __call__(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        results: Results = {}

        def replay() -> None:
            self.replayed += 1
            for name, result in function().items():
                results.setdefault(name, torch.empty_like(result)).copy_(result)

        return results, replay


@SPACES
def test_a_graph_of_updates_learns_bit_for_bit_as_no_graph_does(space: Any) -> None:
    def learn(record: Recorder | None) -> list[dict[str, Tensor]]:
        learner, found = make_learner(space, record=record), []
        for number in range(12):
            if number == 6:
                learner.rescale(change)
                saved = learner.state()
            if number == 9:
                learner.restore(saved)
            found.append(learner.update(make_batch(space, seed=number)))
        return [*found, learner.state()]

    statistics_of = partial(statistics, np.random.default_rng(2))
    change = Rescaling.between(statistics_of(tiny=True), statistics_of(tiny=False))
    recorder = Recorder()
    for ours, theirs in zip(learn(recorder), learn(None), strict=True):
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name
    assert recorder.replayed == 12 - 3
