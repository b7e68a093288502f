"""How well the physical state can be read off latents: probes, drift, and a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from latentwrap.datasets import Dataset
from latentwrap.evaluation.comparison import (
    LINEAR,
    MLP,
    Probe,
    States,
    find_probe,
    fit_probes,
)
from latentwrap.evaluation.drift import DriftResult, measure_drift
from latentwrap.evaluation.pca import pca_fit
from latentwrap.evaluation.representations import (
    LATENT,
    LONGEST,
    Representations,
    fit_frame_pca,
    represent,
)
from latentwrap.evaluation.split import ReportSplit
from latentwrap.evaluation.stretches import choose_episodes
from latentwrap.models import LatentModel
from latentwrap.seeding import child_seeds, numpy_generator
from latentwrap.types import FloatArray

_FIT_ROWS, _TEST_ROWS = 20_000, 10_000


@dataclass(frozen=True)
class StateReport:
    """Probes of every representation, and what else needs representations.

    Attributes:
        probes: linear and MLP of each representation; empty without states to fit to.
        fit_rows, test_rows: frames that they were fitted and tested on.
        drift: by step, of the linear and of the MLP probe of the latents; empty without probes
            or where episodes are too short.
        map: test latents on their first two principal components, float32 (N, 2).
        map_explained: share of the latents' variance along each.
        states: of the same frames, (N, K).
        notes: what was left out, and why.
    """

    probes: list[Probe]
    fit_rows: int
    test_rows: int
    drift: dict[str, DriftResult]
    map: FloatArray
    map_explained: list[float]
    states: States
    notes: list[str]

    def r2(self, representation: str, method: str) -> dict[str, float]:
        """R² by state dimension; empty without probes."""
        return find_probe(self.probes, representation, method).r2 if self.probes else {}

    def probe_json(self) -> dict[str, Any]:
        """R² of every probe: representation, method, state dimension."""
        scores: dict[str, dict[str, dict[str, float]]] = {}
        for probe in self.probes:
            scores.setdefault(probe.representation, {})[probe.method] = probe.r2
        return {"r2": scores, "fit_rows": self.fit_rows, "test_rows": self.test_rows}


def report_states(
    model: LatentModel, dataset: Dataset, split: ReportSplit, *, seed: int
) -> StateReport:
    """Filter episodes and probe them.

    Args:
        model: any kind.
        dataset: that fits the model.
        split: probes are fitted on some episodes and scored on others.
        seed: of the choice of frames and of the MLP.
    """
    fit_seed, test_seed, pca_seed, mlp_seed = child_seeds(seed, 4)
    test_episodes = choose_episodes(
        dataset, split.test, rows=_TEST_ROWS, longest=LONGEST, generator=numpy_generator(test_seed)
    )
    note = _why_no_probe(dataset, split)
    if note:
        test = represent(model, dataset, test_episodes, None)
        states = States.of(dataset.states, test.rows)
        return _assemble([], 0, test, states, [note])
    fit_episodes = choose_episodes(
        dataset, split.fit, rows=_FIT_ROWS, longest=LONGEST, generator=numpy_generator(fit_seed)
    )
    pca = fit_frame_pca(
        dataset, fit_episodes, count=model.latent_size, generator=numpy_generator(pca_seed)
    )
    fit = represent(model, dataset, fit_episodes, pca)
    test = represent(model, dataset, test_episodes, pca)
    states = States.of(dataset.states, test.rows)
    probes = fit_probes(fit, States.of(dataset.states, fit.rows), test, states, seed=mlp_seed)
    return _assemble(probes, len(fit.rows), test, states, [])


def _why_no_probe(dataset: Dataset, split: ReportSplit) -> str | None:
    if not dataset.states:
        return (
            "The dataset has no /state columns: probes, drift, and the colours of the map of "
            "latents are left out."
        )
    if not len(split.fit):
        return (
            "The dataset has a single episode: a probe is fitted and tested on different "
            "episodes, so probes and drift are left out."
        )
    return None


def _assemble(
    probes: list[Probe], fit_rows: int, test: Representations, states: States, notes: list[str]
) -> StateReport:
    drift = {}
    for method in (LINEAR, MLP) if probes else ():
        measured = measure_drift(find_probe(probes, LATENT, method), states, test.steps)
        if measured is not None:
            drift[method] = measured
    if probes and not drift:
        notes = [*notes, "The episodes are shorter than 12 frames: drift is left out."]
    latents = test.values[LATENT]
    pca = pca_fit(latents, 2)
    points = np.zeros((len(latents), 2), np.float32)
    points[:, : len(pca.explained)] = pca.apply(latents)
    return StateReport(
        probes=probes,
        fit_rows=fit_rows,
        test_rows=len(test.rows),
        drift=drift,
        map=points,
        map_explained=pca.explained.tolist(),
        states=states,
        notes=notes,
    )
