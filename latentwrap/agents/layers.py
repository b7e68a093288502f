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

    def write_grad(self, x: Tensor, grad: Tensor) -> None:
        """Write ∂L/∂W and ∂L/∂b, given the inputs and ∂L/∂(output)."""
        # L depends on W x + b: ∂L/∂W = Σ_n grad_n x_nᵀ, ∂L/∂b = Σ_n grad_n
        torch.mm(grad.t(), x, out=self.weight.grad)
        torch.sum(grad, dim=0, out=self.bias.grad)

    def grad_input(self, grad: Tensor) -> Tensor:
        """∂L/∂(input), (B, in)."""
        return torch.mm(grad, self.weight)


class TwinLinear(nn.Module):
    """Two linear layers side by side: (2, B, in) to (2, B, out)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, fan_in, fan_out))
        self.bias = nn.Parameter(torch.empty(2, 1, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """x_i W_i + b_i for both i."""
        return torch.baddbmm(self.bias, x, self.weight)

    def write_grad(self, x: Tensor, grad: Tensor) -> None:
        """Write ∂L/∂W_i and ∂L/∂b_i, given the inputs and ∂L/∂(outputs)."""
        torch.bmm(x.transpose(1, 2), grad, out=self.weight.grad)
        torch.sum(grad, dim=1, keepdim=True, out=self.bias.grad)

    def grad_input(self, grad: Tensor, inputs: slice = slice(None)) -> Tensor:
        """∂L/∂(inputs), (2, B, in), of some of them."""
        weight = self.weight[:, inputs].transpose(1, 2)
        # An outer product is no work for a library of matrix products.
        return grad * weight if grad.shape[-1] == 1 else torch.bmm(grad, weight)


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


def backward(layers: Sequence[Layer], passed: Pass, grad: Tensor) -> None:
    """Write the gradient of all weights, given ∂L/∂(output)."""
    for index in reversed(range(len(layers))):
        layers[index].write_grad(passed.inputs[index], grad)
        if index:
            grad = _relu_grad(layers[index].grad_input(grad), passed.inputs[index])


def grad_of_first(layers: Sequence[Layer], passed: Pass, grad: Tensor) -> Tensor:
    """∂L/∂(output of the first layer), given that of the last."""
    for index in reversed(range(1, len(layers))):
        grad = _relu_grad(layers[index].grad_input(grad), passed.inputs[index])
    return grad


def _relu_grad(grad: Tensor, output: Tensor) -> Tensor:
    """∂L/∂(input) of a ReLU, in the memory of ∂L/∂(output)."""
    passed: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=grad)
    return passed
