"""One update of a model against Adam by hand; what a diverged one leaves; going on."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import TINY, make_tiny_model

from latentwrap.datasets import Windows
from latentwrap.errors import TrainingDiverged
from latentwrap.models import LatentModel, WindowTensors
from latentwrap.pixels import FrameSpec
from latentwrap.training.recipes import TrainingConfig
from latentwrap.training.updater import ModelUpdater, draw_noise, to_tensors
from latentwrap.vectors import VectorSpec

FRAME = FrameSpec(height=16, width=16)
VECTORS = VectorSpec(names=("joints",), sizes=(3,))
BATCH, LENGTH = 3, 4
CONFIG = TrainingConfig(learning_rate=0.01, batch_size=BATCH)


def make_model(kind: str = "rssm", **options: Any) -> LatentModel:
    model = make_tiny_model(kind=kind, frame=FRAME, **options)
    return model.train()


def make_windows(seed: int = 0, *, vectors: bool = False) -> Windows:
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(BATCH, LENGTH + 1, 3)).astype(np.float32) if vectors else None
    return Windows(
        frames=rng.integers(0, 256, (BATCH, LENGTH + 1, *FRAME.shape), np.uint8),
        actions=rng.uniform(-1, 1, (BATCH, LENGTH, 1)).astype(np.float32),
        rewards=rng.normal(size=(BATCH, LENGTH)).astype(np.float32),
        terminations=rng.random((BATCH, LENGTH)) < 0.2,
        vectors=seen,
    )


def tensors_of(windows: Windows, model: LatentModel) -> WindowTensors:
    seen = None
    if windows.vectors is not None and model.sees_vectors:
        assert model.vector_normalizer is not None
        seen = torch.from_numpy(model.vector_normalizer.normalize(windows.vectors))
    return WindowTensors(
        torch.from_numpy(windows.frames),
        torch.from_numpy(windows.actions),
        torch.from_numpy(windows.rewards),
        torch.from_numpy(windows.terminations.astype(np.float32)),
        seen,
    )


def step_by_hand(
    model: LatentModel, adam: torch.optim.Adam, windows: Windows, noise: torch.Tensor, limit: float
) -> dict[str, torch.Tensor]:
    loss = model.loss(tensors_of(windows, model), noise)
    adam.zero_grad()
    loss.total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    for gradient in gradients:
        gradient.mul_(min(1.0, limit / norm))
    adam.step()
    return {"loss": loss.total.detach(), **{k: v.detach() for k, v in loss.terms.items()}}


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("kind", TINY)
def test_updates_are_those_of_adam(kind: str, limit: float | None) -> None:
    seen = {"vectors": VECTORS, "sees_vectors": True} if kind == "rssm" else {}
    model, twin = make_model(kind, **seen), make_model(kind, **seen)
    updater = ModelUpdater(model, CONFIG.replace(max_grad_norm=limit), seed=4)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01)
    noise = torch.Generator().manual_seed(4)
    for seed in range(3):
        windows = make_windows(seed, vectors=bool(seen))
        shape = (BATCH, LENGTH + 1, twin.loss_noise_size)
        drawn = torch.randn(shape, generator=noise)
        with torch.no_grad():
            flat = tensors_of(windows, twin)
            vectors = None if flat.vectors is None else flat.vectors.flatten(0, 1)
            features = twin.see(flat.frames.flatten(0, 1), vectors)
        expected = step_by_hand(twin, adam, windows, drawn, limit or math.inf)
        found = updater.update(windows)
        # What is returned is of the weights before the update, without a graph.
        torch.testing.assert_close(found.total, expected.pop("loss"), rtol=1e-4, atol=1e-4)
        assert found.terms.keys() == expected.keys()
        for name, term in expected.items():
            torch.testing.assert_close(found.terms[name], term, rtol=1e-3, atol=1e-4, msg=name)
            assert not found.terms[name].requires_grad
        torch.testing.assert_close(found.features.flatten(0, 1), features, rtol=1e-3, atol=1e-4)
        assert not found.features.requires_grad
        assert not found.total.requires_grad
    assert updater.steps_done == 3
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-4, msg=name)


def frozen_copy(updater: ModelUpdater) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in updater.state().items()}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_an_update_that_diverges_leaves_everything_as_it_was(what: str) -> None:
    model = make_model()
    updater = ModelUpdater(model, CONFIG, seed=0)
    updater.update(make_windows())
    before = frozen_copy(updater)
    windows = make_windows(1)
    assert windows.rewards is not None
    if what == "loss":
        windows.rewards[0, 0] = np.inf
    else:
        windows.rewards[0, 0] = 1e25  # its square is infinite only in the gradient's norm
    with pytest.raises(TrainingDiverged, match="in step 2 of training: try a smaller"):
        updater.update(windows)
    after = updater.state()
    for name, tensor in before.items():
        if name != "noise":
            assert torch.equal(after[name], tensor), name
    assert updater.steps_done == 1
    updater.update(make_windows(2))
    assert updater.steps_done == 2
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("kind", TINY)
def test_a_restored_updater_goes_on_bit_for_bit(kind: str) -> None:
    whole = ModelUpdater(make_model(kind), CONFIG, seed=1)
    for seed in range(5):
        whole.update(make_windows(seed))
    half = ModelUpdater(make_model(kind), CONFIG, seed=1)
    for seed in range(2):
        half.update(make_windows(seed))
    state = half.state()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    half.update(make_windows(9))
    assert all(torch.equal(state[name], tensor) for name, tensor in kept.items())  # copies
    resumed = ModelUpdater(make_model(kind, seed=7), CONFIG, seed=2)
    resumed.restore(state, 2)
    for seed in range(2, 5):
        resumed.update(make_windows(seed))
    assert resumed.steps_done == whole.steps_done
    expected = whole.state()
    assert resumed.state().keys() == expected.keys()
    for name, tensor in resumed.state().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_model_without_gradients_has_no_moments() -> None:
    model = make_model().requires_grad_(requires_grad=False)
    updater = ModelUpdater(model, CONFIG, seed=0)
    state = updater.state()
    assert not [name for name in state if name.startswith("adam.")]
    ModelUpdater(copy.deepcopy(model), CONFIG, seed=1).restore(state, 0)


def test_windows_become_tensors_as_the_model_takes_them() -> None:
    windows = make_windows(vectors=True)
    blind = to_tensors(windows, make_model(vectors=VECTORS))
    assert blind.vectors is None
    model = make_model(vectors=VECTORS, sees_vectors=True)
    tensors = to_tensors(windows, model)
    for ours, theirs in zip(tensors, tensors_of(windows, model), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    without = Windows(windows.frames, windows.actions, None, windows.terminations)
    assert to_tensors(without, make_model()).rewards is None
    noise = draw_noise(model, (BATCH, LENGTH + 1), torch.Generator().manual_seed(0))
    assert noise.shape == (BATCH, LENGTH + 1, model.loss_noise_size)
