"""Checkpoints bring back the same model, and refuse everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import latentwrap
from latentwrap import storage
from latentwrap.errors import CheckpointError, ConfigError
from latentwrap.models import LatentModel, build_model, save_model
from latentwrap.models.checkpoint import FORMAT


def test_a_loaded_model_filters_like_the_saved_one(
    tiny_model: LatentModel, tiny_checkpoint: Path
) -> None:
    loaded = latentwrap.load_model(tiny_checkpoint)
    frames = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    action = torch.rand(2, 1)
    ours = tiny_model.filter(tiny_model.initial(frames), action, frames)
    theirs = loaded.filter(loaded.initial(frames), action, frames)
    torch.testing.assert_close(loaded.latent(theirs), tiny_model.latent(ours), rtol=0, atol=0)


def test_a_loaded_model_knows_all_that_the_wrapper_needs(
    tiny_model: LatentModel, tiny_checkpoint: Path
) -> None:
    loaded = latentwrap.load_model(tiny_checkpoint)
    assert loaded.frame_spec == tiny_model.frame_spec
    assert loaded.action_spec == tiny_model.action_spec
    assert loaded.frame_skip == tiny_model.frame_skip
    assert loaded.config == tiny_model.config
    assert loaded.normalizer is not None
    assert tiny_model.normalizer is not None
    np.testing.assert_array_equal(loaded.normalizer.mean, tiny_model.normalizer.mean)
    np.testing.assert_array_equal(loaded.normalizer.std, tiny_model.normalizer.std)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert loaded.checkpoint is not None
    assert len(loaded.checkpoint.fingerprint) == 64


def test_a_model_without_statistics_is_not_saved(tmp_path: Path, tiny_model: LatentModel) -> None:
    tiny_model.normalizer = None
    with pytest.raises(CheckpointError, match="latent statistics"):
        save_model(tmp_path / "x.safetensors", tiny_model, training={})


def rewrite(path: Path, **changes: object) -> None:
    """Store again with other metadata and a fingerprint that is right for it."""
    stored = storage.load(path, file_format=FORMAT, what="checkpoint")
    storage.save(path, stored.tensors, {**stored.document, **changes})


def test_a_newer_version_is_refused_by_name(tiny_checkpoint: Path) -> None:
    rewrite(tiny_checkpoint, version=99)
    with pytest.raises(CheckpointError, match=r"has layout version 99.*upgrade"):
        latentwrap.load_model(tiny_checkpoint)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "slack"},
        {"config": {"z3": 4}},
        {"config": {}},
        {"frame": {"height": -1}},
        {"frame": None},
        {"action": "{}"},
        {"action": '{"kind": "Tuple"}'},
        {"latent": {"mean": [0.0], "std": [1.0]}},
        {"latent": {}},
        {"frame_skip": None},
    ],
    ids=str,
)
def test_metadata_that_describes_no_model_is_refused(
    tiny_checkpoint: Path, changes: dict[str, object]
) -> None:
    rewrite(tiny_checkpoint, **changes)
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors does not describe a model"):
        latentwrap.load_model(tiny_checkpoint)


def test_an_unknown_kind_names_the_nearest(tiny_model: LatentModel) -> None:
    specs = {"frame_spec": tiny_model.frame_spec, "action_spec": tiny_model.action_spec}
    with pytest.raises(ConfigError, match="no model kind 'slak': did you mean 'slac'"):
        build_model("slak", {}, **specs)
