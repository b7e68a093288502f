"""Comparing what was observed with what should have been."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from latentwrap.testing.notes import Flat, Played
from latentwrap.testing.references import Expected

RAW = 1e-5
"""What raw latents may differ by, as a share of max(1, |z|): float32 sums in another order."""

STANDARDISED = 1e-4
"""What standardised latents may differ by."""


@dataclass(frozen=True)
class Place:
    """One observation of what was played.

    Attributes:
        env, episode: which, from 0.
        step: of the episode; 0 is its first observation.
        length: steps of the episode.
    """

    env: int
    episode: int
    step: int
    length: int

    def __str__(self) -> str:
        which = {0: "first ", self.length: "last "}.get(self.step, "")
        return (
            f"the {which}observation (step {self.step} of {self.length}) of episode {self.episode} "
            f"of environment {self.env}"
        )


@dataclass(frozen=True)
class Comparison:
    """How far observations are from what they should be.

    Attributes:
        largest: difference, of raw ones divided by max(1, |z|); infinite where one is missing.
        allowed: difference.
        count: observations compared.
        first: where the first is that differs by more.
        fault: what else is wrong, in a few words; empty where nothing is.
    """

    largest: float
    allowed: float
    count: int
    first: Place | None = None
    fault: str = ""

    @property
    def passed(self) -> bool:
        """Whether no difference is too large, and all is there."""
        return self.first is None and not self.fault

    def __str__(self) -> str:
        said = [self.fault] if self.fault else []
        if self.first is not None:
            size = f"{self.largest:.2g} ({self.allowed:.0e} allowed)"
            said.append(f"differs by up to {size}, first at {self.first}")
        return "; ".join(said) or (
            f"largest difference {self.largest:.1e} of {self.allowed:.0e} allowed"
        )


def compare(played: Played, expected: Expected, *, relative: bool) -> Comparison:
    """Compare all observations of all episodes.

    Args:
        played: what was observed.
        expected: what should have been.
        relative: divide differences by max(1, |z|), as for raw latents.
    """
    allowed = RAW if relative else STANDARDISED
    missing = _count_fault(played, expected)
    if missing:
        return Comparison(np.inf, allowed, 0, fault="; ".join([*played.faults, missing]))
    largest, count, first = 0.0, 0, None
    for place, found, wanted in _pairs(played, expected):
        size = difference(found, wanted, relative=relative)
        largest, count = max(largest, size), count + 1
        if first is None and size > allowed:
            first = place
    return Comparison(largest, allowed, count, first, "; ".join(played.faults))


def difference(found: Flat, wanted: Flat, *, relative: bool) -> float:
    """The largest of an observation; infinite where one of both is missing or not finite."""
    if found.shape != wanted.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        gaps = np.abs(found - wanted) / (np.maximum(1, np.abs(wanted)) if relative else 1)
    gaps = np.where(found == wanted, 0, gaps)  # infinities that agree
    return float(np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(initial=0))


def _pairs(played: Played, expected: Expected) -> Iterator[tuple[Place, Flat, Flat]]:
    for env, (episodes, wanted) in enumerate(zip(played.episodes, expected, strict=True)):
        for number, (episode, series) in enumerate(zip(episodes, wanted, strict=True)):
            length = len(series) - 1
            for step, pair in enumerate(zip(episode.observations, series, strict=True)):
                yield Place(env, number, step, length), *pair


def _count_fault(played: Played, expected: Expected) -> str:
    """Whether the environments inside were stepped and reset as those outside."""
    for env, (episodes, wanted) in enumerate(zip(played.episodes, expected, strict=True)):
        if len(episodes) != len(wanted):
            return (
                f"environment {env} handed out {len(episodes)} episodes, but the environment "
                f"inside began {len(wanted)}"
            )
        for number, (episode, series) in enumerate(zip(episodes, wanted, strict=True)):
            if len(episode.observations) != len(series):
                return (
                    f"episode {number} of environment {env} handed out "
                    f"{len(episode.observations)} observations, but the environment inside gave "
                    f"{len(series)}"
                )
    return ""
