"""What actors and critics on vectors have in common, whatever the kind of action."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Expectation(NamedTuple):
    """Of a policy, for each state.

    Attributes:
        value: E_π[min_i Q_i(s, a)], (B,).
        entropy: H(π(·|s)) in nats, (B,).

    Both are estimates from one action where that is how the policy takes its expectations.
    """

    value: Tensor
    entropy: Tensor


class Critics(nn.Module):
    """Two Q functions of the same shape, computed as one batched product.

    Args:
        sizes: of the input, the hidden layers (ReLU after each) and the output.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwinLinear(*pair) for pair in pairwise(sizes))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a) and Q_2(s, a), (2, B), of observations (B, d) and stored actions (B, A)."""
        raise NotImplementedError

    @property
    def first(self) -> TwinLinear:
        """The layer that takes the inputs."""
        layer: Any = self.layers[0]
        return cast(TwinLinear, layer)

    def _outputs(self, x: Tensor) -> Tensor:
        """Inputs (B, in) to the outputs of both, (2, B, out)."""
        x = x.expand(2, -1, -1)
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        outputs: Tensor = last(x)
        return outputs


class Actor(nn.Module):
    """A policy π(a|s); its actions are rows as the replay stores them, (B, A)."""

    net: nn.Sequential

    @property
    def first(self) -> nn.Linear:
        """The layer that takes the inputs."""
        return cast(nn.Linear, self.net[0])

    def expect(
        self, observation: Tensor, state: Tensor, critics: Critics, generator: torch.Generator
    ) -> Expectation:
        """The value that critics give to this policy, and its entropy; differentiable.

        Args:
            observation: what the policy sees, (B, d).
            state: what the critics see, (B, k).
            critics: of the same kind of action.
            generator: of the noise, where noise is needed.
        """
        raise NotImplementedError

    def draw(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """a ~ π(·|s)."""
        raise NotImplementedError

    def best(self, observation: Tensor) -> Tensor:
        """The action without noise."""
        raise NotImplementedError


class TwinLinear(nn.Module):
    """Two linear layers side by side: (2, B, in) to (2, B, out)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, fan_in, fan_out))
        self.bias = nn.Parameter(torch.empty(2, 1, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """x_i W_i + b_i for both i."""
        return torch.baddbmm(self.bias, x, self.weight)


def mlp(inputs: int, outputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(inputs, size), nn.ReLU()]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


@torch.no_grad()
def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """torch's default for linear layers, U(±1/√fan_in), but from a given generator."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
        elif isinstance(layer, TwinLinear):
            bound = layer.weight.shape[1] ** -0.5
        else:
            continue
        for parameter in (layer.weight, layer.bias):
            parameter.uniform_(-bound, bound, generator=generator)
