"""Filtering rows of the replay against filtering whole episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import STOCHASTIC, TINY
from tests.joint.worlds import (
    DISCRETE,
    Played,
    assert_same_beliefs,
    features_of,
    make_model,
    make_replay,
    offline,
    play_into,
)

from latentwrap.joint import beliefs as beliefs_module
from latentwrap.joint.beliefs import ReplayFilter
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.models import LatentModel, map_belief
from latentwrap.training.statistics import filter_sequences

LENGTHS = (5, 1, 9, 3)


def means(model: LatentModel, replay: SequenceReplay) -> ReplayFilter:
    return ReplayFilter(model, replay, sample=False, noise=torch.Generator())


def samples(model: LatentModel, replay: SequenceReplay, seed: int) -> ReplayFilter:
    noise = torch.Generator().manual_seed(seed)
    return ReplayFilter(model, replay, sample=True, noise=noise)


def along(beliefs: list[Any]) -> Any:
    """Beliefs of one after each frame as one of the whole episode, (T+1, ·)."""
    return map_belief(lambda *steps: torch.cat(steps), *beliefs)


def check_kept(model: LatentModel, replay: SequenceReplay, episodes: list[Played]) -> None:
    stretches = replay.episodes()
    assert len(stretches) == len(episodes)
    for stretch, episode in zip(stretches, episodes, strict=True):
        assert_same_beliefs(replay.beliefs(stretch.rows), along(offline(model, episode)))
        torch.testing.assert_close(replay.features(stretch.rows), features_of(model, episode))


@pytest.mark.parametrize("sees", [False, True])
@pytest.mark.parametrize("kind", TINY)
def test_a_whole_episode_is_filtered_as_offline(kind: str, sees: bool) -> None:
    model = make_model(kind, sees=sees)
    replay = make_replay(vectors=sees)
    episodes = play_into(replay, LENGTHS, vectors=sees)
    filter_ = means(model, replay)
    for stretch, episode in zip(replay.episodes(), episodes, strict=True):
        features, beliefs = filter_.refresh(stretch.rows[None])
        assert_same_beliefs(map_belief(lambda b: b[0], beliefs), along(offline(model, episode)))
        torch.testing.assert_close(features[0], features_of(model, episode))
        frames = torch.from_numpy(np.stack(episode.frames))[None]
        actions = torch.from_numpy(model.action_spec.encode(np.stack(episode.actions)))[None]
        vectors = model.prepare_vectors(np.stack(episode.vectors)[None])
        latents = filter_sequences(model, frames, actions, vectors)[0]
        torch.testing.assert_close(model.latent(replay.beliefs(stretch.rows)), latents)
    check_kept(model, replay, episodes)


@pytest.mark.parametrize("kind", TINY)
def test_a_window_goes_on_from_the_belief_that_is_kept(kind: str) -> None:
    model, replay = make_model(kind, actions=DISCRETE), make_replay(actions=DISCRETE)
    [*_, episode] = play_into(replay, (4, 12))
    rows, filter_ = replay.episodes()[1].rows, means(model, replay)
    filter_.refresh(rows[None, :6])
    expected = along(offline(model, episode))
    _, beliefs = filter_.refresh(np.stack([rows[5:10], rows[3:8]]))
    for found, start in ((0, 5), (1, 3)):
        ours = map_belief(lambda b, at=found: b[at], beliefs)
        assert_same_beliefs(ours, map_belief(lambda b, at=start: b[at : at + 5], expected))
    # The kept belief is where it begins, also where that is not what the frames say.
    other = map_belief(lambda b: b + 1, replay.beliefs(rows[2:3]))
    replay.keep(rows[2:3], torch.zeros(1, model.seen_size), other)
    _, beliefs = filter_.refresh(rows[None, 2:4])
    assert_same_beliefs(map_belief(lambda b: b[:, 0], beliefs), other)
    action = torch.from_numpy(replay.actions(rows[2:3]))
    with torch.no_grad():
        by_hand = model.believe_next(other, action, features_of(model, episode)[3:4])
    assert_same_beliefs(map_belief(lambda b: b[:, 1], beliefs), by_hand)


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("kind", TINY)
def test_rows_that_are_repeated_are_filtered_once(kind: str, sample: bool) -> None:
    model, replay = make_model(kind), make_replay()
    [episode] = play_into(replay, (5,))
    rows = replay.episodes()[0].rows
    filter_ = samples(model, replay, 1) if sample else means(model, replay)
    padded = replay.windows_before(rows[[2, 0, 5]], 7)
    assert (padded[0, :6] == rows[0]).all()
    _, beliefs = filter_.refresh(padded)
    for window, series in enumerate(padded):
        for t in range(1, 8):
            if series[t] == series[t - 1]:
                same = map_belief(lambda b, w=window, at=t: b[w, at - 1], beliefs)
                found = map_belief(lambda b, w=window, at=t: b[w, at], beliefs)
                assert_same_beliefs(found, same, rtol=0, atol=0)
    if not sample:
        expected = along(offline(model, episode))
        last = map_belief(lambda b: b[:, -1], beliefs)
        assert_same_beliefs(last, map_belief(lambda b: b[[2, 0, 5]], expected))
        assert_same_beliefs(replay.beliefs(rows), expected)


@pytest.mark.parametrize("kind", TINY)
def test_features_that_are_known_are_not_computed_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, replay = make_model(kind), make_replay()
    play_into(replay, LENGTHS)
    filter_ = means(model, replay)
    filter_.refresh_all()
    rows = replay.draw_windows(5, 3)
    once = filter_.refresh(rows)
    features = filter_.see(rows)
    torch.testing.assert_close(features, once.features, rtol=0, atol=0)

    def blind(*_: Any) -> None:
        raise AssertionError("looked again")

    monkeypatch.setattr(model, "see", blind)
    again = filter_.refresh(rows, features)
    assert_same_beliefs(again.beliefs, once.beliefs)
    monkeypatch.undo()
    # Other features give another outcome: it is they that are used, and kept.
    changed = filter_.refresh(rows, features + 1)
    assert not torch.allclose(
        model.latent(map_belief(lambda b: b[:, -1], changed.beliefs)),
        model.latent(map_belief(lambda b: b[:, -1], once.beliefs)),
    )
    assert (replay.features(rows) != features).all()


@pytest.mark.parametrize("at_once", [2, 6, 2048])
@pytest.mark.parametrize("kind", TINY)
def test_all_episodes_are_filtered_as_each_by_itself(
    kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beliefs_module, "_ROWS_AT_ONCE", at_once)
    model, replay = make_model(kind), make_replay(lanes=2)
    episodes = play_into(replay, (5, 1, 9, 3)) + play_into(replay, (2, 17), lane=1, seed=1)
    means(model, replay).refresh_all(window=3)
    check_kept(model, replay, episodes)


def test_what_is_left_of_an_episode_goes_on_from_its_belief() -> None:
    model, replay = make_model(), make_replay(capacity=10)
    play = (4, 8)
    [*_, episode] = play_into(replay, play)
    filter_ = means(model, replay)
    [cut, _] = replay.episodes()
    assert not replay.is_first(cut.rows[:1])[0]
    expected = along(offline(model, episode))
    truth = map_belief(lambda b: b[3:], along(offline(model, play_into(make_replay(), play)[0])))
    replay.keep(cut.rows[:1], torch.zeros(1, model.seen_size), map_belief(lambda b: b[:1], truth))
    filter_.refresh_all()
    assert_same_beliefs(replay.beliefs(cut.rows[1:]), map_belief(lambda b: b[1:], truth))
    assert_same_beliefs(replay.beliefs(replay.episodes()[1].rows), expected)


def test_an_episode_cut_before_it_was_filtered_is_filtered_from_what_is_left() -> None:
    """As `SLAC.load` and `remember` do, where there is more than the replay holds."""
    model, replay = make_model(), make_replay(capacity=8)
    play_into(replay, (6, 5))
    [cut, whole] = replay.episodes()
    assert len(cut.rows) == 3
    means(model, replay).refresh_all()
    latents = model.latent(replay.beliefs(replay.rows()))
    assert latents.isfinite().all()
    alone = means(model, replay).refresh(whole.rows[None])
    assert_same_beliefs(replay.beliefs(whole.rows), map_belief(lambda b: b[0], alone.beliefs))


def draws_of_s(kind: str, belief: Any) -> torch.Tensor:
    """The part of a belief that has a posterior of its own."""
    return belief.z1 if kind == "slac" else belief.s


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_samples_have_mean_and_spread_of_the_posterior(kind: str) -> None:
    model, replay = make_model(kind), make_replay()
    play_into(replay, (3,))
    rows, count = replay.episodes()[0].rows, 4000
    filter_ = samples(model, replay, 3)
    frames = torch.from_numpy(replay.frames(rows[:2]))
    with torch.no_grad():
        features = model.see(frames)
        first = model.believe_first(features[:1])
        action = torch.from_numpy(replay.actions(rows[:1]))
        second = model.believe_next(first, action, features[1:])
        spread = model.innovation(None, None, frames[:1]).std[0]
        spread_after = model.innovation(first, action, frames[1:]).std[0]
    _, drawn = filter_.refresh(np.full((count, 1), rows[0]))
    check_moments(draws_of_s(kind, drawn)[:, 0], draws_of_s(kind, first)[0], spread)
    replay.keep(rows[:1], torch.zeros(1, model.seen_size), first)
    # Not the first row of its episode as far as the replay knows, so it goes on from the mean.
    window = np.tile(rows[:2], (count, 1))
    monkey = pytest.MonkeyPatch()
    monkey.setattr(replay, "begins", lambda rows: np.zeros(len(rows), bool))
    _, drawn = filter_.refresh(window)
    monkey.undo()
    check_moments(draws_of_s(kind, drawn)[:, 1], draws_of_s(kind, second)[0], spread_after)


def check_moments(drawn: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Within five standard errors."""
    count = len(drawn)
    assert ((drawn.mean(0) - mean).abs() < 5 * std / count**0.5).all()
    assert ((drawn.std(0) - std).abs() < 0.12 * std).all()


@pytest.mark.parametrize("kind", TINY)
def test_samples_follow_the_generator(kind: str) -> None:
    model, replay = make_model(kind), make_replay()
    play_into(replay, LENGTHS)
    rows = replay.episodes()[2].rows[None]
    first, again, other = (samples(model, replay, seed).refresh(rows).beliefs for seed in (1, 1, 2))
    assert_same_beliefs(first, again, rtol=0, atol=0)
    latents = [model.latent(map_belief(lambda b: b[:, 3], each)) for each in (first, other)]
    assert torch.equal(*latents) == (kind == "deterministic")
    filter_ = samples(model, replay, 1)
    filter_.refresh(rows)
    later = filter_.refresh(rows).beliefs
    assert torch.equal(later[-1], first[-1]) == (kind == "deterministic")


@pytest.mark.parametrize("kind", TINY)
def test_filtering_leaves_no_graph_behind(kind: str) -> None:
    model, replay = make_model(kind), make_replay()
    model.requires_grad_(requires_grad=True)
    play_into(replay, LENGTHS)
    means(model, replay).refresh_all()
    rows = replay.rows()
    for tensor in (*replay.beliefs(rows), replay.features(rows)):
        assert not tensor.requires_grad
