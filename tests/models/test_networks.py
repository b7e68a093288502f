"""Heads and their first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from latentwrap.models.networks import GaussianHead, initialize, mlp


def test_head_computes_softplus_of_its_second_half() -> None:
    head = GaussianHead(5, 3, (8,), min_std=0.5)
    initialize(head, torch.Generator().manual_seed(0))
    a, b = torch.randn(2, 3), torch.randn(2, 2)
    mean, raw = head.net(torch.cat([a, b], 1)).chunk(2, dim=1)
    gaussian = head(a, b)
    torch.testing.assert_close(gaussian.mean, mean)
    torch.testing.assert_close(gaussian.std, F.softplus(raw) + 0.5)
    assert (gaussian.std >= 0.5).all()


def test_mlp_has_its_activation_between_but_not_after() -> None:
    for name, between in (("leaky_relu", nn.LeakyReLU), ("elu", nn.ELU)):
        kinds = [type(layer) for layer in mlp(2, 3, (4, 5), name)]
        assert kinds == [nn.Linear, between, nn.Linear, between, nn.Linear]


def test_initialisation_depends_on_the_generator_alone() -> None:
    def weights(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        net = mlp(4, 4, (4,), "elu")
        initialize(net, torch.Generator().manual_seed(seed))
        return torch.cat([p.flatten() for p in net.parameters()])

    torch.testing.assert_close(weights(1, 2), weights(1, 3), rtol=0, atol=0)
    assert not torch.equal(weights(1, 2), weights(2, 2))


def test_initialisation_is_xavier_uniform_with_zero_biases() -> None:
    layer = nn.Linear(300, 500)
    initialize(layer, torch.Generator().manual_seed(0))
    bound = (6 / 800) ** 0.5
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert not layer.bias.any()
