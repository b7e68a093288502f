"""Diagonal Gaussians: the only continuous distribution that the models need."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """N(mean, diag(std²)); both float32 (..., d)."""

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor | None) -> Tensor:
        """mean + std · noise, differentiable in both; the mean where noise is `None`.

        Args:
            noise: standard normal, shape of the mean.
        """
        return self.mean if noise is None else torch.addcmul(self.mean, self.std, noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(value; mean, std²) of every element, shape of the mean."""
        scaled = (value - self.mean) / self.std
        return -0.5 * scaled.square() - self.std.log() - 0.5 * _LOG_2PI


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) of every dimension, analytically; shape of the means.

    KL = log(σ_p/σ_q) + (σ_q² + (μ_q − μ_p)²) / (2 σ_p²) − 1/2
    """
    variance_ratio = (q.std / p.std).square()
    distance = ((q.mean - p.mean) / p.std).square()
    return 0.5 * (variance_ratio + distance - 1 - variance_ratio.log())


def fixed_variance_log_prob(mean: Tensor, value: Tensor, variance: float) -> Tensor:
    """log N(value; mean, variance) summed over everything; a scalar.

    One fused pass over the pixels forward and one backward.
    """
    squares = F.mse_loss(mean, value, reduction="sum")
    return -0.5 * squares / variance - 0.5 * mean.numel() * (_LOG_2PI + math.log(variance))
