"""Probes of every state from every representation, linear and nonlinear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latentwrap.evaluation.regression import linear_fit, mlp_fit, r_squared
from latentwrap.evaluation.representations import Representations
from latentwrap.types import AnyArray, BoolArray, FloatArray

LINEAR, MLP = "linear", "mlp"
_FEWEST = 30
_MLP_UPDATES = 1500


@dataclass(frozen=True)
class States:
    """Every dimension of every `/state` column of some frames.

    Attributes:
        names: of each dimension, as in `state[0]`.
        values: float32 (N, K); NaN where a value is not known.
    """

    names: tuple[str, ...]
    values: FloatArray

    @classmethod
    def of(cls, columns: Mapping[str, FloatArray], rows: AnyArray) -> States:
        """The states of some rows of a dataset."""
        names = [f"{n}[{i}]" for n, column in columns.items() for i in range(column.shape[1])]
        values = [np.empty((len(rows), 0), np.float32)]
        values += [column[rows] for column in columns.values()]
        return cls(tuple(names), np.concatenate(values, axis=1))


@dataclass(frozen=True)
class Probe:
    """One regression from a representation to the states of other episodes.

    Attributes:
        representation: what it reads.
        method: `linear` or `mlp`.
        predicted: states of the test frames, (N, K); NaN where a state cannot be probed.
        r2: coefficient of determination by state dimension; NaN where a state is constant, or
            known in too few frames.
    """

    representation: str
    method: str
    predicted: AnyArray
    r2: dict[str, float]


def fit_probes(
    fit: Representations,
    fit_states: States,
    test: Representations,
    test_states: States,
    *,
    seed: int,
) -> list[Probe]:
    """Fit both kinds of probe to every representation and score them on other episodes.

    Rows where a state is NaN are left out for that state.

    Args:
        fit, fit_states: what to fit to.
        test, test_states: what to score on.
        seed: of the weights and batches of the MLP.
    """
    probes = []
    for name, inputs in fit.values.items():
        for method in (LINEAR, MLP):
            predicted = np.full(test_states.values.shape, np.nan)
            for columns, rows in _known_together(fit_states.values):
                x, y = inputs[rows], fit_states.values[rows][:, columns]
                fitted = (
                    linear_fit(x, y)
                    if method == LINEAR
                    else mlp_fit(x, y, seed=seed, updates=_MLP_UPDATES)
                )
                predicted[:, columns] = fitted.predict(test.values[name])
            probes.append(Probe(name, method, predicted, _scores(predicted, test_states)))
    return probes


def find_probe(probes: list[Probe], representation: str, method: str) -> Probe:
    """The probe of a representation by a method.

    Raises:
        LookupError: there is none.
    """
    for probe in probes:
        if (probe.representation, probe.method) == (representation, method):
            return probe
    raise LookupError(f"no {method} probe of {representation}")


def _known_together(values: FloatArray) -> list[tuple[list[int], BoolArray]]:
    """State dimensions that are known in the same rows, and those rows."""
    groups: dict[bytes, tuple[list[int], BoolArray]] = {}
    for column in range(values.shape[1]):
        known = np.isfinite(values[:, column])
        if known.sum() >= _FEWEST:
            groups.setdefault(known.tobytes(), ([], known))[0].append(column)
    return list(groups.values())


def _scores(predicted: AnyArray, states: States) -> dict[str, float]:
    return {
        name: _score(predicted[:, column], states.values[:, column].astype(np.float64))
        for column, name in enumerate(states.names)
    }


def _score(predicted: AnyArray, truth: AnyArray) -> float:
    known = np.isfinite(truth) & np.isfinite(predicted)
    if known.sum() < 2 or np.ptp(truth[known]) < 1e-9 * max(1.0, np.abs(truth[known]).max()):
        return float("nan")
    return float(r_squared(predicted[known, None], truth[known, None])[0])
