"""Seeing the same observations in another scale without unlearning anything."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.agents.layers import Dense, Layer
from latentwrap.normalizer import STD_FLOOR, LatentNormalizer


@dataclass(frozen=True)
class Rescaling:
    """What x, as it was scaled before, is in terms of x', as it will be: x = factor x' + shift.

    Attributes:
        factor, shift: float32 (d,), of the first d inputs; the others stay as they are.
    """

    factor: Tensor
    shift: Tensor

    @classmethod
    def between(cls, old: LatentNormalizer, new: LatentNormalizer) -> Rescaling:
        """From one standardisation of latents to another.

        x = (z − m) / s and x' = (z − m') / s', so x = (s' / s) x' + (m' − m) / s. Clipping is left
        out: it is there for what lies far outside of all data.
        """
        before, after = (np.maximum(each.std, STD_FLOOR).astype(np.float64) for each in (old, new))
        factor, shift = after / before, (new.mean.astype(np.float64) - old.mean) / before
        return cls(torch.from_numpy(factor).float(), torch.from_numpy(shift).float())


@torch.no_grad()
def rescale_inputs(layer: Layer, change: Rescaling) -> None:
    """Let a layer give for x' what it gave for x: W x + b = (W factor) x' + (b + W shift)."""
    weight = _by_input(layer, layer.weight)
    some = weight[..., : len(change.factor)]
    shift = change.shift.to(some)
    added = some.double() @ shift.double()
    layer.bias.add_(added.to(layer.bias).view_as(layer.bias))
    some.mul_(change.factor.to(some))


@torch.no_grad()
def rescale_moments(layer: Layer, state: MutableMapping[str, Any], change: Rescaling) -> None:
    """Scale Adam's moments of a layer's weight with its gradient, which is 1 / factor as large."""
    for name, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
        if name in state:
            some = _by_input(layer, state[name])[..., : len(change.factor)]
            some.div_(change.factor.to(some) ** power)


def _by_input(layer: Layer, weight: Tensor) -> Tensor:
    """A view of a weight whose last axis is the input."""
    return weight if isinstance(layer, Dense) else weight.transpose(1, 2)
