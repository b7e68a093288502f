"""The squashed Gaussian and the twin critics against torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from latentwrap.agents.continuous import ActionCritics, GaussianActor, log_tanh_slope
from latentwrap.agents.networks import initialize


def make_actor(seed: int = 0) -> GaussianActor:
    actor = GaussianActor(4, 3, (16, 16), log_std_min=-20, log_std_max=2)
    initialize(actor, torch.Generator().manual_seed(seed))
    return actor


@given(st.integers(0, 2**31))
def test_log_prob_is_that_of_the_tanh_of_a_gaussian(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    actor, observation = make_actor(seed), torch.randn(5, 4, generator=generator)
    decided = actor.decide(observation, torch.randn(5, 3, generator=generator))
    mean, log_std = actor(observation)
    tanh = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=0))
    expected = Independent(tanh, 1).log_prob(decided.action)
    torch.testing.assert_close(decided.log_prob, expected, rtol=1e-3, atol=1e-3)


def test_the_slope_of_tanh_is_exact_where_the_plain_formula_is_not() -> None:
    raw = torch.tensor([-40.0, -10.0, 0.0, 10.0, 40.0])
    exact = torch.log1p(-raw.double().tanh().square())
    near = torch.tensor([0, 2, 4])
    expected = 2 * (torch.log(torch.tensor(2.0, dtype=torch.double)) - raw.abs().double())
    torch.testing.assert_close(log_tanh_slope(raw)[2], exact[2].float())
    torch.testing.assert_close(log_tanh_slope(raw)[near[[0, 2]]], expected[near[[0, 2]]].float())
    assert torch.isfinite(log_tanh_slope(raw)).all()


def test_samples_are_in_bounds_and_the_mean_action_is_tanh_of_the_mean() -> None:
    actor, observation = make_actor(), 100 * torch.randn(50, 4)
    assert actor.decide(observation, torch.randn(50, 3)).action.abs().max() <= 1
    torch.testing.assert_close(actor.best(observation), actor(observation)[0].tanh())


def test_log_std_is_clamped() -> None:
    actor = make_actor()
    with torch.no_grad():
        actor.net[-1].bias[3:] = torch.tensor([100.0, -100.0, 0.0])
        actor.net[-1].weight.zero_()
    _, log_std = actor(torch.randn(2, 4))
    assert log_std[0].tolist() == [2.0, -20.0, 0.0]


def test_twin_critics_are_two_ordinary_networks() -> None:
    critics = ActionCritics(4, 3, (16, 8))
    initialize(critics, torch.Generator().manual_seed(0))
    observation, action = torch.randn(6, 4), torch.rand(6, 3)
    values = critics(observation, action)
    for index in range(2):
        x = torch.cat([observation, action], 1)
        for number, layer in enumerate(critics.layers):
            plain = nn.Linear(*layer.weight.shape[1:])
            plain.weight.data = layer.weight[index].t()
            plain.bias.data = layer.bias[index, 0]
            x = plain(x) if number == 2 else plain(x).relu()
        torch.testing.assert_close(values[index], x[:, 0])
    assert not torch.allclose(values[0], values[1])


def test_initial_weights_are_torchs_default_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = make_actor(3).state_dict()
    torch.manual_seed(2)
    second = make_actor(3).state_dict()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0)
    wide = ActionCritics(300, 100, (500,))
    initialize(wide, torch.Generator().manual_seed(0))
    bound = 400**-0.5
    assert wide.layers[0].weight.abs().max() <= bound
    assert wide.layers[0].weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
