"""The deterministic kind against the losses that its documentation states."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from latentwrap.actions import ActionSpec
from latentwrap.models import DeterministicConfig, DeterministicModel, WindowTensors
from latentwrap.pixels import FrameSpec

FRAME = FrameSpec(height=16, width=16)
SMALL = DeterministicConfig(
    network="patch", patch=8, widths=(4, 8), features=12, z=6, hidden=(16,), activation="elu"
)
SINGLE = SMALL.replace(recursive=False)


def make_model(config: DeterministicConfig = SMALL) -> DeterministicModel:
    action = ActionSpec(spaces.Box(-1, 1, (2,)))
    generator = torch.Generator().manual_seed(0)
    return DeterministicModel(config, FRAME, action, generator=generator)


def make_windows(batch: int = 3, length: int = 4) -> WindowTensors:
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(
        0, 256, (batch, length + 1, *FRAME.shape), dtype=torch.uint8, generator=g
    )
    actions = 2 * torch.rand(batch, length, 2, generator=g) - 1
    return WindowTensors(frames, actions, torch.randn(batch, length), torch.zeros(batch, length))


def latents_one_by_one(model: DeterministicModel, windows: WindowTensors) -> Tensor:
    """z_t = f(x_t, z_{t-1}, a_{t-1}), or f(x_t), of one frame after the other."""
    rows = []
    for frames, actions in zip(windows.frames, windows.actions, strict=True):
        z, action, series = torch.zeros(model.config.z), torch.zeros(2), []
        for t in range(len(frames)):
            feature = model.encode(frames[t : t + 1])[0]
            before = [z, action] if model.config.recursive else []
            z = model.state(torch.cat([feature, *before]))
            action = actions[t] if t < len(actions) else action
            series.append(z)
        rows.append(torch.stack(series))
    return torch.stack(rows)


@pytest.mark.parametrize("config", [SMALL, SINGLE])
def test_loss_is_the_mean_squared_error_of_pixels_and_predictions(
    config: DeterministicConfig,
) -> None:
    model, windows = make_model(config), make_windows()
    loss = model.loss(windows, torch.zeros(3, 5, model.loss_noise_size))
    z = latents_one_by_one(model, windows)
    mean = model.networks.decode(z.flatten(0, 1))
    pixels = model.networks.pixels(windows.frames.flatten(0, 1))
    image = torch.stack([(m - p).square().mean() for m, p in zip(mean, pixels, strict=True)])
    errors = [
        (model.dynamics(torch.cat([z[b, t], windows.actions[b, t]])) - z[b, t + 1]).square()
        for b in range(3)
        for t in range(4)
    ]
    torch.testing.assert_close(loss.terms["image"], image.mean())
    torch.testing.assert_close(loss.terms["prediction"], torch.stack(errors).mean())
    assert loss.terms.keys() == {"image", "prediction"}
    torch.testing.assert_close(loss.total, loss.terms["image"] + loss.terms["prediction"])


def test_weights_scale_the_terms_in_the_total() -> None:
    model = make_model(SMALL.replace(image_weight=2.0, prediction_weight=0.5))
    loss = model.loss(make_windows(), torch.zeros(3, 5, model.loss_noise_size))
    expected = 2 * loss.terms["image"] + 0.5 * loss.terms["prediction"]
    torch.testing.assert_close(loss.total, expected)


@pytest.mark.parametrize("config", [SMALL, SINGLE])
def test_the_filter_computes_what_the_loss_sees(config: DeterministicConfig) -> None:
    model, windows = make_model(config), make_windows()
    expected = latents_one_by_one(model, windows)
    belief = model.initial(windows.frames[:, 0])
    torch.testing.assert_close(model.latent(belief), expected[:, 0])
    for t in range(4):
        belief = model.filter(belief, windows.actions[:, t], windows.frames[:, t + 1])
        torch.testing.assert_close(model.latent(belief), expected[:, t + 1])


def test_without_recursion_a_latent_depends_on_its_frame_alone() -> None:
    windows = make_windows()
    for config, alone in ((SINGLE, True), (SMALL, False)):
        model = make_model(config)
        first = model.initial(windows.frames[:, 0])
        later = model.filter(first, windows.actions[:, 0], windows.frames[:, 1])
        same = model.initial(windows.frames[:, 1])
        assert torch.allclose(model.latent(later), model.latent(same)) is alone


def test_prediction_is_that_of_the_dynamics() -> None:
    model, windows = make_model(), make_windows()
    belief = model.initial(windows.frames[:, 0])
    expected = model.dynamics(torch.cat([belief.z, windows.actions[:, 0]], 1))
    torch.testing.assert_close(model.predict(belief, windows.actions[:, 0]).z, expected)


def test_training_lowers_the_loss() -> None:
    model, windows = make_model(), make_windows(batch=8)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model.loss(windows, torch.zeros(8, 5, 1)).total
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
