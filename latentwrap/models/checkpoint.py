"""Checkpoints of latent models: one safetensors file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latentwrap import storage
from latentwrap._version import __version__
from latentwrap.actions import ActionSpec
from latentwrap.devices import resolve_device
from latentwrap.errors import CheckpointError, LatentwrapError
from latentwrap.models.base import CheckpointInfo, LatentModel
from latentwrap.models.kinds import build_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

FORMAT = "latentwrap-model"
VERSION = 1
"""Version of the metadata; raised when older readers could misread it."""


def save_model(path: str | Path, model: LatentModel, *, training: dict[str, Any]) -> str:
    """Write a model with all that is needed to use it; returns its fingerprint.

    Args:
        path: a `.safetensors` file, replaced if it exists.
        model: with its `normalizer` set, and its `vector_normalizer` where there are vectors.
        training: JSON-serialisable record: dataset fingerprint, steps, metrics.
    """
    if model.normalizer is None:
        raise CheckpointError("save_model requires a model with latent statistics, got none.")
    if model.vector_spec.names and model.vector_normalizer is None:
        raise CheckpointError("save_model requires a model with vector statistics, got none.")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "latentwrap": __version__,
        **describe_model(model),
        "training": training,
    }
    return storage.save(path, model.state_dict(), document)


def describe_model(model: LatentModel) -> dict[str, Any]:
    """All of a model but its weights, as a JSON document that `rebuild_model` reads."""
    return {
        "kind": model.kind,
        "config": model.config.model_dump(mode="json"),
        "frame": model.frame_spec.model_dump(mode="json"),
        "action": model.action_spec.to_json(),
        "frame_skip": model.frame_skip,
        "latent": None if model.normalizer is None else model.normalizer.to_json(),
        "vectors": _vector_document(model),
    }


def load_model(path: str | Path, *, device: str = "cpu") -> LatentModel:
    """Load a pretrained model, ready to filter.

    Nothing is unpickled: a file from a stranger cannot run code.

    Args:
        path: a checkpoint that `latentwrap pretrain` wrote.
        device: `cpu`, `cuda` or `auto`.

    Returns:
        The model in evaluation mode, its parameters without gradients.

    Raises:
        CheckpointError: the file is missing, foreign, damaged, or of a newer version.

    Example:
        >>> model = latentwrap.load_model("pendulum.safetensors")  # doctest: +SKIP
        >>> model.latent_size  # doctest: +SKIP
        160
    """
    stored = storage.load(path, file_format=FORMAT, what="checkpoint")
    _check_version(path, stored.document)
    try:
        model = rebuild_model(stored.document)
        model.load_state_dict(stored.tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, ValidationError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"The checkpoint {path} does not describe a model of this version: {reason}."
        ) from None
    model.checkpoint = CheckpointInfo(
        str(Path(path).resolve()), stored.fingerprint, stored.document
    )
    return model.eval().requires_grad_(requires_grad=False).to(resolve_device(device))


def rebuild_model(document: dict[str, Any]) -> LatentModel:
    """The model that `describe_model` described, its weights yet to be loaded.

    Raises:
        KeyError, TypeError, ValueError, LatentwrapError: the document is no such description.
    """
    vectors = document.get("vectors")  # absent before there were any
    model = build_model(
        document["kind"],
        document["config"],
        frame_spec=FrameSpec.parse(document["frame"]),
        action_spec=ActionSpec.from_json(document["action"]),
        frame_skip=int(document["frame_skip"]),
        vector_spec=None if vectors is None else VectorSpec.parse(vectors["spec"]),
    )
    model.normalizer = _statistics(document["latent"], model.latent_size, "latent")
    if vectors is not None:
        size = model.vector_spec.size
        model.vector_normalizer = _statistics(vectors["statistics"], size, "vector")
    return model


def _vector_document(model: LatentModel) -> dict[str, Any] | None:
    if model.vector_normalizer is None:
        return None
    spec, statistics = model.vector_spec.model_dump(mode="json"), model.vector_normalizer.to_json()
    return {"spec": spec, "statistics": statistics}


def _statistics(document: dict[str, Any], size: int, what: str) -> LatentNormalizer:
    found = LatentNormalizer.from_json(document)
    shapes = found.mean.shape, found.std.shape
    if shapes != ((size,), (size,)):
        raise LatentwrapError(f"{what} statistics of shapes {shapes}")
    return found


def _check_version(path: str | Path, document: dict[str, Any]) -> None:
    if document.get("version") != VERSION:
        raise CheckpointError(
            f"The checkpoint {path} has layout version {document.get('version')}, this latentwrap "
            f"{__version__} reads version {VERSION}: upgrade latentwrap."
        )
