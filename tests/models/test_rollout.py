"""The posterior along windows, its gradient by hand, against the steps of the filter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from latentwrap.actions import ActionSpec
from latentwrap.models import RSSMConfig
from latentwrap.models.distributions import Gaussian
from latentwrap.models.rssm import RSSMModel
from latentwrap.pixels import FrameSpec

WINDOWS, STEPS, ACTIONS = 3, 5, 2


@pytest.fixture(autouse=True)
def _in_double_precision() -> Iterator[None]:
    """Rounding then hides nothing."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_model(**options: object) -> RSSMModel:
    config = RSSMConfig(memory=8, stochastic=4, features=6, network="patch", patch=8, widths=(4,))
    return RSSMModel(
        config.replace(**options),
        FrameSpec(height=16, width=16),
        ActionSpec(spaces.Box(-1, 1, (ACTIONS,))),
        generator=torch.Generator().manual_seed(0),
    )


def by_steps(model: RSSMModel, features: Tensor, actions: Tensor, noise: Tensor) -> list[Tensor]:
    """Mean, std, h and s of every step, by the functions that filter."""
    series: list[list[Tensor]] = [[], [], [], []]
    belief = model.believe_first(features[:, 0], noise[:, 0])
    for t in range(STEPS + 1):
        if t:
            belief = model.believe_next(belief, actions[:, t - 1], features[:, t], noise[:, t])
        q = model.posterior(belief.h, features[:, t])
        for values, value in zip(series, (q.mean, q.std, *belief), strict=True):
            values.append(value)
    return [torch.stack(values, dim=1) for values in series]


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6, 5)])
@pytest.mark.parametrize("activation", ["elu", "leaky_relu"])
def test_outcome_and_gradient_are_those_of_the_filter(
    hidden: tuple[int, ...], activation: str
) -> None:
    model = make_model(hidden=hidden, activation=activation)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # biases too
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))

    def draw(*shape: int) -> Tensor:
        return torch.randn(WINDOWS, *shape, generator=generator)

    features, actions = draw(STEPS + 1, 6).requires_grad_(), draw(STEPS, ACTIONS)
    noise = draw(STEPS + 1, 4)
    expected = by_steps(model, features, actions, noise)
    rolled = model.infer(features, actions, noise)
    assert isinstance(rolled.q, Gaussian)
    found = [*rolled.q, rolled.h, rolled.s]
    slopes = [draw(*tensor.shape[1:]) for tensor in expected]
    parts = (model.embed, model.memory, model.posterior)
    inputs = [features, *(p for part in parts for p in part.parameters())]
    gradients = []
    for outcome in (found, expected):
        total = sum((x * slope).sum() for x, slope in zip(outcome, slopes, strict=True))
        gradients.append(torch.autograd.grad(total, inputs))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*gradients)


def test_what_nobody_asks_for_is_no_gradient() -> None:
    """A loss of the means alone, as with free nats, leaves the other slopes away."""
    model = make_model()
    features = torch.randn(WINDOWS, STEPS + 1, 6, requires_grad=True)
    actions, noise = torch.randn(WINDOWS, STEPS, ACTIONS), torch.randn(WINDOWS, STEPS + 1, 4)
    found = torch.autograd.grad(model.infer(features, actions, noise).q.mean.sum(), features)
    mean, *_ = by_steps(model, features, actions, noise)
    torch.testing.assert_close(found, torch.autograd.grad(mean.sum(), features))
