"""What is in a folder of exported graphs: the names of its files, inputs and outputs, its card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentwrap._version import __version__
from latentwrap.actions import ActionSpec
from latentwrap.errors import CheckpointError, LatentwrapError
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

FORMAT = "latentwrap-onnx"
VERSION = 1
"""Version of the layout; raised when older readers could misread it."""

CARD = "filter.json"
GRAPHS = ("encoder", "first", "step", "predict")
"""The graphs, in the order in which a filter needs them; each is a file of this name."""

FRAME, VECTORS, FEATURES, ACTION, LATENT = "frame", "vectors", "features", "action", "latent"
"""Names of inputs and outputs; to them come those of the belief's parts."""


def next_name(part: str) -> str:
    """The output that holds a part of the belief; the input has its plain name.

    >>> next_name("h")
    'next_h'
    """
    return f"next_{part}"


def file_name(graph: str) -> str:
    """The file of a graph."""
    return f"{graph}.onnx"


def exported_folder(checkpoint: str | Path) -> Path:
    """Where the graphs of a checkpoint are looked for: beside it.

    >>> exported_folder("models/car.safetensors").name
    'car.onnx'
    """
    return Path(checkpoint).with_suffix(".onnx")


@dataclass(frozen=True)
class FilterCard:
    """All of an exported filter but its graphs.

    Attributes:
        model_fingerprint: identifies the checkpoint that was exported.
        kind: of the model.
        frame_spec, action_spec, frame_skip: what frames and actions must look like.
        vector_spec: the vectors of the pretraining data, whether the model sees them or not.
        sees_vectors: whether it does.
        vector_normalizer: their statistics; `None` where there are none.
        normalizer: statistics of the raw latents.
        features: numbers that the encoder gives.
        belief: sizes of the belief's parts by name, in order.
        latent_size: dimensions d of a latent.
        opset: version of ONNX's operators.
        files: SHA-256 of each graph's file, in hexadecimal, by the graph's name.
    """

    model_fingerprint: str
    kind: str
    frame_spec: FrameSpec
    action_spec: ActionSpec
    frame_skip: int
    vector_spec: VectorSpec
    sees_vectors: bool
    vector_normalizer: LatentNormalizer | None = field(repr=False)
    normalizer: LatentNormalizer = field(repr=False)
    features: int
    belief: dict[str, int]
    latent_size: int
    opset: int
    files: dict[str, str] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """A JSON document that `from_json` reads without loss."""
        scale = self.vector_normalizer
        return {
            "format": FORMAT,
            "version": VERSION,
            "latentwrap": __version__,
            "model": self.model_fingerprint,
            "kind": self.kind,
            "frame": self.frame_spec.model_dump(mode="json"),
            "action": self.action_spec.to_json(),
            "frame_skip": self.frame_skip,
            "vectors": self.vector_spec.model_dump(mode="json"),
            "sees_vectors": self.sees_vectors,
            "vector_statistics": None if scale is None else scale.to_json(),
            "latent": self.normalizer.to_json(),
            "features": self.features,
            "belief": self.belief,
            "latent_size": self.latent_size,
            "opset": self.opset,
            "files": self.files,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> FilterCard:
        """Rebuild from `to_json`.

        Raises:
            KeyError, TypeError, ValueError: the document is no such card.
        """
        scale = document["vector_statistics"]
        return cls(
            model_fingerprint=str(document["model"]),
            kind=str(document["kind"]),
            frame_spec=FrameSpec.parse(document["frame"]),
            action_spec=ActionSpec.from_json(document["action"]),
            frame_skip=int(document["frame_skip"]),
            vector_spec=VectorSpec.parse(document["vectors"]),
            sees_vectors=bool(document["sees_vectors"]),
            vector_normalizer=None if scale is None else LatentNormalizer.from_json(scale),
            normalizer=LatentNormalizer.from_json(document["latent"]),
            features=int(document["features"]),
            belief={str(name): int(size) for name, size in document["belief"].items()},
            latent_size=int(document["latent_size"]),
            opset=int(document["opset"]),
            files={name: str(document["files"][name]) for name in GRAPHS},
        )


def write_card(folder: Path, card: FilterCard) -> None:
    """Write the card, with a fingerprint over it and thereby over the graphs."""
    document = card.to_json()
    text = json.dumps({**document, "fingerprint": _fingerprint(document)}, indent=1)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> FilterCard:
    """Read the card of a folder that `latentwrap export` wrote.

    Raises:
        CheckpointError: missing, not ours, of another version, or changed since it was written.
    """
    path = folder / CARD
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = document.pop("format"), document["version"]
    except OSError:
        raise CheckpointError(
            f"{folder} is no folder of exported graphs, for it has no {CARD} that can be read: "
            "name the one that latentwrap export wrote."
        ) from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise CheckpointError(
            f"{path} was not written by latentwrap export: export the checkpoint anew."
        ) from None
    if found != (FORMAT, VERSION):
        raise CheckpointError(
            f"{path} is a {found[0]!r} of version {found[1]!r}, this latentwrap {__version__} "
            f"reads {FORMAT!r} of version {VERSION}: export the checkpoint anew."
        )
    return _checked(path, {"format": FORMAT, **document})


def read_graph(folder: Path, name: str, card: FilterCard) -> bytes:
    """The bytes of a graph, those that the card was written for.

    Raises:
        CheckpointError: the file is missing or was changed.
    """
    path = folder / file_name(name)
    try:
        content = path.read_bytes()
    except OSError:
        raise CheckpointError(f"{path} cannot be read: export the checkpoint anew.") from None
    if digest(content) != card.files[name]:
        raise CheckpointError(
            f"{path} was damaged or changed after it was written (its SHA-256 is not that in "
            f"{CARD}): export the checkpoint anew."
        )
    return content


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _checked(path: Path, document: dict[str, Any]) -> FilterCard:
    if document.pop("fingerprint", None) != _fingerprint(document):
        raise CheckpointError(
            f"{path} was damaged or changed after it was written (its fingerprint does not "
            "match): export the checkpoint anew."
        )
    try:
        return FilterCard.from_json(document)
    except (KeyError, TypeError, AttributeError, ValueError, LatentwrapError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"{path} does not describe a filter of this version: {reason}."
        ) from None


def _fingerprint(document: dict[str, Any]) -> str:
    return digest(json.dumps(document, sort_keys=True).encode())
