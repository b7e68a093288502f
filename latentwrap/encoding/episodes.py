"""One episode of latents, as its columns and as what a learner wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from latentwrap.datasets import layout
from latentwrap.encoding.info import LATENTS
from latentwrap.types import AnyArray, FloatArray

Columns = Mapping[str, AnyArray]
"""The columns of one episode by path, padded to T+1 rows."""


@dataclass(frozen=True)
class LatentEpisode:
    """T transitions between T+1 latents.

    Attributes:
        latents: what `LatentObservation` observes, float32 (T+1, d + V).
        actions: as the environment took them, (T, A).
        rewards: float32 (T,), or `None` where there are none.
        terminated, truncated: how the episode ended.
        states: physical truth by name, float32 (T+1, k); row t belongs to latent t.
        vectors: what was observed beside the frames by name, likewise, as it was.
    """

    latents: FloatArray
    actions: AnyArray
    rewards: FloatArray | None
    terminated: bool
    truncated: bool
    states: Mapping[str, FloatArray] = field(default_factory=dict)
    vectors: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Columns) -> LatentEpisode:
        """Take the padding off the columns of one episode."""
        rewards = columns.get(layout.REWARDS)
        return cls(
            latents=columns[LATENTS],
            actions=columns[layout.ACTIONS][:-1],
            rewards=None if rewards is None else rewards[:-1],
            terminated=bool(columns[layout.TERMINATIONS].any()),
            truncated=bool(columns[layout.TRUNCATIONS].any()),
            states=_group(columns, layout.STATE),
            vectors=_group(columns, layout.VECTORS),
        )


def _group(columns: Columns, group: str) -> dict[str, FloatArray]:
    prefix = f"{group}/"
    return {
        path.removeprefix(prefix): values
        for path, values in columns.items()
        if path.startswith(prefix)
    }
