"""Loss and KL per dimension against the training loss and torch.distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import TINY, make_tiny_model
from tests.evaluation.dots import DotModel, write_dots
from torch.distributions import Normal, kl_divergence

from latentwrap.datasets import Dataset, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.evaluation.information import information_of, measure_windows
from latentwrap.evaluation.throughput import measure_throughput
from latentwrap.models import KINDS, SLACModel, WindowTensors, load_model
from latentwrap.training import pretrain


def make_windows(length: int) -> WindowTensors:
    g = torch.Generator().manual_seed(0)
    return WindowTensors(
        frames=torch.randint(0, 256, (5, length + 1, 16, 16, 3), dtype=torch.uint8, generator=g),
        actions=2 * torch.rand(5, length, 1, generator=g) - 1,
        rewards=torch.zeros(5, length),
        terminations=torch.zeros(5, length),
    )


@torch.no_grad()
def test_kl_per_dimension_is_the_kl_of_the_loss_without_the_first_step() -> None:
    model, windows = make_tiny_model(kind="slac"), make_windows(6)
    assert isinstance(model, SLACModel)
    noise = torch.randn(5, 7, model.loss_noise_size, generator=torch.Generator().manual_seed(1))
    first = model.z1_posterior_first(model.encode(windows.frames[:, 0]))
    first_kl = kl_divergence(Normal(first.mean, first.std), Normal(0.0, 1.0)).sum() / 5
    found = model.kl_per_dimension(windows, noise)
    assert found.shape == (model.config.z1,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(6 * found.sum(), model.loss(windows, noise).terms["kl"] - first_kl)


def test_kinds_without_a_kl_have_no_dimensions() -> None:
    windows = make_windows(2)
    assert DotModel().kl_per_dimension(windows, torch.zeros(5, 3, 0)).shape == (0,)


def test_dimensions_above_a_hundredth_of_a_nat_are_active() -> None:
    result = information_of(np.array([0.5, 0.009, 0.011, 0.0]))
    assert result.active == 2
    assert result.total == pytest.approx(0.52)
    assert information_of(np.zeros(0)).active == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_what_training_recorded(tmp_path: Path, kind: str) -> None:
    data, checkpoint = tmp_path / "d.h5", tmp_path / "m.safetensors"
    collect(PIXEL_PENDULUM, data, steps=600, seed=0, height=16, width=16)
    options = {**TINY[kind], "steps": 2, "window": 5, "batch_size": 8}
    recorded = pretrain(data, checkpoint, kind=kind, options=options).heldout
    model = load_model(checkpoint)
    assert model.checkpoint is not None
    heldout = np.array(model.checkpoint.document["training"]["heldout_episodes"])
    found = measure_windows(model, Dataset(data), heldout)
    assert (found.loss.window, found.loss.windows) == (5, 64)
    assert found.loss.terms == pytest.approx(recorded, rel=1e-5)
    assert len(found.information.kl) == (0 if kind == "deterministic" else 3)


def test_windows_are_shorter_where_episodes_are(tmp_path: Path) -> None:
    data = write_dots(tmp_path / "short.h5", [3, 2])
    found = measure_windows(DotModel(), data, np.arange(2))
    assert (found.loss.window, found.loss.windows) == (3, 1)
    mean = data.frames(slice(0, 4)).mean()
    assert found.loss.terms == pytest.approx({"image": mean, "loss": 2 * mean})
    assert found.information.kl == []


def test_throughput_is_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentwrap.evaluation.throughput._SECONDS", 0.02)
    speed = measure_throughput(make_tiny_model())
    assert speed.filter_hz * speed.filter_ms == pytest.approx(1000)
    assert min(speed.filter_fps, speed.imagine_fps) > 0
    assert speed.device == "cpu"
