"""The distributions that the models need: diagonal Gaussians and independent categoricals."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

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


class Categorical(NamedTuple):
    """Independent categorical variables; log-probabilities, float32 (..., variables, classes)."""

    log_probs: Tensor

    @property
    def mean(self) -> Tensor:
        """Probabilities, (..., variables · classes)."""
        return self.log_probs.exp().flatten(-2)

    @property
    def std(self) -> Tensor:
        """√(p (1 − p)), that of each class's indicator, (..., variables · classes)."""
        probs = self.mean
        return (probs * (1 - probs)).sqrt()

    def sample(self, noise: Tensor | None) -> Tensor:
        """One-hot samples whose gradient is that of the probabilities; the mean without noise.

        The class with the largest log p + g, g ~ Gumbel(0, 1), is a sample; g is −log(−log u),
        and u = Φ(noise) is uniform.

        Args:
            noise: standard normal, (..., variables · classes).
        """
        probs = self.mean
        if noise is None:
            return probs
        uniform = torch.special.ndtr(noise).clamp(1e-6, 1 - 1e-6).view_as(self.log_probs)
        scores = self.log_probs.detach() - torch.log(-torch.log(uniform))
        chosen = F.one_hot(scores.argmax(-1), scores.shape[-1]).flatten(-2)
        return chosen + probs - probs.detach()


Distribution: TypeAlias = Gaussian | Categorical


def kl_divergence(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) of every dimension or variable, analytically.

    Gaussian: log(σ_p/σ_q) + (σ_q² + (μ_q − μ_p)²) / (2 σ_p²) − 1/2.
    Categorical: Σ_c q_c (log q_c − log p_c).
    """
    if isinstance(q, Categorical) and isinstance(p, Categorical):
        return (q.log_probs.exp() * (q.log_probs - p.log_probs)).sum(-1)
    if not (isinstance(q, Gaussian) and isinstance(p, Gaussian)):
        raise TypeError(f"A KL requires two distributions of a kind, got {q!r} and {p!r}.")
    variance_ratio = (q.std / p.std).square()
    distance = ((q.mean - p.mean) / p.std).square()
    return 0.5 * (variance_ratio + distance - 1 - variance_ratio.log())


def fixed_variance_log_prob(squares: Tensor, count: int, variance: float) -> Tensor:
    """log N(x; mean, variance) summed over `count` values; a scalar.

    Args:
        squares: Σ (x − mean)², a scalar.
        count: values in that sum.
        variance: of each.
    """
    return -0.5 * squares / variance - 0.5 * count * (_LOG_2PI + math.log(variance))
