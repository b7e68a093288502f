"""Fully connected layers, one network or two side by side, with their gradients by hand.

The networks of soft actor-critic are so small that an automatic gradient costs as much as its
arithmetic. Here a pass keeps what each layer took, and the gradient goes back through it in as many
products of matrices as there must be: none for what nobody asks for, such as a gradient in the
observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn


class Dense(nn.Linear):
    """A linear layer: (B, in) to (B, out)."""

    def learn(self, x: Tensor, slope: Tensor) -> None:
        """Write ∂L/∂W and ∂L/∂b, given the inputs and ∂L/∂(output)."""
        # L depends on W x + b: ∂L/∂W = Σ_n slope_n x_nᵀ, ∂L/∂b = Σ_n slope_n
        torch.mm(slope.t(), x, out=self.weight.grad)
        torch.sum(slope, dim=0, out=self.bias.grad)

    def back(self, slope: Tensor) -> Tensor:
        """∂L/∂(input), (B, in)."""
        return torch.mm(slope, self.weight)


class TwinLinear(nn.Module):
    """Two linear layers side by side: (2, B, in) to (2, B, out)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, fan_in, fan_out))
        self.bias = nn.Parameter(torch.empty(2, 1, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """x_i W_i + b_i for both i."""
        return torch.baddbmm(self.bias, x, self.weight)

    def learn(self, x: Tensor, slope: Tensor) -> None:
        """Write ∂L/∂W_i and ∂L/∂b_i, given the inputs and ∂L/∂(outputs)."""
        torch.bmm(x.transpose(1, 2), slope, out=self.weight.grad)
        torch.sum(slope, dim=1, keepdim=True, out=self.bias.grad)

    def back(self, slope: Tensor, inputs: slice = slice(None)) -> Tensor:
        """∂L/∂(inputs), (2, B, in), of some of them."""
        weight = self.weight[:, inputs].transpose(1, 2)
        # An outer product is no work for a library of matrix products.
        return slope * weight if slope.shape[-1] == 1 else torch.bmm(slope, weight)


Layer: TypeAlias = Dense | TwinLinear


class Pass(NamedTuple):
    """What a pass through layers, ReLU between them, leaves behind.

    Attributes:
        inputs: of each layer, (B, in) or (2, B, in).
        output: of the last.
    """

    inputs: tuple[Tensor, ...]
    output: Tensor

    def rows(self, some: slice) -> Pass:
        """What (B, in) leaves of some rows."""
        return Pass(tuple(x[some] for x in self.inputs), self.output[some])


def run(layers: Sequence[Layer], x: Tensor) -> Pass:
    """Pass `x` through the layers."""
    inputs = [x]
    for layer in layers[:-1]:
        inputs.append(layer(inputs[-1]).relu_())
    return Pass(tuple(inputs), layers[-1](inputs[-1]))


def learn(layers: Sequence[Layer], passed: Pass, slope: Tensor) -> None:
    """Write the gradient of all weights, given ∂L/∂(output)."""
    for index in reversed(range(len(layers))):
        layers[index].learn(passed.inputs[index], slope)
        if index:
            slope = _through_relu(layers[index].back(slope), passed.inputs[index])


def back_to_first(layers: Sequence[Layer], passed: Pass, slope: Tensor) -> Tensor:
    """∂L/∂(output of the first layer), given that of the last."""
    for index in reversed(range(1, len(layers))):
        slope = _through_relu(layers[index].back(slope), passed.inputs[index])
    return slope


def _through_relu(slope: Tensor, output: Tensor) -> Tensor:
    """∂L/∂(input) of a ReLU, in the memory of ∂L/∂(output)."""
    passed: Tensor = torch.ops.aten.threshold_backward.grad_input(
        slope, output, 0, grad_input=slope
    )
    return passed
