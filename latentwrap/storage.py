"""Tensors and a JSON document in one safetensors file, with a fingerprint over both.

Nothing here unpickles: reading a file from a stranger cannot run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from latentwrap.errors import CheckpointError
from latentwrap.files import written_whole

_KEY = "latentwrap"


@dataclass(frozen=True)
class Stored:
    """What a file holds.

    Attributes:
        tensors: by name, on the CPU.
        document: JSON metadata.
        fingerprint: SHA-256 over tensors and document, in hexadecimal.
    """

    tensors: dict[str, torch.Tensor]
    document: dict[str, Any]
    fingerprint: str


def save(path: str | Path, tensors: Mapping[str, torch.Tensor], document: dict[str, Any]) -> str:
    """Write a file, whole or not at all, and return its fingerprint.

    Args:
        path: replaced if it exists; callers check before.
        tensors: any device; stored as they are, contiguous.
        document: JSON-serialisable metadata; `format` names what the file is.
    """
    held = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    text = json.dumps(document, sort_keys=True)
    fingerprint = _fingerprint(held, text)
    with written_whole(path) as temporary:
        temporary.touch()
        usual = temporary.stat().st_mode
        save_file(held, temporary, metadata={_KEY: text, "fingerprint": fingerprint})
        temporary.chmod(usual)  # safetensors lets nobody but the owner read
    return fingerprint


def load(path: str | Path, *, file_format: str, what: str) -> Stored:
    """Read a file that `save` wrote.

    Args:
        path: the file.
        file_format: the value that the document's `format` must have.
        what: the kind of file, for messages: "checkpoint", "agent".

    Raises:
        CheckpointError: missing, not safetensors, truncated, not ours, of another kind, or
            changed since it was written.
    """
    path = Path(path)
    if not path.is_file():
        found = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"The {what} {path} {found}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"The {what} {path} is no whole safetensors file ({error}): get it anew."
        ) from None
    document = _document(path, metadata, file_format=file_format, what=what)
    fingerprint = _fingerprint(tensors, metadata[_KEY])
    if fingerprint != metadata.get("fingerprint"):
        raise CheckpointError(
            f"The {what} {path} was damaged or changed after it was written "
            "(its fingerprint does not match): get it anew."
        )
    return Stored(tensors, document, fingerprint)


def _document(
    path: Path, metadata: Mapping[str, str], *, file_format: str, what: str
) -> dict[str, Any]:
    try:
        document = json.loads(metadata[_KEY])
        found = document["format"]
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"The {what} {path} was not written by latentwrap: it has no latentwrap metadata."
        ) from None
    if found != file_format:
        raise CheckpointError(
            f"{path} is not the {what} that was asked for: expected {file_format!r}, got {found!r}."
        )
    return dict(document)


def _fingerprint(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
