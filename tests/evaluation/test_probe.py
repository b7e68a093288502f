"""Linear probes against numpy's least squares and known systems."""

from __future__ import annotations

import numpy as np
import pytest

from latentwrap.datasets import Dataset, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import DatasetError
from latentwrap.evaluation.probe import probe_states
from latentwrap.evaluation.regression import linear_fit, mlp_fit, r_squared
from latentwrap.models import LatentModel
from latentwrap.training.statistics import filter_episodes

RNG = np.random.default_rng(0)


def test_linear_fit_is_least_squares() -> None:
    x, y = RNG.normal(size=(200, 7)), RNG.normal(size=(200, 2))
    ours = linear_fit(x, y).predict(x)
    design = np.c_[x, np.ones(len(x))]
    theirs = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_unused_dimensions_do_no_harm() -> None:
    x = np.c_[RNG.normal(size=(50, 3)), np.zeros((50, 2))]
    y = x @ RNG.normal(size=(5, 1)) + 3
    np.testing.assert_allclose(linear_fit(x, y).predict(x), y, atol=1e-4)


@pytest.mark.parametrize("x", [np.ones((20, 3)), np.zeros((20, 0))])
def test_inputs_that_never_vary_predict_the_mean(x: np.ndarray) -> None:
    y = RNG.normal(size=(20, 2))
    np.testing.assert_allclose(linear_fit(x, y).predict(x), np.tile(y.mean(0), (20, 1)))


def test_mlp_reads_what_least_squares_cannot() -> None:
    x = RNG.uniform(-2, 2, size=(4000, 3)) * [1.0, 100.0, 0.01] + [0.0, 5.0, 1.0]
    y = np.c_[np.sin(2 * x[:, 0]) * x[:, 2], np.full(len(x), 7.0)]
    fitted = mlp_fit(x[:3000], y[:3000], updates=600)
    predicted = fitted.predict(x[3000:])
    assert r_squared(predicted[:, :1], y[3000:, :1])[0] > 0.95
    assert r_squared(linear_fit(x[:3000], y[:3000]).predict(x[3000:])[:, :1], y[3000:, :1])[0] < 0.5
    np.testing.assert_allclose(predicted[:, 1], 7.0, atol=0.1)
    again = mlp_fit(x[:3000], y[:3000], updates=600)
    np.testing.assert_array_equal(again.predict(x[3000:]), predicted)


def test_r_squared_by_hand() -> None:
    targets = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 8.0]])
    predicted = np.array([[1.0, 6.0], [2.0, 6.0], [3.0, 6.0]])
    # Column 0: residuals 1, 0, 1 of a spread of 8. Column 1: the mean, which explains nothing.
    np.testing.assert_allclose(r_squared(predicted, targets), [0.75, 0.0])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("probe") / "data.h5"
    collect(PIXEL_PENDULUM, path, steps=800, seed=0, height=16, width=16)
    return Dataset(path)


def test_a_probe_is_fitted_on_some_episodes_and_scored_on_others(
    data: Dataset, tiny_model: LatentModel
) -> None:
    result = probe_states(tiny_model, data, fit=np.array([0, 2]), test=np.array([1, 3]))
    latents = list(filter_episodes(tiny_model, data, np.arange(4)))
    states = [data.episode(number).states["state"] for number in range(4)]
    probe = linear_fit(np.concatenate(latents[::2]), np.concatenate(states[::2]))
    predicted = probe.predict(np.concatenate(latents[1::2]))
    expected = r_squared(predicted, np.concatenate(states[1::2]))
    assert list(result.r2) == ["state[0]", "state[1]", "state[2]"]
    np.testing.assert_allclose(list(result.r2.values()), expected, atol=1e-6)
    assert (result.fit_rows, result.test_rows) == (402, 402)


def test_a_probe_needs_states_and_episodes(data: Dataset, tiny_model: LatentModel) -> None:
    with pytest.raises(DatasetError, match="at least one episode"):
        probe_states(tiny_model, data, fit=np.array([0]), test=np.array([], int))
    data = Dataset(data.path)
    data.states.clear()
    with pytest.raises(DatasetError, match="requires /state columns"):
        probe_states(tiny_model, data, fit=np.array([0]), test=np.array([1]))
