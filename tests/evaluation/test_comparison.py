"""Representations, their probes, and drift, against numpy and known systems."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.evaluation.dots import DotModel, make_episode, write_dots

from latentwrap.datasets import Dataset
from latentwrap.evaluation.comparison import (
    LINEAR,
    MLP,
    Probe,
    States,
    find_probe,
    fit_probes,
)
from latentwrap.evaluation.drift import measure_drift
from latentwrap.evaluation.pca import pca_fit
from latentwrap.evaluation.regression import linear_fit, r_squared
from latentwrap.evaluation.representations import (
    LATENT,
    PCA_ONE,
    PCA_STACK,
    SINGLE,
    FramePCA,
    Representations,
    fit_frame_pca,
    represent,
    stacked,
)
from latentwrap.models import LatentModel
from latentwrap.seeding import numpy_generator

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dots(tmp_path_factory.mktemp("dots") / "dots.h5", [40, 25, 30, 35])


@pytest.fixture(scope="module")
def pca(data: Dataset) -> FramePCA:
    return fit_frame_pca(data, np.arange(4), count=20, generator=numpy_generator(0))


@pytest.mark.parametrize("shape", [(30, 8), (12, 50)])
def test_principal_components_are_those_of_the_svd(shape: tuple[int, int]) -> None:
    x = RNG.normal(size=shape) * np.linspace(1, 3, shape[1]) + 5
    fitted = pca_fit(x, 4)
    centred = x - x.mean(axis=0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(np.sum(fitted.components.T * directions[:4], axis=1))
    expected = centred @ (directions[:4].T * signs)
    np.testing.assert_allclose(fitted.apply(x), expected, atol=1e-3)
    np.testing.assert_allclose(fitted.explained, values[:4] ** 2 / np.sum(values**2), rtol=1e-4)


def test_directions_without_variance_are_left_out() -> None:
    assert pca_fit(np.ones((5, 3)), 2).components.shape == (3, 0)
    assert pca_fit(np.outer(np.arange(6), [1.0, 2.0, 0.0]), 2).components.shape == (3, 1)


def test_stacks_repeat_the_first_frame() -> None:
    frames = make_episode(4, 0).frames
    stacks = stacked(frames)
    assert stacks.shape == (5, 3, *frames.shape[1:])
    np.testing.assert_array_equal(stacks[0], frames[[0, 0, 0]])
    np.testing.assert_array_equal(stacks[1], frames[[0, 0, 1]])
    np.testing.assert_array_equal(stacks[4], frames[[2, 3, 4]])


def test_stacks_for_pca_stay_in_their_episode(data: Dataset) -> None:
    """All frames are drawn here, so that the components are those of all stacks."""
    fitted = fit_frame_pca(data, np.arange(4), count=3, generator=numpy_generator(0))
    stacks = np.concatenate([stacked(data.episode(e).frames) for e in range(4)])
    expected = pca_fit(stacks.reshape(len(stacks), -1), 3)
    np.testing.assert_allclose(fitted.stack.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(fitted.stack.explained, expected.explained, rtol=1e-4)


def test_rows_of_all_representations_belong_together(
    data: Dataset, pca: FramePCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentwrap.evaluation.representations._AT_ONCE", 7)
    model = DotModel()
    found = represent(model, data, np.array([2, 0]), pca)
    first = data.episode(2)
    assert found.rows.tolist() == [*range(67, 98), *range(41)]
    assert found.steps.tolist() == [*range(31), *range(41)]
    np.testing.assert_allclose(found.values[LATENT][:31, :2], first.states["place"], atol=1e-5)
    np.testing.assert_array_equal(found.values[LATENT][1:31, 2], first.actions[:, 0])
    np.testing.assert_array_equal(found.values[SINGLE][:31, 2], np.zeros(31))
    pixels = stacked(first.frames).reshape(31, -1)
    np.testing.assert_allclose(found.values[PCA_STACK][:31], pca.stack.apply(pixels), atol=1e-2)
    np.testing.assert_allclose(
        found.values[PCA_ONE][:31], pca.one.apply(first.frames.reshape(31, -1)), atol=1e-2
    )
    assert list(represent(model, data, np.array([1]), None).values) == [LATENT]


def representations(**values: np.ndarray) -> Representations:
    count = len(next(iter(values.values())))
    as_floats = {name: value.astype(np.float32) for name, value in values.items()}
    return Representations(as_floats, np.arange(count), np.arange(count))


def test_unknown_states_are_left_out_of_their_column_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("latentwrap.evaluation.comparison._MLP_UPDATES", 5)
    x = RNG.normal(size=(300, 4)).astype(np.float32)
    weights = RNG.normal(size=(4, 3))
    y = (x @ weights + 0.3 * RNG.normal(size=(300, 3))).astype(np.float32)
    y[::7, 1] = np.nan
    y[:, 2] = np.where(np.arange(300) < 10, y[:, 2], np.nan)
    fit, test = slice(0, 200), slice(200, 300)
    states = [States(("a[0]", "b[0]", "b[1]"), y[part]) for part in (fit, test)]
    probes = fit_probes(
        representations(latent=x[fit]),
        states[0],
        representations(latent=x[test]),
        states[1],
        seed=0,
    )
    scores = find_probe(probes, "latent", LINEAR).r2
    for column, name in ((0, "a[0]"), (1, "b[0]")):
        known = np.isfinite(y[:, column])
        rows, later = known & (np.arange(300) < 200), known & (np.arange(300) >= 200)
        fitted = linear_fit(x[rows], y[rows, column : column + 1])
        expected = r_squared(fitted.predict(x[later]), y[later, column : column + 1])
        assert scores[name] == pytest.approx(expected[0], abs=1e-5)
    assert np.isnan(scores["b[1]"])
    assert {probe.method for probe in probes} == {LINEAR, MLP}


def test_a_constant_state_has_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentwrap.evaluation.comparison._MLP_UPDATES", 5)
    x = RNG.normal(size=(100, 2))
    constant = States(("s[0]",), np.full((100, 1), 3, np.float32))
    values = representations(latent=x)
    assert np.isnan(fit_probes(values, constant, values, constant, seed=0)[0].r2["s[0]"])


def test_states_are_named_by_column_and_dimension(data: Dataset) -> None:
    states = States.of(data.states, np.array([1, 5]))
    assert states.names == ("move[0]", "place[0]", "place[1]")
    np.testing.assert_array_equal(states.values[:, 1:], data.states["place"][[1, 5]])
    assert States.of({}, np.arange(4)).values.shape == (4, 0)


def probe_with_error(truth: np.ndarray, error: np.ndarray) -> Probe:
    return Probe(LATENT, MLP, truth + error, {})


def test_drift_compares_bins_with_the_variance_of_all_frames() -> None:
    steps = np.tile(np.arange(36), 50)
    truth = RNG.normal(size=(len(steps), 1)).astype(np.float32)
    error = np.where(steps < 4, 1.0, np.where(steps < 20, 0.0, 0.5))[:, None]
    result = measure_drift(probe_with_error(truth, error), States(("s[0]",), truth), steps)
    assert result is not None
    assert result.edges == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert result.rows == [200] * 9
    spread = truth.astype(float).var()
    expected = [1 - 1 / spread] + [1] * 4 + [1 - 0.25 / spread] * 4
    np.testing.assert_allclose(result.r2["s[0]"], expected, rtol=1e-5)
    assert result.drop["s[0]"] == pytest.approx(0.25 / spread, rel=1e-4)


def test_drift_of_a_perfect_filter_is_none(
    data: Dataset, pca: FramePCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = represent(DotModel(), data, np.arange(4), pca)
    states = States.of(data.states, found.rows)
    known, x = found.steps > 0, found.values[LATENT]
    predicted = linear_fit(x[known], states.values[known]).predict(x)
    monkeypatch.setattr("latentwrap.evaluation.drift._FEWEST", 5)
    drift = measure_drift(Probe(LATENT, LINEAR, predicted, {}), states, found.steps)
    assert drift is not None
    assert max(abs(drop) for drop in drift.drop.values()) < 1e-4
    # The unknown moves of first frames count nowhere.
    assert min(drift.r2["move[0]"]) > 0.999


def test_short_episodes_have_no_drift() -> None:
    steps = np.tile(np.arange(11), 50)
    truth = RNG.normal(size=(len(steps), 1)).astype(np.float32)
    probe = probe_with_error(truth, np.zeros_like(truth))
    assert measure_drift(probe, States(("s[0]",), truth), steps) is None


def test_few_rows_give_no_score() -> None:
    steps = np.arange(24)
    truth = RNG.normal(size=(24, 1)).astype(np.float32)
    drift = measure_drift(
        probe_with_error(truth, np.zeros_like(truth)), States(("s[0]",), truth), steps
    )
    assert drift is not None
    assert np.isnan(drift.r2["s[0]"]).all()
    assert np.isnan(drift.drop["s[0]"])


def test_single_frame_latents_do_not_depend_on_batches(
    tiny_model: LatentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentwrap.evaluation.representations import single_frame_latents

    frames = torch.randint(0, 256, (7, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = tiny_model.latent(tiny_model.initial(frames)).numpy()
        monkeypatch.setattr("latentwrap.evaluation.representations._AT_ONCE", 3)
        np.testing.assert_allclose(single_frame_latents(tiny_model, frames), expected, atol=1e-5)
