"""Drift: whether a probe that reads early beliefs still reads late ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentwrap.evaluation.comparison import Probe, States
from latentwrap.types import AnyArray, IntArray

WARM_UP = 4
"""First frames of an episode, in which velocities cannot be known yet."""

_BINS = 8
_FEWEST = 30
_SHORTEST = 3 * WARM_UP


@dataclass(frozen=True)
class DriftResult:
    """Quality of one probe by step of the episode.

    Attributes:
        edges: bin i holds steps edges[i] to edges[i+1] − 1; the first bin is the warm-up.
        rows: frames in each bin.
        r2: by state dimension, one number a bin: 1 − mean squared error in the bin / variance
            over all test frames, so that a bin in which little happens is not punished; NaN
            where fewer than 30 frames are known.
        drop: by state dimension, mean over the first third of the bins after the warm-up minus
            mean over the last third.
    """

    edges: list[int]
    rows: list[int]
    r2: dict[str, list[float]]
    drop: dict[str, float]


def measure_drift(probe: Probe, states: States, steps: IntArray) -> DriftResult | None:
    """Score a probe by step of the episode.

    Args:
        probe: with predictions of the test frames.
        states: the truth, K dimensions.
        steps: of each test frame within its episode, int64 (N,).

    Returns:
        `None` if no episode has 12 frames.
    """
    longest = int(steps.max(initial=0)) + 1
    if longest < _SHORTEST:
        return None
    bins = max(2, min(_BINS, (longest - WARM_UP) // WARM_UP))
    later = np.linspace(WARM_UP, longest, bins + 1).round().astype(int)
    edges = np.array([0, *later])
    where = np.searchsorted(edges, steps, side="right") - 1
    r2 = {
        name: _by_bin(probe.predicted[:, column], states.values[:, column], where, bins + 1)
        for column, name in enumerate(states.names)
    }
    rows = np.bincount(where, minlength=bins + 1)
    drop = {name: _drop(scores[1:]) for name, scores in r2.items()}
    return DriftResult(edges.tolist(), rows.tolist(), r2, drop)


def _by_bin(predicted: AnyArray, truth: AnyArray, where: IntArray, bins: int) -> list[float]:
    known = np.isfinite(truth) & np.isfinite(predicted)
    spread = float(np.var(truth[known].astype(np.float64))) if known.any() else 0.0
    squares = np.square(predicted - truth)
    scores = []
    for each in range(bins):
        rows = known & (where == each)
        enough = rows.sum() >= _FEWEST and spread > 0
        scores.append(1 - float(squares[rows].mean()) / spread if enough else float("nan"))
    return scores


def _drop(scores: list[float]) -> float:
    third = max(1, len(scores) // 3)
    early, late = _mean(scores[:third]), _mean(scores[-third:])
    return early - late


def _mean(scores: list[float]) -> float:
    known = [score for score in scores if np.isfinite(score)]
    return float(np.mean(known)) if known else float("nan")
