"""Actor and critics on vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LOG_2PI = math.log(2 * math.pi)
_LOG_2 = math.log(2)


class PolicySample(NamedTuple):
    """Actions in [-1, 1], (B, A), and the logarithm of their density, (B,)."""

    action: Tensor
    log_prob: Tensor


class Actor(nn.Module):
    """A squashed Gaussian policy: a = tanh(u), u ~ N(μ(s), σ(s)²).

    Args:
        inputs: size of the observation.
        actions: size of the action.
        hidden: sizes of the hidden layers, ReLU after each.
        log_std_min, log_std_max: log σ is clamped to them.
    """

    def __init__(
        self,
        inputs: int,
        actions: int,
        hidden: Sequence[int],
        *,
        log_std_min: float,
        log_std_max: float,
    ) -> None:
        super().__init__()
        self.net = _mlp(inputs, 2 * actions, hidden)
        self._bounds = log_std_min, log_std_max

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ, each (B, A)."""
        mean, log_std = self.net(observation).chunk(2, dim=-1)
        return mean, log_std.clamp(*self._bounds)

    def sample(self, observation: Tensor, noise: Tensor) -> PolicySample:
        """a = tanh(μ + σ ε) and log π(a|s), differentiable in the weights.

        Args:
            observation: (B, inputs).
            noise: ε, standard normal, (B, A).
        """
        mean, log_std = self(observation)
        raw = mean + log_std.exp() * noise
        # log π(a|s) = Σ_i log N(u_i; μ_i, σ_i²) − log(1 − tanh²(u_i))
        gaussian = -0.5 * noise.square() - log_std - 0.5 * _LOG_2PI
        log_prob = (gaussian - log_tanh_slope(raw)).sum(dim=-1)
        return PolicySample(raw.tanh(), log_prob)

    def mean_action(self, observation: Tensor) -> Tensor:
        """tanh(μ), (B, A)."""
        mean: Tensor = self(observation)[0]
        return mean.tanh()


class TwinCritics(nn.Module):
    """Two Q functions of the same shape, computed as one batched product.

    Args:
        inputs: size of the observation.
        actions: size of the action.
        hidden: sizes of the hidden layers, ReLU after each.
    """

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [inputs + actions, *hidden, 1]
        self.layers = nn.ModuleList(TwinLinear(*pair) for pair in pairwise(sizes))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a) and Q_2(s, a), (2, B)."""
        x = torch.cat([observation, action], dim=-1).expand(2, -1, -1)
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        values: Tensor = last(x).squeeze(-1)
        return values


class TwinLinear(nn.Module):
    """Two linear layers side by side: (2, B, in) to (2, B, out)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, fan_in, fan_out))
        self.bias = nn.Parameter(torch.empty(2, 1, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """x_i W_i + b_i for both i."""
        return torch.baddbmm(self.bias, x, self.weight)


def log_tanh_slope(raw: Tensor) -> Tensor:
    """log(1 − tanh²(u)) = 2 (log 2 − u − softplus(−2u)), exact for large |u| too."""
    return 2 * (_LOG_2 - raw - F.softplus(-2 * raw))


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


def _mlp(inputs: int, outputs: int, hidden: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(inputs, size), nn.ReLU()]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
