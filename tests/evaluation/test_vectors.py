"""The report of a model that sees two cameras and vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import TINY, make_tiny_model

from latentwrap.datasets import Dataset, collect
from latentwrap.evaluation.films import make_film
from latentwrap.evaluation.report import evaluate_model
from latentwrap.evaluation.representations import (
    LATENT,
    SINGLE,
    fit_frame_pca,
    represent,
    single_frame_latents,
)
from latentwrap.evaluation.stretches import read_stretches
from latentwrap.models import LatentModel
from latentwrap.seeding import numpy_generator
from latentwrap.training.statistics import filter_episodes

CAMERAS = "latentwrap_test_envs:latentwrap-test/Cameras-v0"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("cameras") / "cameras.h5"
    keys = {"image_keys": ["front", "robot.wrist"], "vector_keys": ["joints", "robot.mode"]}
    kwargs = {"lengths": (30, 24)}
    collect(CAMERAS, path, steps=240, height=8, width=8, env_kwargs=kwargs, **keys)
    return Dataset(path)


def model_of(data: Dataset, kind: str) -> LatentModel:
    info = data.info
    return make_tiny_model(
        kind=kind,
        frame=info.frame,
        action_space=info.action.space,
        vectors=info.vectors,
        sees_vectors=True,
    )


def test_everything_is_measured(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentwrap.evaluation.comparison._MLP_UPDATES", 20)
    monkeypatch.setattr("latentwrap.evaluation.throughput._SECONDS", 0.01)
    report = evaluate_model(model_of(data, "rssm"), data, seed=1)
    assert set(report.loss.terms) == {"kl", "image", "vectors", "reward", "loss"}
    assert report.states.r2(LATENT, "linear").keys() == {"state[0]", "state[1]"}
    assert report.films[0].frames.shape[1:] == (8, 16, 3)


@pytest.mark.parametrize("kind", list(TINY))
@torch.no_grad()
def test_every_way_to_a_latent_sees_the_vectors(data: Dataset, kind: str) -> None:
    model, episodes = model_of(data, kind), np.array([1, 2])
    expected = np.concatenate(list(filter_episodes(model, data, episodes)))
    found = represent(model, data, episodes, None).values[LATENT]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (stretches,) = read_stretches(model, data, episodes, longest=100)
    assert stretches.vectors is not None
    start, length = int(data.starts[1]), int(data.lengths[1])
    joined = data.joined_vectors
    assert joined is not None
    prepared = model.prepare_vectors(joined[start : start + length])
    np.testing.assert_array_equal(stretches.vectors[0, :length], prepared)
    assert not stretches.vectors[0, length:].any()
    film = make_film(model, data, 1, seed=0)
    assert film.filtered.shape == (length, 8, 16, 3)


@torch.no_grad()
def test_a_single_frame_comes_with_its_vectors(data: Dataset) -> None:
    model, episodes = model_of(data, "slac"), np.array([0])
    pca = fit_frame_pca(data, episodes, count=2, generator=numpy_generator(0))
    found = represent(model, data, episodes, pca).values[SINGLE]
    (stretches,) = read_stretches(model, data, episodes, longest=100)
    assert stretches.vectors is not None
    for t in (0, 7, 30):
        alone = single_frame_latents(
            model, stretches.frames[0, t : t + 1], stretches.vectors[0, t : t + 1]
        )
        np.testing.assert_allclose(found[t], alone[0], atol=1e-5)
