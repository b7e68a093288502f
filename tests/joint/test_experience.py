"""What enters the replay, and the beliefs beside it, are what truly happened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from tests.joint.worlds import (
    BOX,
    DISCRETE,
    MODES,
    VECTORS,
    Diary,
    Played,
    assert_same_beliefs,
    features_of,
    make_model,
    make_replay,
    make_world,
    offline,
    random_actions,
)

from latentwrap.joint.beliefs import ReplayFilter
from latentwrap.joint.experience import Experience
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.models import LatentModel, map_belief
from latentwrap.wrappers.frame_envs import observe_frames

HISTORY = 4
WORLDS = [None, *MODES]


class Tour:
    """Steps a world with random actions and keeps everything."""

    def __init__(
        self,
        mode: AutoresetMode | None,
        *,
        kind: str = "rssm",
        actions: spaces.Space = BOX,
        vectors: bool = False,
        sees: bool = False,
        sample: bool = False,
        capacity: int = 300,
    ) -> None:
        env, self.diaries = make_world(mode, actions=actions, vectors=vectors)
        self.model = make_model(kind, actions=actions, vectors=vectors, sees=sees)
        self.frames = observe_frames(env, self.model)
        self.replay: SequenceReplay = make_replay(
            capacity, actions=actions, lanes=self.frames.num, vectors=vectors
        )
        noise = torch.Generator().manual_seed(0)
        filter_ = ReplayFilter(self.model, self.replay, sample=sample, noise=noise)
        self.experience = Experience(self.frames, self.model, self.replay, filter_, history=HISTORY)
        self.count, self._rng = 0, np.random.default_rng(0)

    def go(self, steps: int, *, begin: bool = True) -> Tour:
        if begin:
            self.experience.begin(0)
        for _ in range(steps):
            actions = random_actions(self.frames.action_space, self.frames.num, self._rng)
            self.experience.send(actions)
            self.count += len(self.experience.receive())
            self.experience.restart()
        return self


def kept_episodes(diary: Diary) -> list[Played]:
    return [episode for episode in diary.diary if len(episode)]


def check_lane(tour: Tour, lane: int, diary: Diary) -> None:
    model, replay = tour.model, tour.replay
    stretches = [each for each in replay.episodes() if each.lane == lane]
    episodes = kept_episodes(diary)
    assert len(stretches) == len(episodes)
    for stretch, episode in zip(stretches, episodes, strict=True):
        rows, taken = stretch.rows, stretch.rows[:-1]
        np.testing.assert_array_equal(replay.frames(rows), np.stack(episode.frames))
        np.testing.assert_array_equal(replay.stored_actions(taken), np.stack(episode.actions))
        np.testing.assert_array_equal(replay.rewards(taken), np.float32(episode.rewards))
        ends = [False] * (len(episode) - 1) + [episode.terminated]
        np.testing.assert_array_equal(replay.terminated(taken), np.float32(ends))
        assert stretch.open == (not episode.ended)
        if replay.spec.vectors:
            np.testing.assert_array_equal(replay.vectors(rows), np.stack(episode.vectors))
        expected = map_belief(lambda *steps: torch.cat(steps), *offline(model, episode))
        assert_same_beliefs(replay.beliefs(rows), expected)
        torch.testing.assert_close(replay.features(rows), features_of(model, episode))


def check_followed(tour: Tour, lane: int, diary: Diary) -> None:
    """Belief and history of the latest frame that is acted on."""
    episode, model = diary.diary[-1], tour.model
    followed = tour.experience.followed
    found = map_belief(lambda b: b[lane : lane + 1], followed.belief)
    assert_same_beliefs(found, offline(model, episode)[-1])
    seen, rows = features_of(model, episode), []
    places = [max(0, len(episode) - back) for back in range(HISTORY - 1, -1, -1)]
    torch.testing.assert_close(followed.history.features[lane], seen[places])
    torch.testing.assert_close(followed.features[lane], seen[-1])
    for back in range(HISTORY - 1, 0, -1):
        place = len(episode) - back
        if place < 0:
            rows.append(np.zeros(model.action_spec.size, np.float32))
        else:
            stored = model.action_spec.flatten(episode.actions[place])
            rows.append(model.action_spec.encode(stored[None])[0])
    torch.testing.assert_close(
        followed.history.actions[lane], torch.from_numpy(np.stack(rows)), rtol=0, atol=0
    )
    if model.vector_spec.size:
        np.testing.assert_array_equal(tour.experience.vectors[lane], episode.vectors[-1])


@pytest.mark.parametrize("vectors", ["none", "beside", "seen"])
@pytest.mark.parametrize("mode", WORLDS)
def test_the_replay_holds_what_happened(mode: AutoresetMode | None, vectors: str) -> None:
    tour = Tour(mode, vectors=vectors != "none", sees=vectors == "seen").go(26)
    assert len(tour.replay) == tour.count == sum(
        len(episode) for diary in tour.diaries for episode in diary.diary
    )  # fmt: skip
    ends = [episode for diary in tour.diaries for episode in diary.diary if episode.ended]
    assert {episode.terminated for episode in ends} == {True, False}
    for lane, diary in enumerate(tour.diaries):
        check_lane(tour, lane, diary)


@pytest.mark.parametrize("kind", ["slac", "discrete", "deterministic"])
@pytest.mark.parametrize("mode", [None, AutoresetMode.NEXT_STEP])
def test_so_it_is_with_every_kind_of_model_and_action(
    mode: AutoresetMode | None, kind: str
) -> None:
    tour = Tour(mode, kind=kind, actions=DISCRETE).go(17)
    for lane, diary in enumerate(tour.diaries):
        check_lane(tour, lane, diary)


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("mode", WORLDS)
def test_what_is_acted_on_is_the_latest(mode: AutoresetMode | None, vectors: bool) -> None:
    tour = Tour(mode, vectors=vectors, sees=vectors)
    tour.experience.begin(0)
    for _ in range(14):
        for lane, diary in enumerate(tour.diaries):
            if tour.experience.acting[lane]:
                check_followed(tour, lane, diary)
        tour.go(1, begin=False)


@pytest.mark.parametrize("mode", WORLDS)
def test_beginning_anew_leaves_what_was_played(mode: AutoresetMode | None) -> None:
    """As after Ctrl-C: the episode that was cut off stays, and no longer goes on."""
    tour = Tour(mode).go(7)
    before = [each for each in tour.replay.episodes() if each.open]
    assert before
    tour.go(3)
    after = tour.replay.episodes()
    for cut in before:
        [same] = [e for e in after if (e.lane, e.begun) == (cut.lane, cut.begun)]
        assert same.rows.tolist() == cut.rows.tolist()
        assert not same.open
    for diary in tour.diaries:  # they were cut, and so it is written
        for episode in diary.diary[:-1]:
            episode.ended = True
    for lane, diary in enumerate(tour.diaries):
        check_lane(tour, lane, diary)


@pytest.mark.parametrize("mode", [None, AutoresetMode.SAME_STEP])
def test_a_full_replay_keeps_the_latest(mode: AutoresetMode | None) -> None:
    lanes = 1 if mode is None else 3
    tour = Tour(mode, capacity=8 * lanes).go(30)
    for lane, diary in enumerate(tour.diaries):
        frames = np.concatenate([np.stack(episode.frames) for episode in diary.diary])
        rows = tour.replay._in_order(lane)
        np.testing.assert_array_equal(tour.replay.frames(rows), frames[-9:])
        ages = np.concatenate([np.arange(len(e.frames)) for e in diary.diary])[-9:]
        assert tour.replay.is_first(rows).tolist() == (ages == 0).tolist()
        expected = [b for episode in diary.diary for b in offline(tour.model, episode)][-9:]
        found = tour.replay.beliefs(rows)
        assert_same_beliefs(found, map_belief(lambda *steps: torch.cat(steps), *expected))


def test_samples_are_kept_and_follow_the_generator() -> None:
    first, again = (Tour(AutoresetMode.NEXT_STEP, sample=True).go(10) for _ in range(2))
    rows = first.replay.rows()
    for ours, theirs in zip(first.replay.beliefs(rows), again.replay.beliefs(rows), strict=True):
        assert torch.equal(ours, theirs)
    means = Tour(AutoresetMode.NEXT_STEP).go(10).replay.beliefs(rows)
    assert not torch.allclose(first.replay.beliefs(rows).s, means.s)
    # z is drawn once: what is acted on is what is kept.
    latest = [each.rows[-1] for each in first.replay.episodes() if each.open]
    lanes = [each.lane for each in first.replay.episodes() if each.open]
    assert torch.equal(first.replay.beliefs(np.array(latest)).s,
                       first.experience.followed.belief.s[lanes])  # fmt: skip


def test_a_model_that_changes_is_followed_as_it_is_at_each_step() -> None:
    tour = Tour(None).go(2)
    model, episode = tour.model, tour.diaries[0].diary[0]
    before = tour.replay.beliefs(tour.replay.rows())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    tour.go(1, begin=False)
    rows = tour.replay.rows()
    action = torch.from_numpy(tour.replay.actions(rows[2:3]))
    with torch.no_grad():
        last = map_belief(lambda b: b[2:3], before)
        expected = model.believe_next(last, action, features_of(model, episode)[3:4])
    assert_same_beliefs(tour.replay.beliefs(rows[3:4]), expected)
    assert_same_beliefs(tour.replay.beliefs(rows[:3]), before, rtol=0, atol=0)


def test_vectors_are_those_of_render_frame_in_its_order() -> None:
    tour: Any = Tour(None, vectors=True)
    assert tour.frames.vectors == VECTORS
    tour.go(3)
    model: LatentModel = tour.model
    assert not model.sees_vectors
    np.testing.assert_array_equal(
        tour.replay.vectors(tour.replay.rows()), np.stack(tour.diaries[0].diary[0].vectors)
    )
