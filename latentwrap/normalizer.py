"""Standardising latents: one function for wrapper, encoder and export."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latentwrap.types import FloatArray

CLIP = 10.0
"""Standardised latents lie in [-CLIP, CLIP]."""

STD_FLOOR = 0.01
"""A dimension that hardly varies is noise: dividing by its own std would blow it up."""


@dataclass(frozen=True)
class LatentNormalizer:
    """Mean and standard deviation of the raw latents over the pretraining data.

    Attributes:
        mean, std: float32 (d,).
    """

    mean: FloatArray
    std: FloatArray

    def normalize(self, latents: FloatArray) -> FloatArray:
        """clip((z − mean) / max(std, 0.01), ±10).

        Args:
            latents: raw, float32 (..., d).

        Returns:
            float32 (..., d), a new array.
        """
        scaled = (latents - self.mean) / self._floored
        # Half the time of np.clip, for as few numbers as a latent has.
        clipped: FloatArray = np.minimum(np.maximum(scaled, -CLIP), CLIP)
        return clipped.astype(np.float32, copy=False)

    @cached_property
    def _floored(self) -> FloatArray:
        floored: FloatArray = np.maximum(self.std, np.float32(STD_FLOOR))
        return floored

    def to_json(self) -> dict[str, Any]:
        """A JSON document that `from_json` reads without loss."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def identity(cls, size: int) -> LatentNormalizer:
        """The one that only clips."""
        return cls(np.zeros(size, np.float32), np.ones(size, np.float32))

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> LatentNormalizer:
        """Rebuild from `to_json`."""
        mean, std = (np.array(document[name], np.float32) for name in ("mean", "std"))
        return cls(mean, std)
