"""Regressions that read states off latents: least squares and a small MLP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from latentwrap.models.networks import initialize, mlp
from latentwrap.seeding import child_seeds, torch_generator
from latentwrap.types import AnyArray

_RIDGE = 1e-6
_HIDDEN = (256, 256)
_UPDATES = 3000
_BATCH = 512
_LEARNING_RATE = 2e-3
_MIN_STD = 1e-6


@dataclass(frozen=True)
class LinearMap:
    """y = (x − centre) · weights + offset; float64."""

    centre: AnyArray
    weights: AnyArray
    offset: AnyArray

    def predict(self, inputs: AnyArray) -> AnyArray:
        """Targets (N, k) for inputs (N, d)."""
        predicted: AnyArray = (inputs - self.centre) @ self.weights + self.offset
        return predicted


@dataclass(frozen=True)
class Standardizer:
    """Columns to zero mean and unit standard deviation, and back."""

    mean: AnyArray
    std: AnyArray

    @classmethod
    def of(cls, values: AnyArray) -> Standardizer:
        """The standardizer of the columns of (N, k); constant columns become zeros."""
        std = values.std(axis=0, dtype=np.float64)
        return cls(values.mean(axis=0, dtype=np.float64), np.where(std < _MIN_STD, 1.0, std))

    def apply(self, values: AnyArray) -> torch.Tensor:
        """Standardised, float32 (N, k)."""
        return torch.from_numpy(((values - self.mean) / self.std).astype(np.float32))

    def invert(self, values: torch.Tensor) -> AnyArray:
        """Back to the scale of the columns, float64 (N, k)."""
        original: AnyArray = values.double().numpy() * self.std + self.mean
        return original


@dataclass(frozen=True)
class MLPMap:
    """An MLP between standardised inputs and targets."""

    inputs: Standardizer
    targets: Standardizer
    network: nn.Module

    @torch.no_grad()
    def predict(self, inputs: AnyArray) -> AnyArray:
        """Targets (N, k) for inputs (N, d)."""
        return self.targets.invert(self.network(self.inputs.apply(inputs)))


def linear_fit(inputs: AnyArray, targets: AnyArray) -> LinearMap:
    """Least squares with a ridge so small that it only settles unused dimensions.

    Inputs that never vary, or have no dimensions, predict the mean.

    Args:
        inputs: (N, d).
        targets: (N, k).
    """
    x, y = inputs.astype(np.float64), targets.astype(np.float64)
    centre, offset = x.mean(axis=0), y.mean(axis=0)
    x -= centre
    gram = x.T @ x
    if not np.trace(gram) > 0:
        return LinearMap(centre, np.zeros((x.shape[1], y.shape[1])), offset)
    gram += _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(gram, x.T @ (y - offset))
    return LinearMap(centre, weights, offset)


def mlp_fit(
    inputs: AnyArray, targets: AnyArray, *, seed: int = 0, updates: int = _UPDATES
) -> MLPMap:
    """Fit an MLP of two hidden layers to squared errors; about 5 s on a CPU core.

    Args:
        inputs: (N, d).
        targets: (N, k).
        seed: of weights and batches.
        updates: of Adam, whose learning rate falls to zero along a cosine.
    """
    from_inputs, to_targets = Standardizer.of(inputs), Standardizer.of(targets)
    x, y = from_inputs.apply(inputs), to_targets.apply(targets)
    weights_seed, batch_seed = child_seeds(seed, 2)
    network = mlp(x.shape[1], y.shape[1], _HIDDEN, "elu")
    initialize(network, torch_generator(weights_seed))
    optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    generator = torch_generator(batch_seed)
    for _ in range(updates):
        rows = torch.randint(len(x), (min(_BATCH, len(x)),), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(network(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return MLPMap(from_inputs, to_targets, network.requires_grad_(requires_grad=False))


def r_squared(predicted: AnyArray, targets: AnyArray) -> AnyArray:
    """1 − residual variance / variance of each column, (k,).

    >>> r_squared(np.array([[1.0], [2.0]]), np.array([[1.0], [2.0]]))
    array([1.])
    """
    residual = np.square(targets - predicted).sum(axis=0)
    spread = np.square(targets - targets.mean(axis=0)).sum(axis=0)
    scores: AnyArray = 1 - residual / np.maximum(spread, np.finfo(np.float64).tiny)
    return scores
