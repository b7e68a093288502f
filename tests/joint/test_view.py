"""What actor and critics see is what the wrappers hand out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from tests.conftest import TINY, make_statistics
from tests.joint.worlds import (
    BOX,
    DISCRETE,
    Diary,
    features_of,
    framed,
    make_model,
    make_world,
    offline,
    random_actions,
)

from latentwrap import LatentObservation, VectorLatentObservation
from latentwrap.joint import JointConfig
from latentwrap.joint.view import AgentView
from latentwrap.models import LatentModel, map_belief
from latentwrap.normalizer import LatentNormalizer
from latentwrap.wrappers.following import History
from latentwrap.wrappers.history import HistoryObservation

LATENT = JointConfig(actor_input="latent")
HISTORY = JointConfig(actor_input="history", history=3)
NO_VECTORS = np.zeros((1, 0), np.float32)


def vectors_of(model: LatentModel, diary: Diary) -> np.ndarray:
    """Of the latest frame, (1, V)."""
    return diary.diary[-1].vectors[-1][None] if model.vector_spec.size else NO_VECTORS


@pytest.mark.parametrize("vectors", ["none", "beside", "seen"])
@pytest.mark.parametrize("kind", TINY)
def test_a_latent_is_what_the_wrapper_hands_out(kind: str, vectors: str) -> None:
    model = make_model(kind, vectors=vectors != "none", sees=vectors == "seen")
    diary = Diary(vectors=vectors != "none")
    env = LatentObservation(framed(diary, vectors=vectors != "none"), model)
    view = AgentView(model, LATENT)
    assert view.actor_space == env.observation_space
    assert view.sight.actor == view.sight.critics == slice(0, view.size)
    seen = [env.reset(seed=0)[0]]
    rng = np.random.default_rng(0)
    for t in range(6):
        belief, given = offline(model, diary.diary[-1])[-1], vectors_of(model, diary)
        found = view.observe(belief, given, None)
        np.testing.assert_allclose(found[0].numpy(), seen[-1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(view.state(belief, given), found, rtol=0, atol=0)
        if t == 5:  # a new episode after the first
            seen.append(env.reset()[0])
        else:
            seen.append(env.step(random_actions(BOX, 1, rng)[0])[0])


def test_so_it_is_in_a_vector() -> None:
    env, diaries = make_world(AutoresetMode.NEXT_STEP, vectors=True)
    model = make_model(sees=True)
    many, view = VectorLatentObservation(env, model), AgentView(model, LATENT)
    assert view.actor_space == many.single_observation_space
    observations, _ = many.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(7):
        beliefs = [offline(model, diary.diary[-1])[-1] for diary in diaries]
        joined = map_belief(lambda *each: torch.cat(each), *beliefs)
        vectors = np.concatenate([vectors_of(model, diary) for diary in diaries])
        found = view.observe(joined, vectors, None)
        np.testing.assert_allclose(found.numpy(), observations, rtol=1e-4, atol=1e-5)
        observations, *_ = many.step(random_actions(BOX, 3, rng))


@pytest.mark.parametrize("vectors", ["none", "beside", "seen"])
@pytest.mark.parametrize("actions", [BOX, DISCRETE])
def test_a_history_is_what_its_wrapper_hands_out(actions: spaces.Space, vectors: str) -> None:
    has, sees = vectors != "none", vectors == "seen"
    model = make_model(actions=actions, vectors=has, sees=sees)
    diary = Diary(actions=actions, vectors=has)
    env = HistoryObservation(framed(diary, vectors=has), model, length=3)
    view = AgentView(model, HISTORY)
    assert view.actor_space == env.observation_space
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    taken: list[torch.Tensor] = []
    for _ in range(5):
        episode = diary.diary[-1]
        features = features_of(model, episode)
        padded = torch.cat([features[:1], features[:1], features])[-3:]
        nothing = torch.zeros(2, model.action_spec.size)
        history = History(padded[None], torch.cat([nothing, *taken])[-2:][None])
        belief, given = offline(model, episode)[-1], vectors_of(model, diary)
        found = view.observe(belief, given, history)
        assert found.shape == (1, view.size)
        ours = found[0, view.sight.actor].numpy()
        np.testing.assert_allclose(ours, observation, rtol=1e-4, atol=1e-5)
        # The critics see the latent as the model has it, then the vectors.
        scaled = model.vector_normalizer.normalize(given) if has else given
        expected = torch.cat([model.latent(belief), torch.from_numpy(scaled)], dim=1)
        torch.testing.assert_close(found[:, view.sight.critics], expected)
        if episode.ended:
            break
        action = random_actions(actions, 1, rng)
        taken.append(torch.from_numpy(model.action_spec.encode(action.reshape(1, -1))))
        observation, *_ = env.step(action[0])


def test_another_scale_is_used_from_then_on() -> None:
    model, diary = make_model(), Diary()
    diary.reset()
    [belief] = offline(model, diary.diary[-1])
    view = AgentView(model, LATENT)
    raw = model.latent(belief).numpy()
    for scale in (model.normalizer, make_statistics(model.latent_size, np.random.default_rng(7))):
        assert isinstance(scale, LatentNormalizer)
        view.rescale(scale)
        found = view.observe(belief, NO_VECTORS, None).numpy()
        np.testing.assert_allclose(found, scale.normalize(raw), rtol=1e-5, atol=1e-6)
    tiny = LatentNormalizer(raw[0] - 1, np.zeros_like(raw[0]))
    view.rescale(tiny)
    assert (view.observe(belief, NO_VECTORS, None) == 10).all()  # floored, then clipped


@pytest.mark.parametrize("config", [LATENT, HISTORY])
def test_a_model_without_statistics_is_seen_as_it_is(config: JointConfig) -> None:
    model: Any = make_model()
    model.normalizer = None
    diary = Diary()
    diary.reset()
    [belief] = offline(model, diary.diary[-1])
    view = AgentView(model, config)
    raw = model.latent(belief)
    torch.testing.assert_close(view.state(belief, NO_VECTORS), raw)
    assert (model.normalizer.mean == 0).all()
    assert (model.normalizer.std == 1).all()
