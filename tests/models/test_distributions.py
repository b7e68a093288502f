"""Densities and divergences against torch.distributions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical as ReferenceCategorical
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from latentwrap.models.distributions import (
    Categorical,
    Gaussian,
    fixed_variance_log_prob,
    kl_divergence,
)

seeds = st.integers(0, 2**31)


def random_gaussian(generator: torch.Generator, *shape: int) -> Gaussian:
    mean = 3 * torch.randn(shape, generator=generator)
    std = 0.05 + 2 * torch.rand(shape, generator=generator)
    return Gaussian(mean, std)


@given(seeds)
def test_log_prob(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gaussian = random_gaussian(generator, 4, 5)
    value = 3 * torch.randn(4, 5, generator=generator)
    torch.testing.assert_close(gaussian.log_prob(value), Normal(*gaussian).log_prob(value))


@given(seeds)
def test_kl(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, p = random_gaussian(generator, 4, 5), random_gaussian(generator, 4, 5)
    expected = reference_kl(Normal(*q), Normal(*p))
    torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-4, atol=1e-4)


def random_categorical(generator: torch.Generator, *shape: int) -> Categorical:
    return Categorical((3 * torch.randn(shape, generator=generator)).log_softmax(-1))


@given(seeds)
def test_kl_of_categoricals(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, p = random_categorical(generator, 4, 5, 3), random_categorical(generator, 4, 5, 3)
    reference = [ReferenceCategorical(logits=d.log_probs) for d in (q, p)]
    torch.testing.assert_close(kl_divergence(q, p), reference_kl(*reference), rtol=1e-4, atol=1e-5)


def test_a_kl_between_two_kinds_of_distribution_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(TypeError, match="two distributions of a kind"):
        kl_divergence(random_gaussian(generator, 2, 3), random_categorical(generator, 2, 3))


def test_categorical_samples_have_the_probabilities_of_their_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    q = random_categorical(generator, 2, 3)
    many = Categorical(q.log_probs.expand(40_000, 2, 3))
    samples = many.sample(torch.randn(40_000, 6, generator=generator))
    assert set(samples.flatten().round(decimals=6).tolist()) == {0.0, 1.0}
    torch.testing.assert_close(samples.view(-1, 2, 3).sum(-1), torch.ones(40_000, 2))
    torch.testing.assert_close(samples.mean(0), q.mean, atol=0.01, rtol=0)


def test_without_noise_a_categorical_sample_is_its_probabilities() -> None:
    q = random_categorical(torch.Generator().manual_seed(0), 4, 2, 3)
    torch.testing.assert_close(q.sample(None), q.log_probs.exp().reshape(4, 6))


def test_gradients_pass_straight_through_a_categorical_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 2, 3, generator=generator, requires_grad=True)
    weights = torch.randn(4, 6, generator=generator)
    noise = torch.randn(4, 6, generator=generator)
    sampled = (Categorical(logits.log_softmax(-1)).sample(noise) * weights).sum()
    expected = (logits.softmax(-1).reshape(4, 6) * weights).sum()
    ours, theirs = (torch.autograd.grad(x, logits)[0] for x in (sampled, expected))
    torch.testing.assert_close(ours, theirs)


def test_kl_of_a_gaussian_with_itself_is_zero() -> None:
    q = random_gaussian(torch.Generator().manual_seed(0), 3, 2)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros(3, 2))


@given(seeds, st.floats(0.01, 4.0))
def test_fixed_variance_log_prob(seed: int, variance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.rand(3, 2, 4, 4, generator=generator)
    value = torch.rand(3, 2, 4, 4, generator=generator)
    expected = Normal(mean, variance**0.5).log_prob(value).sum()
    squares = (mean - value).square().sum()
    torch.testing.assert_close(fixed_variance_log_prob(squares, mean.numel(), variance), expected)


def test_samples_have_the_mean_and_std_of_the_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    gaussian = Gaussian(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]))
    samples = gaussian.sample(torch.randn(100_000, 2, generator=generator))
    torch.testing.assert_close(samples.mean(0), gaussian.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(samples.std(0), gaussian.std, atol=0.05, rtol=0)


def test_without_noise_a_sample_is_the_mean() -> None:
    gaussian = random_gaussian(torch.Generator().manual_seed(0), 2, 2)
    assert gaussian.sample(None) is gaussian.mean


def test_gradients_reach_mean_and_std_through_a_sample() -> None:
    mean, std = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    noise = torch.tensor([1.0, -2.0, 0.5])
    Gaussian(mean, std).sample(noise).sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(3))
    torch.testing.assert_close(std.grad, noise)
