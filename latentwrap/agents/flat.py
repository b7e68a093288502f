"""All parameters of a network in one tensor, so that what is done to all of them is one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class FlatParameters:
    """Moves parameters and their gradients into the memory of one tensor each.

    They stay what they are to everyone else; only their memory must not be replaced, so a gradient
    is written, not assigned.

    Args:
        parameters: of one dtype, on one device.

    Attributes:
        values, gradients: of all, float32 (n,).

    Example:
        >>> layer = torch.nn.Linear(2, 3)
        >>> flat = FlatParameters(list(layer.parameters()))
        >>> flat.values.fill_(1)[:3]
        tensor([1., 1., 1.])
        >>> layer.bias.tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._shapes = [p.shape for p in parameters]
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradients = torch.zeros_like(self.values)
        self._adopt()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Parameters that were copied or unpickled have memory of their own.
        self.__dict__.update(state)
        self._adopt()

    def _adopt(self) -> None:
        views = zip(self.split(self.values), self.split(self.gradients), strict=True)
        for parameter, (value, gradient) in zip(self._parameters, views, strict=True):
            parameter.data, parameter.grad = value, gradient

    def split(self, flat: Tensor) -> list[Tensor]:
        """A view of (n,) for each parameter, in its shape."""
        pieces = torch.split(flat, [math.prod(shape) for shape in self._shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]


class Adam:
    """`torch.optim.Adam` (Kingma & Ba 2015, arXiv:1412.6980) over flat parameters.

    Args:
        parameters: changed in place, against their gradients.
        learning_rate: of every step.

    Attributes:
        learning_rate: as given; may change where no graph was recorded with it.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> flat = FlatParameters([x])
        >>> flat.gradients.fill_(5)
        tensor([5.])
        >>> Adam(flat, learning_rate=0.1).step()
        >>> x
        tensor([2.9000], requires_grad=True)
    """

    def __init__(self, parameters: FlatParameters, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._parameters = parameters
        self._mean = torch.zeros_like(parameters.values)
        self._square = torch.zeros_like(parameters.values)
        self._step = torch.zeros((), device=parameters.values.device)

    def step(self) -> None:
        """Move every parameter against its gradient."""
        self._step += 1
        # What torch.optim.Adam(fused=True) calls.
        torch._fused_adam_(
            [self._parameters.values],
            [self._parameters.gradients],
            [self._mean],
            [self._square],
            [],
            [self._step],
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def moments(self) -> list[dict[str, Tensor]]:
        """Of each parameter: step count and means of gradient and squared gradient, as views."""
        split = zip(*map(self._parameters.split, (self._mean, self._square)), strict=True)
        return [
            {"step": self._step, "exp_avg": mean, "exp_avg_sq": square} for mean, square in split
        ]

    def state(self) -> dict[str, Tensor]:
        """Copies of all moments, named `<parameter index>.<what>`."""
        return {
            f"{index}.{name}": tensor.clone()
            for index, held in enumerate(self.moments())
            for name, tensor in held.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state`; without any, as before the first step."""
        for index, held in enumerate(self.moments()):
            for name, tensor in held.items():
                tensor.copy_(tensors.get(f"{index}.{name}", torch.zeros(())))
