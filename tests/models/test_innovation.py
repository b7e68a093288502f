"""What a frame brings, against torch's distributions and against the training loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.conftest import STOCHASTIC, TINY, make_tiny_model
from torch import Tensor
from torch.distributions import Categorical, Distribution, Normal, kl_divergence

from latentwrap.errors import LatentwrapError
from latentwrap.models import WindowTensors
from latentwrap.models.distributions import Gaussian
from latentwrap.vectors import VectorSpec

ARM = VectorSpec(names=("joints",), sizes=(2,))


def make_windows(batch: int = 3, length: int = 4) -> WindowTensors:
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (batch, length + 1, 16, 16, 3), dtype=torch.uint8, generator=g)
    actions = 2 * torch.rand(batch, length, 1, generator=g) - 1
    return WindowTensors(frames, actions, torch.zeros(batch, length), torch.zeros(batch, length))


def reference(distribution: Any) -> Distribution:
    if isinstance(distribution, Gaussian):
        return Normal(*distribution)
    return Categorical(logits=distribution.log_probs)


def written_out(model: Any, belief: Any, action: Any, features: Tensor) -> list[Distribution]:
    """Posterior and prior of the stochastic state, from the equations in the kinds' docstrings."""
    if model.kind == "rssm":
        if belief is None:
            h, s = torch.zeros(3, model.config.memory), torch.zeros(3, model.noise_size)
            action = torch.zeros(3, 1)
        else:
            h, s = belief
        h = model.memory(model.embed(torch.cat([s, action], dim=1)), h)
        return [reference(model.posterior(h, features)), reference(model.prior(h))]
    if belief is None:
        nothing = torch.zeros(3, model.config.z1)
        return [reference(model.z1_posterior_first(features)), Normal(nothing, nothing + 1)]
    q = model.z1_posterior(features, belief.z2, action)
    return [reference(q), reference(model.z1_prior(belief.z2, action))]


@pytest.mark.parametrize("kind", STOCHASTIC)
@pytest.mark.parametrize("sees", [False, True])
@torch.no_grad()
def test_it_is_the_kl_of_the_posterior_from_the_prior(kind: str, sees: bool) -> None:
    model: Any = make_tiny_model(kind=kind, vectors=ARM, sees_vectors=sees)
    windows = make_windows()
    vectors = torch.randn(3, 2) if sees else None
    first, second = windows.frames[:, 0], windows.frames[:, 1]
    begun = model.initial(first, vectors=vectors)
    cases = [(None, None, first), (begun, windows.actions[:, 0], second)]
    for belief, action, frame in cases:
        found = model.innovation(belief, action, frame, vectors)
        features = model.encode(frame)
        if vectors is not None:
            features = torch.cat([features, vectors], dim=1)
        q, p = written_out(model, belief, action, features)
        torch.testing.assert_close(found.kl, kl_divergence(q, p).sum(-1))
        # Of a categorical, the indicator of each class is a Bernoulli variable.
        spread = q.stddev if isinstance(q, Normal) else (q.probs * (1 - q.probs)).sqrt().flatten(1)
        torch.testing.assert_close(found.std, spread)
        assert found.kl.shape == (3,)


@pytest.mark.parametrize("kind", ["rssm", "slac"])
@torch.no_grad()
def test_its_mean_along_the_filter_is_what_training_measures(kind: str) -> None:
    """Noise of zero makes Gaussian samples means, which the filter hands on."""
    model, windows = make_tiny_model(kind=kind), make_windows()
    belief, found = model.initial(windows.frames[:, 0]), []
    for t in range(4):
        action, frame = windows.actions[:, t], windows.frames[:, t + 1]
        found.append(model.innovation(belief, action, frame).kl)
        belief = model.filter(belief, action, frame)
    noise = torch.zeros(3, 5, model.loss_noise_size)
    measured = model.kl_per_dimension(windows, noise).sum()
    torch.testing.assert_close(torch.stack(found).mean(), measured)


def test_a_kind_without_distributions_has_none() -> None:
    model = make_tiny_model(kind="deterministic")
    frame = make_windows().frames[:, 0]
    found = model.innovation(model.initial(frame), torch.zeros(3, 1), frame)
    assert found.kl.tolist() == [0, 0, 0]
    assert found.std.shape == (3, 0)


@pytest.mark.parametrize("kind", list(TINY))
def test_the_belief_and_the_noise_stay_as_they_are(kind: str) -> None:
    model, windows = make_tiny_model(kind=kind), make_windows()
    belief = model.initial(windows.frames[:, 0])
    before, state = [tensor.clone() for tensor in belief], torch.random.get_rng_state()
    model.innovation(belief, windows.actions[:, 0], windows.frames[:, 1])
    assert all(torch.equal(was, now) for was, now in zip(before, belief, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_missing_vectors_are_refused(kind: str) -> None:
    model = make_tiny_model(kind=kind, vectors=ARM, sees_vectors=True)
    with pytest.raises(LatentwrapError, match="sees the vectors joints"):
        model.innovation(None, None, make_windows().frames[:, 0])
