"""Linear probes: how well the physical state can be read off the latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentwrap.datasets import Dataset
from latentwrap.errors import DatasetError
from latentwrap.evaluation.regression import linear_fit, r_squared
from latentwrap.models import LatentModel
from latentwrap.training.statistics import filter_episodes
from latentwrap.types import IntArray


@dataclass(frozen=True)
class ProbeResult:
    """How well a state can be read off the latents of other episodes.

    Attributes:
        r2: coefficient of determination of each state dimension by name.
        fit_rows, test_rows: frames that the probe was fitted and tested on.
    """

    r2: dict[str, float]
    fit_rows: int
    test_rows: int


def probe_states(
    model: LatentModel, dataset: Dataset, *, fit: IntArray, test: IntArray
) -> ProbeResult:
    """Fit a linear probe of every `/state` column on some episodes and score it on others.

    Args:
        model: filters each episode from its first frame.
        dataset: with at least one `/state` column.
        fit, test: episode numbers that do not overlap, int64.

    Raises:
        DatasetError: the dataset stores no states, or there are no episodes to use.
    """
    if not dataset.states:
        raise DatasetError(f"A probe requires /state columns, {dataset.name} has none.")
    if not len(fit) or not len(test):
        raise DatasetError(
            "A probe requires at least one episode to fit and one to test, got none."
        )
    fit_rows, test_rows = dataset.rows(fit), dataset.rows(test)
    fit_latents = np.concatenate(list(filter_episodes(model, dataset, fit)))
    test_latents = np.concatenate(list(filter_episodes(model, dataset, test)))
    scores: dict[str, float] = {}
    for name, column in dataset.states.items():
        predicted = linear_fit(fit_latents, column[fit_rows]).predict(test_latents)
        for index, score in enumerate(r_squared(predicted, column[test_rows])):
            scores[f"{name}[{index}]"] = float(score)
    return ProbeResult(scores, len(fit_rows), len(test_rows))
