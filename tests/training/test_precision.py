"""Training in bfloat16: close to float32, in float32 where it matters, and resumed as it began."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import TINY
from tests.training.conftest import FAST_ENOUGH
from tests.training.test_pretrain import assert_same_files, train
from tests.training.test_updater import BATCH, CONFIG, LENGTH, make_model

from latentwrap import storage
from latentwrap.datasets import Windows
from latentwrap.errors import CheckpointError
from latentwrap.models import LatentModel
from latentwrap.precision import Precision
from latentwrap.training import make_recipe
from latentwrap.training.recipes import stored_recipe
from latentwrap.training.updater import ModelUpdater, draw_noise, to_tensors

# The normaliser of p(x|z) is then 0, and the loss of the image is its squared error alone.
OPTIONS = {"decoder_var": 1 / (2 * math.pi), "free_nats": 0.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "fast": {"standardize_frames": True, "standardize_rewards": True, "min_reward_std": 0.1},
    "paper": {"network": "paper", "hidden": (24, 24), "features": 32},
}
BATCHES = 4
CASES = [(kind, network) for kind in TINY for network in NETWORKS]


def model_of(kind: str, network: str) -> LatentModel:
    balanced = OPTIONS if kind in ("rssm", "discrete") else {"decoder_var": OPTIONS["decoder_var"]}
    model = make_model(kind, options={**balanced, **NETWORKS[network]})
    model.fit_frames(torch.from_numpy(windows_of(0).frames).flatten(0, 1))
    return model


def windows_of(seed: int) -> Windows:
    """A bar that the actions move; the reward is where it is."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (BATCH, LENGTH, 1)).astype(np.float32)
    moved = np.concatenate([np.zeros((BATCH, 1)), actions[..., 0].cumsum(axis=1)], axis=1)
    place = rng.uniform(5, 11, (BATCH, 1)) + 2 * moved
    bar = np.exp(-((np.arange(16) - place[..., None]) ** 2) / 8)
    frames = (255 * bar[..., None, :, None]).astype(np.uint8)
    whole = np.broadcast_to(frames, (BATCH, LENGTH + 1, 16, 16, 3)).copy()
    rewards = (place[:, 1:] / 8 - 1).astype(np.float32)
    return Windows(whole, actions, rewards, np.zeros((BATCH, LENGTH), bool), None)


def updates(
    model: LatentModel, precision: Precision, count: int, *, rate: float = 1e-3
) -> list[dict[str, float]]:
    """The loss of every update, by term."""
    updater = ModelUpdater(model, CONFIG.replace(precision=precision, learning_rate=rate), seed=5)
    losses = [updater.update(windows_of(number % BATCHES)) for number in range(count)]
    assert all(loss.features.dtype == torch.float32 for loss in losses)
    return [
        {name: float(term) for name, term in {**loss.terms, "loss": loss.total}.items()}
        for loss in losses
    ]


def measured(model: LatentModel) -> float:
    """The loss in float32, always with the same noise."""
    noise = draw_noise(model, (BATCH, LENGTH + 1), torch.Generator().manual_seed(0))
    with torch.no_grad():
        batches = [to_tensors(windows_of(seed), model) for seed in range(BATCHES)]
        return float(np.mean([float(model.loss(batch, noise).total) for batch in batches]))


@pytest.mark.parametrize(("kind", "network"), CASES)
def test_the_loss_of_bfloat16_is_that_of_float32_but_for_a_hundredth(
    kind: str, network: str
) -> None:
    exact = model_of(kind, network)
    rounded = model_of(kind, network)
    (expected,), (found,) = updates(exact, "float32", 1), updates(rounded, "bfloat16", 1)
    assert found.keys() == expected.keys()
    # Of each term by itself. What was found is 3e-3 at most, in a KL.
    assert found == pytest.approx(expected, rel=0.01)
    assert found != expected
    gradients = []
    for model in (exact, rounded):
        assert all(p.dtype == torch.float32 for p in model.parameters())
        given = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(g.dtype == torch.float32 and bool(g.isfinite().all()) for g in given)
        gradients.append(torch.cat([g.flatten() for g in given]))
    assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[0].norm()


@pytest.mark.parametrize(("kind", "network"), CASES)
def test_bfloat16_descends_as_far_as_float32(kind: str, network: str) -> None:
    """What was found is 0.4 % at most; other noise makes up to 13 %."""
    count, rate = (15, 1e-3) if network == "paper" else (40, 3e-3)
    ends, start = {}, 0.0
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        model = model_of(kind, network)
        start = measured(model)
        updates(model, precision, count, rate=rate)
        ends[precision] = measured(model)
    assert ends["float32"] < 0.9 * start
    assert ends["bfloat16"] == pytest.approx(ends["float32"], rel=0.02)


@pytest.mark.parametrize("kind", TINY)
def test_pixels_are_bfloat16_and_what_is_believed_of_them_is_float32(kind: str) -> None:
    model = make_model(kind)
    seen: dict[str, set[torch.dtype]] = {}

    def note(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
            seen.setdefault(name, set()).add(output.dtype)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.GRUCell):
            module.register_forward_hook(note(name))
    updates(model, "bfloat16", 1)
    networks = {name for name in seen if name.startswith("networks.")}
    assert networks
    assert networks < seen.keys()
    for name, dtypes in seen.items():
        assert dtypes == {torch.bfloat16 if name in networks else torch.float32}, name


def test_what_is_held_out_is_measured_in_float32(data: Path, tmp_path: Path) -> None:
    results = {}
    for precision in ("float32", "bfloat16"):
        # No update changes a weight by so little.
        options = {"precision": precision, "learning_rate": 1e-30}
        results[precision] = train(data, tmp_path / f"{precision}.safetensors", options=options)
    exact, rounded = results["float32"], results["bfloat16"]
    assert rounded.heldout == pytest.approx(exact.heldout, rel=1e-6)
    assert rounded.train != pytest.approx(exact.train, rel=1e-6)


def test_a_run_of_before_there_was_a_precision_goes_on_in_float32(
    data: Path, tmp_path: Path
) -> None:
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    train(data, whole, steps=8)
    train(data, halves, steps=4)
    state = halves.with_suffix(".run") / "trainer.safetensors"
    stored = storage.load(state, file_format="latentwrap-trainer", what="state")
    assert stored.document["identity"]["recipe"]["training"].pop("precision") == "float32"
    storage.save(state, stored.tensors, stored.document)
    with pytest.raises(
        CheckpointError, match=r"another recipe\.training\.precision .*'float32', now 'tf32'"
    ):
        train(data, halves, steps=8, resume=True, options={"precision": "tf32"})
    train(data, halves, steps=8, resume=True)
    assert_same_files(whole, halves)


def test_a_run_in_bfloat16_is_resumed_bit_for_bit(data: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    options = {"precision": "bfloat16"}
    train(data, whole, steps=8, options=options)
    train(data, halves, steps=4, options=options)
    train(data, halves, steps=8, options=options, resume=True)
    assert_same_files(whole, halves)


def test_a_recipe_of_before_there_was_a_precision_is_one_of_float32() -> None:
    recipe = make_recipe("fast", dict(FAST_ENOUGH))
    document = json.loads(recipe.model_dump_json())
    del document["training"]["precision"]
    assert stored_recipe(document) == recipe
    assert recipe.training.precision == "float32"
