"""The filter without an environment."""

from __future__ import annotations

import copy
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from tests.conftest import STOCHASTIC, make_tiny_model

from latentwrap import LatentFilter
from latentwrap.errors import CheckpointError, LatentwrapError
from latentwrap.models import LatentModel
from latentwrap.pixels import fit_frame

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 4, 16, 16, 3), dtype=np.uint8)  # (T, num, H, W, C)
ACTIONS = RNG.uniform(-2, 2, (5, 4, 1)).astype(np.float32)


def run(latents: LatentFilter, streams: slice = slice(None)) -> np.ndarray:
    series = [latents.reset(FRAMES[0, streams])]
    for action, frame in zip(ACTIONS, FRAMES[1:], strict=True):
        series.append(latents.step(action[streams], frame[streams]))
    return np.stack(series)


def test_it_computes_the_models_mean_latents(tiny_model: LatentModel) -> None:
    belief = tiny_model.initial(torch.from_numpy(FRAMES[0]))
    expected = [tiny_model.latent(belief)]
    for action, frame in zip(ACTIONS, FRAMES[1:], strict=True):
        # The Box is [-2, 2]: the model sees half of the action.
        encoded = torch.from_numpy(action / 2)
        belief = tiny_model.filter(belief, encoded, torch.from_numpy(frame))
        expected.append(tiny_model.latent(belief))
    raw = run(LatentFilter(tiny_model, 4, normalize=False))
    np.testing.assert_allclose(raw, torch.stack(expected).detach(), atol=1e-6)


def test_normalized_latents_are_the_normalized_raw_ones(tiny_model: LatentModel) -> None:
    raw = run(LatentFilter(tiny_model, 4, normalize=False))
    assert tiny_model.normalizer is not None
    expected = tiny_model.normalizer.normalize(raw)
    np.testing.assert_allclose(run(LatentFilter(tiny_model, 4)), expected, atol=1e-5)


def test_streams_do_not_touch_each_other(tiny_model: LatentModel) -> None:
    together = run(LatentFilter(tiny_model, 4))
    for stream in range(4):
        alone = run(LatentFilter(tiny_model), slice(stream, stream + 1))
        np.testing.assert_allclose(alone[:, 0], together[:, stream], atol=1e-5)


def test_one_stream_takes_and_gives_single_arrays(tiny_model: LatentModel) -> None:
    latents = LatentFilter(tiny_model)
    first = latents.reset(FRAMES[0, 0])
    second = latents.step(ACTIONS[0, 0], FRAMES[1, 0])
    assert first.shape == second.shape == (tiny_model.latent_size,)
    batched = run(LatentFilter(tiny_model), slice(0, 1))
    np.testing.assert_array_equal([first, second], batched[:2, 0])


def test_a_masked_reset_leaves_the_others_bit_for_bit(tiny_model: LatentModel) -> None:
    latents = LatentFilter(tiny_model, 4)
    run(latents)
    before = latents.belief
    mask = np.array([False, True, False, True])
    latents.reset(FRAMES[2], mask)
    fresh = LatentFilter(tiny_model, 4)
    fresh.reset(FRAMES[2])
    for kept, old, new in zip(latents.belief, before, fresh.belief, strict=True):
        assert torch.equal(kept[~torch.from_numpy(mask)], old[~torch.from_numpy(mask)])
        torch.testing.assert_close(kept[mask], new[mask])


def test_a_belief_can_be_saved_and_restored(tiny_model: LatentModel) -> None:
    latents = LatentFilter(tiny_model, 4)
    latents.reset(FRAMES[0])
    saved = latents.belief
    first = latents.step(ACTIONS[0], FRAMES[1])
    latents.step(ACTIONS[1], FRAMES[2])
    latents.belief = saved
    np.testing.assert_array_equal(latents.step(ACTIONS[0], FRAMES[1]), first)


@torch.inference_mode()
def test_imagination_follows_the_prior_and_leaves_the_belief(tiny_model: LatentModel) -> None:
    latents = LatentFilter(tiny_model, 4, normalize=False)
    latents.reset(FRAMES[0])
    before = latents.belief
    imagined = latents.imagine(ACTIONS)
    assert imagined.shape == (4, 5, tiny_model.latent_size)
    assert latents.belief is before
    belief = before
    for t, action in enumerate(ACTIONS):
        belief = tiny_model.predict(belief, torch.from_numpy(action / 2))
        np.testing.assert_allclose(imagined[:, t], tiny_model.latent(belief).detach(), atol=1e-6)


def test_imagination_of_one_stream_has_no_batch(tiny_model: LatentModel) -> None:
    latents = LatentFilter(tiny_model)
    latents.reset(FRAMES[0, 0])
    assert latents.imagine(ACTIONS[:, 0]).shape == (5, tiny_model.latent_size)


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_samples_repeat_with_their_seed_and_differ_without(kind: str) -> None:
    model = make_tiny_model(kind=kind)

    def sampled(seed: int) -> np.ndarray:
        latents = LatentFilter(model, 4, deterministic=False)
        for stream in range(4):
            latents.seed(seed + stream, stream)
        return run(latents)

    np.testing.assert_array_equal(sampled(0), sampled(0))
    assert not np.allclose(sampled(0), sampled(1))
    # Stream 1 of seed 0 and stream 0 of seed 1 share their generator's seed, not their frames.
    assert not np.allclose(sampled(0)[:, 1], sampled(1)[:, 0])


def test_a_masked_reset_draws_noise_only_for_the_reset(tiny_model: LatentModel) -> None:
    def after_reset(mask: list[bool]) -> np.ndarray:
        latents = LatentFilter(tiny_model, 4, deterministic=False)
        for stream in range(4):
            latents.seed(stream, stream)
        latents.reset(FRAMES[0])
        latents.reset(FRAMES[1], np.array(mask))
        return latents.step(ACTIONS[0], FRAMES[2])

    one, two = after_reset([True, False, False, False]), after_reset([True, True, False, False])
    np.testing.assert_allclose(one[[0, 2, 3]], two[[0, 2, 3]], atol=1e-5)


def test_results_are_not_reused_buffers(tiny_model: LatentModel) -> None:
    for normalize in (True, False):
        latents = LatentFilter(tiny_model, normalize=normalize)
        first = latents.reset(FRAMES[0, 0])
        kept = first.copy()
        latents.step(ACTIONS[0, 0], FRAMES[1, 0])
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda f: cloudpickle.loads(cloudpickle.dumps(f))]
)
def test_copies_go_on_alike(tiny_checkpoint: Path, clone: object) -> None:
    latents = LatentFilter(tiny_checkpoint, 4, deterministic=False)
    latents.reset(FRAMES[0])
    twin = clone(latents)  # type: ignore[operator]
    np.testing.assert_array_equal(
        latents.step(ACTIONS[0], FRAMES[1]), twin.step(ACTIONS[0], FRAMES[1])
    )


def test_wrong_use_is_refused(tiny_model: LatentModel) -> None:
    with pytest.raises(LatentwrapError, match="call reset"):
        LatentFilter(tiny_model).step(ACTIONS[0, 0], FRAMES[0, 0])
    with pytest.raises(LatentwrapError, match=r"each of 4 streams, got .* \(3, 16, 16, 3\)"):
        LatentFilter(tiny_model, 4).reset(FRAMES[0, :3])
    with pytest.raises(LatentwrapError, match=r"floats requires values in \[0, 1\]"):
        LatentFilter(tiny_model, 4).reset(FRAMES[0].astype(np.float32))
    with pytest.raises(LatentwrapError, match="aspect ratio 64:64, the environment gives 32:16"):
        LatentFilter(tiny_model).reset(np.zeros((16, 32, 3), np.uint8))
    with pytest.raises(LatentwrapError, match="at least 1, got 0"):
        LatentFilter(tiny_model, 0)
    latents = LatentFilter(tiny_model, 4)
    latents.reset(FRAMES[0])
    with pytest.raises(LatentwrapError, match="one action for each of 4 streams, got 3"):
        latents.step(ACTIONS[0, :3], FRAMES[1])
    before = latents.belief
    for wrong in (np.full((4, 1), np.nan), np.zeros((4, 3))):
        with pytest.raises(LatentwrapError, match="has 1 finite values, got"):
            latents.step(wrong, FRAMES[1])
    assert latents.belief is before
    with pytest.raises(LatentwrapError, match="at least one action"):
        latents.imagine([])


def test_frames_of_any_size_are_fitted(tiny_model: LatentModel) -> None:
    large = np.random.default_rng(5).integers(0, 256, (48, 48, 3), np.uint8)
    small = fit_frame(large, tiny_model.frame_spec)
    expected = LatentFilter(tiny_model).reset(small)
    np.testing.assert_array_equal(LatentFilter(tiny_model).reset(large), expected)


def test_an_untrained_model_cannot_be_normalized(tiny_model: LatentModel) -> None:
    tiny_model.normalizer = None
    with pytest.raises(CheckpointError, match="without latent statistics"):
        LatentFilter(tiny_model)
    LatentFilter(tiny_model, normalize=False).reset(FRAMES[0, 0])
