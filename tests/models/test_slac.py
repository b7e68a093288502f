"""The SLAC model against its own equations, written out with torch.distributions."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from latentwrap.actions import ActionSpec
from latentwrap.models import SLACConfig, SLACModel, WindowTensors
from latentwrap.models.distributions import Gaussian
from latentwrap.pixels import FrameSpec

FRAME = FrameSpec(height=16, width=16)
SMALL = SLACConfig(
    network="patch",
    patch=4,
    widths=(4, 4, 8),
    features=12,
    z1=3,
    z2=5,
    hidden=(16, 16),
    terminations=True,
)


def make_model(config: SLACConfig = SMALL, seed: int = 0) -> SLACModel:
    action = ActionSpec(spaces.Box(-1, 1, (2,)))
    generator = torch.Generator().manual_seed(seed)
    return SLACModel(config, FRAME, action, generator=generator)


def make_windows(batch: int = 3, length: int = 4, seed: int = 0) -> WindowTensors:
    g = torch.Generator().manual_seed(seed)
    shape = (batch, length + 1, *FRAME.shape)
    return WindowTensors(
        frames=torch.randint(0, 256, shape, dtype=torch.uint8, generator=g),
        actions=2 * torch.rand(batch, length, 2, generator=g) - 1,
        rewards=torch.randn(batch, length, generator=g),
        terminations=(torch.rand(batch, length, generator=g) < 0.3).float(),
    )


def make_noise(model: SLACModel, windows: WindowTensors, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*windows.frames.shape[:2], model.loss_noise_size, generator=g)


def normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, gaussian.std)


def first_z2(model: SLACModel, z1: Tensor) -> Gaussian:
    """p(z2_1|z1_1): a network of its own, or the later one with nothing before."""
    if model.config.shared_first:
        return model.z2_prior(torch.cat([z1, torch.zeros(model.config.z2 + 2)]))
    return model.z2_prior_first(z1)


def written_out_loss(model: SLACModel, windows: WindowTensors, noise: Tensor) -> dict[str, Tensor]:
    """The loss of one window after the other, one step after the other."""
    terms = {name: torch.zeros(()) for name in ("kl", "image", "reward", "termination")}
    sizes = [model.config.z1, model.config.z2]
    for frames, actions, rewards, ends, eps in zip(*windows[:4], noise, strict=True):
        pixels = model.networks.pixels(frames)
        z1 = z2 = previous = None
        for t in range(len(frames)):
            eps1, eps2 = eps[t, :-1].split(sizes)
            feature = model.networks.encode(frames[t : t + 1])[0]
            if previous is None:
                q = normal(model.z1_posterior_first(feature))
                p = Normal(torch.zeros(sizes[0]), torch.ones(sizes[0]))
                z1 = q.loc + q.scale * eps1
                p2 = normal(first_z2(model, z1))
            else:
                action = actions[t - 1]
                q = normal(model.z1_posterior(torch.cat([feature, z2, action])))
                p = normal(model.z1_prior(torch.cat([z2, action])))
                z1 = q.loc + q.scale * eps1
                p2 = normal(model.z2_prior(torch.cat([z1, z2, action])))
            z2 = p2.loc + p2.scale * eps2
            z = z2 if model.config.z2_only else torch.cat([z1, z2])
            terms["kl"] = terms["kl"] + kl_divergence(q, p).sum()
            mean = model.networks.decode(z[None])[0]
            decoded = Normal(mean, model.config.decoder_var**0.5)
            terms["image"] = terms["image"] - decoded.log_prob(pixels[t]).sum()
            if previous is not None:
                transition = torch.cat([previous, actions[t - 1], z])
                reward = normal(model.reward(transition))
                terms["reward"] = terms["reward"] - reward.log_prob(rewards[t - 1]).sum()
                logit = model.termination(transition).mean
                terms["termination"] = (
                    terms["termination"] - Bernoulli(logits=logit).log_prob(ends[t - 1]).sum()
                )
            previous = z
    return {name: total / len(windows.frames) for name, total in terms.items()}


@pytest.mark.parametrize("shared_first", [False, True])
@pytest.mark.parametrize("z2_only", [False, True])
@pytest.mark.parametrize("activation", ["leaky_relu", "elu"])
def test_loss_is_the_written_out_bound(shared_first: bool, z2_only: bool, activation: str) -> None:
    config = SMALL.replace(shared_first=shared_first, z2_only=z2_only, activation=activation)
    model, windows = make_model(config), make_windows()
    noise = make_noise(model, windows)
    loss = model.loss(windows, noise)
    expected = written_out_loss(model, windows, noise)
    assert loss.terms.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(loss.terms[name], term, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(loss.total, sum(loss.terms.values()))


def test_z2_alone_begins_with_little_noise() -> None:
    model = make_model(SMALL.replace(**SLACConfig.latent_options(3)))
    std = model.z2_prior(torch.zeros(1, 8)).std  # nothing in, so only biases
    first = model.z2_prior_first(torch.zeros(1, 3)).std
    for found in (std, first):
        torch.testing.assert_close(found, torch.full((1, 3), 0.05), rtol=1e-3, atol=0)
    usual = make_model().z2_prior(torch.zeros(1, 10)).std
    torch.testing.assert_close(usual, torch.full((1, 5), 2.0).log(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("network", ["paper", "patch"])
def test_errors_of_blurred_frames_come_to_those_of_the_pixels(network: str) -> None:
    windows = make_windows()
    plain, blurred = (
        make_model(SMALL.replace(network=network, blurred_weight=weight)) for weight in (0.0, 2.0)
    )
    noise = make_noise(plain, windows)
    without, with_blur = (model.loss(windows, noise).terms for model in (plain, blurred))
    assert with_blur["image"] > without["image"] + 1
    torch.testing.assert_close(with_blur["kl"], without["kl"])


def test_weights_scale_the_terms_in_the_total() -> None:
    config = SMALL.replace(kl_weight=0.5, image_weight=2.0, reward_weight=3.0, terminations=False)
    model, windows = make_model(config), make_windows()
    loss = model.loss(windows, make_noise(model, windows))
    t = loss.terms
    expected = 0.5 * t["kl"] + 2 * t["image"] + 3 * t["reward"]
    torch.testing.assert_close(loss.total, expected)


def test_gradients_are_those_of_the_written_out_bound() -> None:
    model, windows = make_model(), make_windows(batch=2, length=3)
    noise = make_noise(model, windows)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(model.loss(windows, noise).total, parameters)
    total = sum(written_out_loss(model, windows, noise).values())
    for mine, expected in zip(ours, torch.autograd.grad(total, parameters), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampled", [False, True])
def test_filtering_step_by_step_is_inference_over_the_window(sampled: bool) -> None:
    model, windows = make_model(), make_windows()
    noise = make_noise(model, windows)[..., :-1] if sampled else None
    features = model.encode(windows.frames.flatten(0, 1))
    posterior = model.infer(
        features.unflatten(0, windows.frames.shape[:2]),
        windows.actions,
        noise if sampled else torch.zeros(3, 5, model.noise_size),
    )
    belief = model.initial(windows.frames[:, 0], noise[:, 0] if sampled else None)
    for t in range(5):
        if t:
            step_noise = noise[:, t] if sampled else None
            belief = model.filter(
                belief, windows.actions[:, t - 1], windows.frames[:, t], step_noise
            )
        torch.testing.assert_close(belief.z1, posterior.z1[:, t])
        torch.testing.assert_close(belief.z2, posterior.z2[:, t])


def test_latent_is_z1_then_z2() -> None:
    model = make_model()
    belief = model.initial(make_windows().frames[:, 0])
    torch.testing.assert_close(model.latent(belief), torch.cat([belief.z1, belief.z2], 1))
    assert model.latent_size == 8


def test_prediction_takes_the_prior_and_ignores_frames() -> None:
    model, windows = make_model(), make_windows()
    belief = model.initial(windows.frames[:, 0])
    action = windows.actions[:, 0]
    predicted = model.predict(belief, action)
    torch.testing.assert_close(predicted.z1, model.z1_prior(belief.z2, action).mean)
    expected = model.z2_prior(predicted.z1, belief.z2, action).mean
    torch.testing.assert_close(predicted.z2, expected)


def test_decoded_frames_are_bytes_of_the_decoder_mean() -> None:
    model = make_model()
    belief = model.initial(make_windows().frames[:, 0])
    frames = model.decode(belief)
    assert frames.dtype == torch.uint8
    assert frames.shape == (3, *FRAME.shape)
    mean = model.networks.decode(model.latent(belief)).clamp(0, 1)
    assert (model.networks.pixels(frames) - mean).abs().max() <= 0.5 / 255 + 1e-6


def test_rewards_are_standardised_when_asked() -> None:
    config = SMALL.replace(standardize_rewards=True, terminations=False)
    windows = make_windows()
    plain, scaled = make_model(config), make_model(config)
    scaled.fit_rewards(mean=-5.0, std=4.0)
    noise = make_noise(plain, windows)
    shifted = windows._replace(rewards=windows.rewards * 4.0 - 5.0)
    torch.testing.assert_close(
        plain.loss(windows, noise).terms["reward"], scaled.loss(shifted, noise).terms["reward"]
    )


def test_paper_rewards_are_left_as_they_are() -> None:
    model = make_model()
    model.fit_rewards(mean=-5.0, std=4.0)
    assert model.reward_scale.tolist() == [0.0, 1.0]


def test_a_reward_that_was_never_seen_before_does_not_drown_the_pixels() -> None:
    """Random actions earned nothing, or once in 10,000 steps; then the agent finds the goal."""
    windows, config = make_windows(), SMALL.replace(standardize_rewards=True)
    plain = make_model(config)
    noise = make_noise(plain, windows)
    for std, seen in ((0.0, 1.0), (0.01, 10.0)):
        model = make_model(config)
        model.fit_rewards(mean=0.0, std=std)
        found = model.loss(windows._replace(rewards=torch.ones(3, 4)), noise)
        expected = plain.loss(windows._replace(rewards=torch.full((3, 4), seen)), noise)
        torch.testing.assert_close(found.terms["reward"], expected.terms["reward"])


def test_a_constant_reward_keeps_the_loss_finite() -> None:
    model = make_model(SMALL.replace(standardize_rewards=True, min_reward_std=0.1))
    model.fit_rewards(mean=1.0, std=0.0)
    windows = make_windows()._replace(rewards=torch.ones(3, 4))
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        loss = model.loss(windows, make_noise(model, windows, seed=step))
        adam.zero_grad()
        loss.total.backward()
        adam.step()
    assert torch.isfinite(loss.total)
    # Four steps, none with a density above the peak of N(0, 0.1²).
    peak = Normal(0.0, 0.1).log_prob(torch.tensor(0.0))
    assert loss.terms["reward"] >= -4 * peak - 1e-3


def test_without_rewards_there_is_no_reward_term() -> None:
    windows = make_windows()._replace(rewards=None)
    model = make_model(SMALL.replace(rewards=False))
    assert model.reward is None
    assert "reward" not in model.loss(windows, make_noise(model, windows)).terms


def test_training_lowers_the_loss() -> None:
    model, windows = make_model(), make_windows(batch=8)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = model.loss(windows, make_noise(model, windows, seed=step)).total
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
