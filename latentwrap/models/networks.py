"""The heads and recurrent parts that a latent model is built from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentwrap.models.distributions import Categorical, Gaussian

Activation: TypeAlias = Literal["leaky_relu", "elu"]

SLOPE = 0.2
_EVEN = 0.01


class GaussianHead(nn.Module):
    """An MLP that gives a diagonal Gaussian; std = softplus(·) + `min_std`.

    Args:
        inputs: size of the inputs together.
        outputs: size of the Gaussian.
        hidden: sizes of the hidden layers.
        activation: after each hidden layer, `leaky_relu` (slope 0.2) or `elu`.
        min_std: smallest standard deviation.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        *,
        activation: Activation = "leaky_relu",
        min_std: float = 1e-5,
    ) -> None:
        super().__init__()
        self.net = mlp(inputs, 2 * outputs, hidden, activation)
        self.min_std = min_std

    def forward(self, *inputs: Tensor) -> Gaussian:
        """The Gaussian given the concatenated `inputs`, each (..., d)."""
        joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=-1)
        mean, raw = self.net(joined).chunk(2, dim=-1)
        return Gaussian(mean, F.softplus(raw) + self.min_std)

    @torch.no_grad()
    def initialize_std(self, std: float) -> None:
        """Let the standard deviation be about `std` (plus `min_std`) before training."""
        raw = cast(nn.Linear, self.net[-1]).bias.chunk(2)[1]
        # softplus(log(eˢ − 1)) = s
        raw.fill_(math.log(math.expm1(std)))


class CategoricalHead(nn.Module):
    """An MLP that gives independent categorical variables.

    A hundredth of the probability is spread evenly, so that no class is ever impossible and no
    KL infinite (Hafner et al. 2023, arXiv:2301.04104).

    Args:
        inputs: size of the inputs together.
        variables, classes: how many variables, with how many values each.
        hidden: sizes of the hidden layers.
        activation: after each hidden layer.
    """

    def __init__(
        self,
        inputs: int,
        variables: int,
        classes: int,
        hidden: Sequence[int],
        *,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.net = mlp(inputs, variables * classes, hidden, activation)
        self.variables, self.classes = variables, classes

    def forward(self, *inputs: Tensor) -> Categorical:
        """The distribution given the concatenated `inputs`, each (..., d)."""
        logits = self.net(torch.cat(inputs, dim=-1))
        shaped = logits.view(*logits.shape[:-1], self.variables, self.classes)
        probs = (1 - _EVEN) * shaped.softmax(-1) + _EVEN / self.classes
        return Categorical(probs.log())


def mlp(inputs: int, outputs: int, hidden: Sequence[int], activation: Activation) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for size in hidden:
        between = nn.ELU() if activation == "elu" else nn.LeakyReLU(SLOPE, inplace=True)
        layers += [nn.Linear(inputs, size), between]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Xavier-uniform weights and zero biases for every linear, convolutional and GRU layer."""
    for layer in module.modules():
        if isinstance(layer, nn.GRUCell):
            for weight in (layer.weight_ih, layer.weight_hh):
                for gate in weight.chunk(3):
                    nn.init.xavier_uniform_(gate, generator=generator)
            nn.init.zeros_(layer.bias_ih)
            nn.init.zeros_(layer.bias_hh)
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
