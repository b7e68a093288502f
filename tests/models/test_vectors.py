"""Models beside whose frames come vectors: seen and explained, or left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.conftest import STOCHASTIC, TINY, make_tiny_model
from torch import Tensor
from torch.distributions import Normal

import latentwrap
from latentwrap import storage
from latentwrap.actions import ActionSpec
from latentwrap.errors import CheckpointError, ConfigError, LatentwrapError
from latentwrap.models import LatentModel, SLACModel, WindowTensors, build_model, save_model
from latentwrap.models.checkpoint import FORMAT
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

ARM = VectorSpec(names=("joints", "gripper"), sizes=(2, 1))
FRAME = FrameSpec(height=16, width=16)


def make_model(kind: str, **options: Any) -> Any:
    """A model that sees three numbers beside each frame."""
    return build_model(
        "rssm" if kind == "discrete" else kind,
        {**TINY[kind], "vectors": True, **options},
        frame_spec=FRAME,
        action_spec=ActionSpec(spaces.Box(-1, 1, (2,))),
        vector_spec=ARM,
        generator=torch.Generator().manual_seed(0),
    )


def make_windows(batch: int = 3, length: int = 4) -> WindowTensors:
    g = torch.Generator().manual_seed(0)
    shape = (batch, length + 1, *FRAME.shape)
    return WindowTensors(
        frames=torch.randint(0, 256, shape, dtype=torch.uint8, generator=g),
        actions=2 * torch.rand(batch, length, 2, generator=g) - 1,
        rewards=torch.randn(batch, length, generator=g),
        terminations=torch.zeros(batch, length),
        vectors=torch.randn(batch, length + 1, 3, generator=g),
    )


def make_noise(model: LatentModel, windows: WindowTensors) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randn(*windows.frames.shape[:2], model.loss_noise_size, generator=g)


def filtered(model: Any, windows: WindowTensors, noise: Tensor | None = None) -> Tensor:
    """Latents step by step, (B, L+1, d)."""
    assert windows.vectors is not None
    belief, latents = None, []
    for t in range(windows.frames.shape[1]):
        frame, vectors = windows.frames[:, t], windows.vectors[:, t]
        draw = None if noise is None else noise[:, t]
        if belief is None:
            belief = model.initial(frame, draw, vectors)
        else:
            belief = model.filter(belief, windows.actions[:, t - 1], frame, draw, vectors)
        latents.append(model.latent(belief))
    return torch.stack(latents, dim=1)


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_the_loss_is_that_of_a_gaussian_of_unit_variance_given_the_latent(kind: str) -> None:
    model, windows = make_model(kind), make_windows()
    noise = make_noise(model, windows)
    # The same noise gives the same samples to the loss and to the filter.
    latents = filtered(model, windows, noise[..., :-1])
    mean = model.vector_head(latents)
    expected = -Normal(mean, 1.0).log_prob(windows.vectors).sum(dim=(1, 2)).mean()
    torch.testing.assert_close(model.loss(windows, noise).terms["vectors"], expected)


def test_without_distributions_the_loss_is_a_mean_squared_error() -> None:
    model, windows = make_model("deterministic"), make_windows()
    error = model.vector_head(filtered(model, windows)) - windows.vectors
    found = model.loss(windows, make_noise(model, windows)).terms["vectors"]
    torch.testing.assert_close(found, error.square().mean())


@pytest.mark.parametrize("kind", TINY)
def test_the_weight_counts_the_term_and_no_other(kind: str) -> None:
    windows = make_windows()
    one, three = make_model(kind), make_model(kind, vector_weight=3.0)
    noise = make_noise(one, windows)
    ours, theirs = one.loss(windows, noise), three.loss(windows, noise)
    assert ours.terms == theirs.terms
    torch.testing.assert_close(theirs.total - ours.total, 2 * ours.terms["vectors"])


@pytest.mark.parametrize("kind", TINY)
def test_vectors_that_are_not_seen_change_nothing(kind: str) -> None:
    """Weights and losses are those of a model of data without any, bit for bit."""
    blind = make_tiny_model(kind=kind, vectors=ARM)
    plain = make_tiny_model(kind=kind)
    assert not blind.sees_vectors
    assert blind.vector_spec == ARM
    ours, theirs = blind.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert blind.prepare_vectors(np.zeros((1, 3), np.float32)) is None


@pytest.mark.parametrize("kind", TINY)
def test_each_vector_reaches_the_belief(kind: str) -> None:
    model, windows = make_model(kind), make_windows()
    assert windows.vectors is not None
    before = filtered(model, windows)
    for column in range(3):
        changed = windows.vectors.clone()
        changed[:, 2, column] += 1
        after = filtered(model, windows._replace(vectors=changed))
        torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0, atol=0)
        assert (after[:, 2] - before[:, 2]).abs().amax() > 1e-4


@pytest.mark.parametrize("kind", TINY)
def test_missing_and_unwanted_vectors_are_refused(kind: str) -> None:
    windows = make_windows()
    frame, action = windows.frames[:, 0], windows.actions[:, 0, :1]
    vectors = torch.zeros(3, 3)
    sees = make_tiny_model(kind=kind, vectors=ARM, sees_vectors=True)
    blind = make_tiny_model(kind=kind)
    with pytest.raises(LatentwrapError, match=r"sees the vectors joints, gripper .* got none"):
        sees.initial(frame)
    with pytest.raises(LatentwrapError, match=r"sees the vectors joints, gripper .* got none"):
        sees.filter(sees.initial(frame, vectors=vectors), action, frame)
    with pytest.raises(LatentwrapError, match="sees frames alone, got vectors"):
        blind.initial(frame, vectors=vectors)
    with pytest.raises(LatentwrapError, match="sees frames alone, got vectors"):
        blind.filter(blind.initial(frame), action, frame, vectors=vectors)


def test_a_model_that_is_to_see_vectors_requires_some() -> None:
    specs = {"frame_spec": FRAME, "action_spec": ActionSpec(spaces.Discrete(2))}
    with pytest.raises(ConfigError, match="vectors=True requires data with vectors"):
        build_model("slac", {**TINY["slac"], "vectors": True}, **specs)


def test_prepared_vectors_are_standardised_and_clipped() -> None:
    model = make_tiny_model(vectors=ARM, sees_vectors=True)
    statistics = model.vector_normalizer
    assert statistics is not None
    raw = np.float32([[0.5, -1, 2], [1e6, -1e6, 0]])
    prepared = model.prepare_vectors(raw)
    assert prepared is not None
    by_hand = (raw - statistics.mean) / statistics.std
    np.testing.assert_allclose(prepared.numpy(), by_hand.clip(-10, 10), rtol=1e-6)
    with pytest.raises(LatentwrapError, match=r"3 numbers in the vectors joints, gripper .* none"):
        model.prepare_vectors(None)
    with pytest.raises(LatentwrapError, match=r"got an array \(2, 2\)"):
        model.prepare_vectors(raw[:, :2])
    model.vector_normalizer = None
    with pytest.raises(LatentwrapError, match="no statistics"):
        model.prepare_vectors(raw)


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("sees", [False, True])
def test_a_checkpoint_brings_vectors_back(tmp_path: Path, kind: str, sees: bool) -> None:
    path = tmp_path / "m.safetensors"
    model = make_tiny_model(kind=kind, vectors=ARM, sees_vectors=sees)
    save_model(path, model, training={})
    loaded = latentwrap.load_model(path)
    assert loaded.vector_spec == ARM
    assert loaded.sees_vectors == sees
    ours, theirs = model.vector_normalizer, loaded.vector_normalizer
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(theirs.mean, ours.mean)
    np.testing.assert_array_equal(theirs.std, ours.std)
    frame, raw = torch.full((1, 16, 16, 3), 9, dtype=torch.uint8), np.ones((1, 3), np.float32)
    latents = [m.latent(m.initial(frame, vectors=m.prepare_vectors(raw))) for m in (model, loaded)]
    torch.testing.assert_close(*latents, rtol=0, atol=0)


def test_a_model_without_statistics_of_its_vectors_is_not_saved(tmp_path: Path) -> None:
    model = make_tiny_model(vectors=ARM)
    model.vector_normalizer = None
    with pytest.raises(CheckpointError, match="vector statistics"):
        save_model(tmp_path / "m.safetensors", model, training={})


def rewrite(path: Path, **changes: object) -> None:
    stored = storage.load(path, file_format=FORMAT, what="checkpoint")
    kept = {name: value for name, value in stored.document.items() if name not in changes}
    given = {name: value for name, value in changes.items() if value is not ...}
    storage.save(path, stored.tensors, {**kept, **given})


def test_a_checkpoint_from_before_there_were_vectors_loads(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = make_tiny_model()
    save_model(path, model, training={})
    options = model.config.model_dump(mode="json", exclude={"vectors", "vector_weight"})
    frame = model.frame_spec.model_dump(mode="json", exclude={"cameras"})
    rewrite(path, vectors=..., config=options, frame=frame)
    assert "vectors" not in storage.load(path, file_format=FORMAT, what="checkpoint").document
    loaded = latentwrap.load_model(path)
    assert loaded.config == model.config
    assert loaded.vector_spec == VectorSpec()
    assert loaded.vector_normalizer is None


@pytest.mark.parametrize(
    "vectors",
    [
        None,
        {},
        {"spec": {"names": ["a"], "sizes": [1]}, "statistics": {"mean": [0.0], "std": [1.0]}},
        {"spec": {"names": ["a"], "sizes": [3]}, "statistics": {"mean": [0.0], "std": [1.0]}},
        {"spec": {"size": 3}, "statistics": {"mean": [0.0] * 3, "std": [1.0] * 3}},
    ],
    ids=str,
)
def test_metadata_that_describes_no_model_is_refused(tmp_path: Path, vectors: object) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, make_tiny_model(vectors=ARM, sees_vectors=True), training={})
    rewrite(path, vectors=vectors)
    with pytest.raises(CheckpointError, match=r"m\.safetensors does not describe a model"):
        latentwrap.load_model(path)


def test_a_latent_of_z2_alone_explains_vectors_too() -> None:
    model: SLACModel = make_model("slac", z2_only=True)
    windows = make_windows()
    loss = model.loss(windows, make_noise(model, windows))
    loss.terms["vectors"].backward()
    assert model.vector_head is not None
    assert model.vector_head[0].in_features == model.config.z2
    assert model.z2_prior.net[-1].weight.grad is not None
