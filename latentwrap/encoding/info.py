"""What a file of latents is of: the dataset, the model, and what was made of its latents."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces

from latentwrap._version import __version__
from latentwrap.datasets import DatasetInfo, layout
from latentwrap.errors import DatasetError
from latentwrap.normalizer import CLIP
from latentwrap.vectors import VectorSpec

FORMAT = "latentwrap-latents"
LATENTS = "latents"
ORIGIN = "latent"
"""The attribute that says what latents were made of, in every form."""


@dataclass(frozen=True)
class LatentInfo:
    """What latents were made of, and how.

    Attributes:
        data: what the dataset was of.
        data_fingerprint: identifies it.
        model: fingerprint of the checkpoint; empty for a model that came from no file.
        checkpoint: where it lay; empty likewise.
        latent_size: dimensions d of a latent.
        appended: vectors that follow it in every row, in order.
        normalized: standardised and clipped as `LatentObservation` does; else raw.
    """

    data: DatasetInfo
    data_fingerprint: str
    model: str
    checkpoint: str
    latent_size: int
    appended: tuple[str, ...] = ()
    normalized: bool = True

    @property
    def appended_spec(self) -> VectorSpec:
        """Names and sizes of the vectors that are appended."""
        known = dict(zip(self.data.vectors.names, self.data.vectors.sizes, strict=True))
        return VectorSpec(names=self.appended, sizes=tuple(known[name] for name in self.appended))

    @property
    def size(self) -> int:
        """Numbers in a row, d + V."""
        return self.latent_size + self.appended_spec.size

    @property
    def space(self) -> spaces.Box:
        """The observation space that `LatentObservation` has."""
        bound = CLIP if self.normalized else np.inf
        return spaces.Box(-bound, bound, (self.size,), np.float32)

    def check_same(self, other: LatentInfo, path: Path) -> None:
        """Refuse to mix latents of different origin in one file.

        Raises:
            DatasetError: `other` is of another dataset or model, or was made in another way.
        """
        for name in ("data_fingerprint", "model", "appended", "normalized"):
            begun, now = getattr(self, name), getattr(other, name)
            if begun != now:
                words = name.replace("_", " ")
                raise DatasetError(
                    f"{path} was begun with {words} {shorten(str(begun), 40)}, now it is "
                    f"{shorten(str(now), 40)}: repeat the first command line or pass --force."
                )

    def to_json(self) -> dict[str, Any]:
        """What the attribute `latent` of a file says."""
        return {
            "data": self.data_fingerprint,
            "model": self.model,
            "checkpoint": self.checkpoint,
            "size": self.latent_size,
            "appended": list(self.appended),
            "normalized": self.normalized,
            "latentwrap": __version__,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], data: DatasetInfo) -> LatentInfo:
        """Rebuild from `to_json` and what the dataset was of.

        Raises:
            KeyError, TypeError, ValueError: something is missing or of another type.
        """
        info = cls(
            data=data,
            data_fingerprint=str(document["data"]),
            model=str(document["model"]),
            checkpoint=str(document["checkpoint"]),
            latent_size=int(document["size"]),
            appended=tuple(map(str, document["appended"])),
            normalized=bool(document["normalized"]),
        )
        _ = info.appended_spec  # every vector that is appended is there
        return info


def write_latent_info(file: h5py.File, info: LatentInfo, *, file_format: str = FORMAT) -> None:
    """Write the attributes of a file: those of layout version 1, and `latent`."""
    layout.write_info(file, info.data, file_format=file_format)
    file.attrs[ORIGIN] = json.dumps(info.to_json())


def read_latent_info(file: h5py.File, path: Path) -> LatentInfo:
    """Read the attributes of a file of latents.

    Raises:
        DatasetError: not ours, of a newer version, or damaged.
    """
    data = layout.read_info(file, path, file_format=FORMAT)
    try:
        info = LatentInfo.from_json(json.loads(file.attrs[ORIGIN]), data)
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise DatasetError(f"{path} has damaged attributes ({reason}): get it anew.") from None
    return info
