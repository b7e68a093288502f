"""The recurrent state-space model against its equations, written out step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, kl_divergence
from torch.nn import functional as F

from latentwrap.actions import ActionSpec
from latentwrap.errors import ConfigError
from latentwrap.models import RSSMConfig, RSSMModel, WindowTensors
from latentwrap.models.distributions import Gaussian
from latentwrap.models.rssm import RSSMBelief
from latentwrap.pixels import FrameSpec

FRAME = FrameSpec(height=16, width=16)
SMALL = RSSMConfig(
    network="patch",
    patch=8,
    widths=(4, 8),
    features=12,
    memory=5,
    stochastic=3,
    hidden=(16,),
    activation="elu",
    terminations=True,
    free_nats=0.0,
)
DISCRETE = SMALL.replace(stochastic=2, classes=3)


def make_model(config: RSSMConfig = SMALL) -> RSSMModel:
    action = ActionSpec(spaces.Box(-1, 1, (2,)))
    return RSSMModel(config, FRAME, action, generator=torch.Generator().manual_seed(0))


def make_windows(batch: int = 3, length: int = 4) -> WindowTensors:
    g = torch.Generator().manual_seed(0)
    shape = (batch, length + 1, *FRAME.shape)
    return WindowTensors(
        frames=torch.randint(0, 256, shape, dtype=torch.uint8, generator=g),
        actions=2 * torch.rand(batch, length, 2, generator=g) - 1,
        rewards=torch.randn(batch, length, generator=g),
        terminations=(torch.rand(batch, length, generator=g) < 0.3).float(),
    )


def make_noise(model: RSSMModel, windows: WindowTensors) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randn(*windows.frames.shape[:2], model.loss_noise_size, generator=g)


def reference(distribution: Any) -> Distribution:
    """The same distribution of torch."""
    if isinstance(distribution, Gaussian):
        return Normal(*distribution)
    return Categorical(logits=distribution.log_probs)


def draw(distribution: Any, eps: Tensor) -> Tensor:
    if isinstance(distribution, Gaussian):
        return distribution.mean + distribution.std * eps
    gumbel = -torch.log(-torch.log(Normal(0.0, 1.0).cdf(eps)))
    scores = distribution.log_probs + gumbel.view_as(distribution.log_probs)
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).flatten().float()


def gru(model: RSSMModel, h: Tensor, s: Tensor, action: Tensor) -> Tensor:
    """f(h, s, a) with the gates of Cho et al. 2014, as torch documents them."""
    x = F.elu(model.embed[0](torch.cat([s, action])))
    cell = model.memory
    from_x = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    from_h = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    reset, update = (torch.sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2], strict=True))
    candidate = torch.tanh(from_x[2] + reset * from_h[2])
    return (1 - update) * candidate + update * h


def written_out_loss(model: RSSMModel, windows: WindowTensors, noise: Tensor) -> dict[str, Tensor]:
    """The loss of one window after the other, one step after the other."""
    config = model.config
    terms = {name: torch.zeros(()) for name in ("kl", "image", "reward", "termination")}
    for frames, actions, rewards, ends, eps in zip(*windows[:4], noise, strict=True):
        h, s = torch.zeros(config.memory), torch.zeros(config.stochastic_size)
        action, previous = torch.zeros(2), None
        for t in range(len(frames)):
            h = gru(model, h, s, action)
            feature = model.encode(frames[t : t + 1])[0]
            q, p = model.posterior(h, feature), model.prior(h)
            s = draw(q, eps[t, :-1])
            kl = kl_divergence(reference(q), reference(p)).sum()
            terms["kl"] = terms["kl"] + torch.clamp(kl, min=config.free_nats)
            z = torch.cat([h, s])
            mean = model.networks.decode(z[None])
            decoded = Normal(mean, config.decoder_var**0.5)
            pixels = model.networks.pixels(frames[t : t + 1])
            terms["image"] = terms["image"] - decoded.log_prob(pixels).sum()
            if previous is not None:
                transition = torch.cat([previous, actions[t - 1], z])
                reward = Normal(*model.reward(transition))
                terms["reward"] = terms["reward"] - reward.log_prob(rewards[t - 1]).sum()
                logit = model.termination(transition).mean
                end = Bernoulli(logits=logit).log_prob(ends[t - 1]).sum()
                terms["termination"] = terms["termination"] - end
            previous, action = z, actions[t] if t < len(actions) else action
    return {name: total / len(windows.frames) for name, total in terms.items()}


@pytest.mark.parametrize("config", [SMALL, DISCRETE, SMALL.replace(free_nats=3.0)])
def test_loss_is_the_written_out_bound(config: RSSMConfig) -> None:
    model, windows = make_model(config), make_windows()
    noise = make_noise(model, windows)
    loss = model.loss(windows, noise)
    expected = written_out_loss(model, windows, noise)
    assert loss.terms.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(loss.terms[name], term, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(loss.total, sum(loss.terms.values()))


@pytest.mark.parametrize("balance", [0.0, 0.8, 1.0])
def test_balance_says_whom_the_kl_trains(balance: float) -> None:
    model, windows = make_model(SMALL.replace(kl_balance=balance)), make_windows()
    noise = make_noise(model, windows)
    kl = model.loss(windows, noise).terms["kl"]
    last = [model.prior.net[-1].weight, model.posterior.net[-1].weight]
    to_prior, to_posterior = torch.autograd.grad(kl, last)
    plain = written_out_loss(model, windows, noise)["kl"]
    whole = torch.autograd.grad(plain, model.prior.net[-1].weight)[0]
    torch.testing.assert_close(to_prior, balance * whole, rtol=1e-4, atol=1e-5)
    # The posterior also moves the KLs of later steps through the memory, which the prior reads.
    assert bool(to_posterior.any())


def test_a_kl_below_the_free_nats_trains_nothing() -> None:
    model, windows = make_model(SMALL.replace(free_nats=1e6)), make_windows()
    kl = model.loss(windows, make_noise(model, windows)).terms["kl"]
    gradients = torch.autograd.grad(kl, list(model.prior.parameters()))
    assert not any(bool(g.any()) for g in gradients)
    torch.testing.assert_close(kl, torch.tensor(5e6))


# Inference over windows always samples, and noise of zero is not the mean of categories.
@pytest.mark.parametrize(("config", "sampled"), [(SMALL, False), (SMALL, True), (DISCRETE, True)])
def test_filtering_step_by_step_is_inference_over_the_window(
    config: RSSMConfig, sampled: bool
) -> None:
    model, windows = make_model(config), make_windows()
    noise = make_noise(model, windows)[..., :-1] * sampled
    features = model.encode(windows.frames.flatten(0, 1)).unflatten(0, (3, 5))
    posterior = model.infer(features, windows.actions, noise)
    belief = model.initial(windows.frames[:, 0], noise[:, 0] if sampled else None)
    for t in range(5):
        if t:
            step = noise[:, t] if sampled else None
            belief = model.filter(belief, windows.actions[:, t - 1], windows.frames[:, t], step)
        torch.testing.assert_close(belief.h, posterior.h[:, t])
        torch.testing.assert_close(belief.s, posterior.s[:, t])


def test_latent_is_memory_then_state() -> None:
    model = make_model()
    belief = model.initial(make_windows().frames[:, 0])
    torch.testing.assert_close(model.latent(belief), torch.cat(tuple(belief), 1))
    assert model.latent_size == 8


def test_prediction_takes_the_prior_and_ignores_frames() -> None:
    model, windows = make_model(), make_windows()
    belief, action = model.initial(windows.frames[:, 0]), windows.actions[:, 0]
    predicted = model.predict(belief, action)
    for row in range(3):
        h = gru(model, belief.h[row], belief.s[row], action[row])
        torch.testing.assert_close(predicted.h[row], h)
        torch.testing.assert_close(predicted.s[row], model.prior(h).mean)


def test_the_first_memory_is_that_of_nothing_seen_and_nothing_done() -> None:
    model = make_model()
    belief: RSSMBelief = model.initial(make_windows().frames[:, 0])
    expected = gru(model, torch.zeros(5), torch.zeros(3), torch.zeros(2))
    torch.testing.assert_close(belief.h, expected.expand(3, -1))


def test_only_the_drawn_share_of_the_frames_is_reconstructed() -> None:
    windows = make_windows(batch=4)
    count, drawn = windows.frames.shape[1], 2
    whole, part = make_model(), make_model(SMALL.replace(decoded_fraction=drawn / count))
    noise = make_noise(whole, windows)
    noise[..., -1] = -1.0
    noise[:, :drawn, -1] = 1.0  # the first frames of each window are drawn
    first = cut(windows, slice(None), frames=drawn)
    expected = whole.loss(first, noise[:, :drawn]).terms["image"] * (count / drawn)
    torch.testing.assert_close(part.loss(windows, noise).terms["image"], expected)


def cut(windows: WindowTensors, rows: slice, *, frames: int) -> WindowTensors:
    """The first frames of some windows."""
    assert windows.rewards is not None
    return WindowTensors(
        windows.frames[rows, :frames],
        windows.actions[rows, : frames - 1],
        windows.rewards[rows, : frames - 1],
        windows.terminations[rows, : frames - 1],
    )


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_the_loss_is_the_mean_of_those_of_its_windows(fraction: float) -> None:
    """So that processes may each compute some of them."""
    windows = make_windows(batch=5)
    model = make_model(SMALL.replace(decoded_fraction=fraction))
    noise, frames = make_noise(model, windows), windows.frames.shape[1]
    whole = model.loss(windows, noise)
    few, many = slice(0, 2), slice(2, 5)
    parts = [model.loss(cut(windows, rows, frames=frames), noise[rows]) for rows in (few, many)]
    for name, term in {**whole.terms, "total": whole.total}.items():
        ours = [{**part.terms, "total": part.total}[name] for part in parts]
        torch.testing.assert_close((2 * ours[0] + 3 * ours[1]) / 5, term, msg=name)


@pytest.mark.parametrize("size", [2, 3, 16])
def test_a_latent_has_the_size_that_was_asked_for(size: int) -> None:
    model = make_model(SMALL.replace(**RSSMConfig.latent_options(size)))
    assert model.latent(model.initial(make_windows().frames[:, 0])).shape == (3, size)
    assert model.latent_size == size


def test_a_latent_without_room_for_memory_and_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 dimensions, got 1"):
        RSSMConfig.latent_options(1)


def test_training_lowers_the_loss() -> None:
    for config in (SMALL, DISCRETE):
        model, windows = make_model(config), make_windows(batch=8)
        adam = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(60):
            loss = model.loss(windows, make_noise(model, windows)).total
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]
