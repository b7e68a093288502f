"""The replay of sequences against plain lists of what was put into it."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from latentwrap.actions import ActionSpec
from latentwrap.joint.sequences import SequenceReplay, SequenceSpec
from latentwrap.pixels import FrameSpec

SPEC = SequenceSpec(
    FrameSpec(height=2, width=2, channels=1), ActionSpec(spaces.Discrete(5, start=2)), vectors=1
)


class Row:
    """What a lane was given, in order."""

    def __init__(self, serial: int, episode: int, age: int) -> None:
        self.serial, self.episode, self.age = serial, episode, age
        self.action, self.reward, self.terminated = 0, 0.0, False


class Lists:
    """Keeps everything in a replay and in lists, and knows what must be left."""

    def __init__(self, capacity: int, lanes: int, seed: int = 0) -> None:
        self.replay = SequenceReplay(capacity, SPEC, lanes=lanes, seed=seed)
        self.lanes: list[list[Row]] = [[] for _ in range(lanes)]
        self.running = [False] * lanes
        # A lane holds its share of the transitions, rounded up, and one row more.
        self.length = max(2, -(-capacity // lanes) + 1)
        self.serial = self.episode = 0

    def begin(self, lane: int) -> None:
        self.episode += 1
        self.replay.begin(lane, *self._put(lane, self.episode, 0))
        self.running[lane] = True

    def step(self, lane: int, *, terminated: bool = False, ended: bool = False) -> None:
        if not self.running[lane]:
            self.begin(lane)
            return
        last = self.lanes[lane][-1]
        last.action, last.reward = 2 + self.serial % 5, self.serial / 8
        last.terminated = terminated
        frame, vectors = self._put(lane, last.episode, last.age + 1)
        self.replay.step(
            lane, np.array([last.action]), last.reward, frame, vectors,
            terminated=terminated, ended=ended or terminated,
        )  # fmt: skip
        self.running[lane] = not (ended or terminated)

    def _put(self, lane: int, episode: int, age: int) -> tuple[np.ndarray, np.ndarray]:
        self.serial += 1
        self.lanes[lane].append(Row(self.serial, episode, age))
        return picture(self.serial), np.float32([self.serial + 0.5])

    def left(self) -> list[list[list[Row]]]:
        """By lane, the episodes that are not overwritten, or what is left of them."""
        return [
            [list(rows) for _, rows in groupby(lane[-self.length :], key=lambda row: row.episode)]
            for lane in self.lanes
        ]

    def episodes(self) -> list[list[Row]]:
        return [rows for lane in self.left() for rows in lane if len(rows) > 1]

    def by_serial(self) -> dict[int, tuple[list[Row], int]]:
        """Episode and place in it of every row that a transition led to."""
        return {
            rows[place].serial: (rows, place)
            for rows in self.episodes()
            for place in range(1, len(rows))
        }


def picture(serial: int) -> np.ndarray:
    return np.array([serial], "<u4").view(np.uint8).reshape(2, 2, 1)


def serials(frames: np.ndarray) -> np.ndarray:
    """Numbers of frames (..., 2, 2, 1)."""
    flat = np.ascontiguousarray(frames).reshape(*frames.shape[:-3], 4)
    return flat.view("<u4")[..., 0].astype(int)


class Move(NamedTuple):
    lane: int
    what: str


MOVES = st.lists(
    st.builds(
        Move,
        st.integers(0, 2),
        st.sampled_from(["step", "step", "step", "step", "terminate", "truncate", "begin"]),
    ),
    max_size=60,
)


def played(capacity: int, lanes: int, moves: list[Move]) -> Lists:
    lists = Lists(capacity, lanes)
    for lane, what in moves:
        number = lane % lanes
        if what == "begin":
            lists.begin(number)  # also while an episode goes on, as after Ctrl-C
        else:
            lists.step(number, terminated=what == "terminate", ended=what != "step")
    return lists


HISTORIES = st.builds(played, st.integers(1, 14), st.integers(1, 3), MOVES)


@given(HISTORIES)
def test_transitions_are_those_that_were_given(lists: Lists) -> None:
    replay, known = lists.replay, lists.by_serial()
    assert len(replay) == len(known)
    if not known:
        return
    rows = replay.draw(400)
    found = serials(replay.frames(rows))
    assert set(found) <= set(known)
    if len(known) < 20:
        assert set(found) == set(known)  # missed by chance once in a million
    before = replay.before(rows, 1)
    for row, earlier, serial in zip(rows, before, found, strict=True):
        episode, place = known[serial]
        last = episode[place - 1]
        assert serials(replay.frames(earlier)) == last.serial
        assert replay.vectors(row) == serial + 0.5
        one = np.array([earlier])
        assert replay.stored_actions(one).tolist() == [[last.action]]
        assert replay.actions(one).argmax() == last.action - 2
        assert replay.rewards(one) == np.float32(last.reward)
        assert replay.terminated(one) == last.terminated
        assert replay.is_first(one) == (last.age == 0)
        assert not replay.is_first(np.array([row]))


@given(HISTORIES, st.integers(0, 6))
def test_windows_that_end_in_a_row_begin_with_its_first(lists: Lists, actions: int) -> None:
    replay, known = lists.replay, lists.by_serial()
    if not known:
        return
    rows = replay.draw(100)
    for window in serials(replay.frames(replay.windows_before(rows, actions))):
        episode, place = known[window[-1]]
        places = [max(0, place - back) for back in range(actions, -1, -1)]
        assert window.tolist() == [episode[each].serial for each in places]


@given(HISTORIES, st.integers(1, 6))
def test_windows_are_drawn_whole_from_one_episode(lists: Lists, actions: int) -> None:
    replay, episodes = lists.replay, lists.episodes()
    longest = max([0, *(len(rows) - 1 for rows in episodes)])
    if longest < actions:
        assert replay.draw_windows(3, actions) is None
        return
    expected = {
        tuple(row.serial for row in rows[begin : begin + actions + 1])
        for rows in episodes
        for begin in range(len(rows) - actions)
    }
    drawn = replay.draw_windows(400, actions)
    assert drawn.shape == (400, actions + 1)
    found = set(map(tuple, serials(replay.frames(drawn)).tolist()))
    assert found <= expected
    if len(expected) < 20:
        assert found == expected
    known = {row.serial: row for rows in episodes for row in rows}
    windows = replay.windows(drawn)
    numbers = serials(windows.frames)
    given_rows = [[known[number] for number in window[:-1]] for window in numbers]
    choices = [[row.action - 2 for row in window] for window in given_rows]
    assert (windows.actions == np.eye(5, dtype=np.float32)[np.array(choices)]).all()
    assert windows.actions.dtype == windows.rewards.dtype == np.float32
    rewards = np.float32([[row.reward for row in window] for window in given_rows])
    np.testing.assert_array_equal(windows.rewards, rewards)
    ends = [[row.terminated for row in window] for window in given_rows]
    np.testing.assert_array_equal(windows.terminations, ends)
    np.testing.assert_array_equal(windows.vectors[..., 0], numbers + 0.5)


@given(HISTORIES)
def test_episodes_are_listed_in_order(lists: Lists) -> None:
    found = lists.replay.episodes()
    expected = []
    for lane, (parts, everything) in enumerate(zip(lists.left(), lists.lanes, strict=True)):
        places = {row.serial: place for place, row in enumerate(everything)}
        for rows in parts:
            if len(rows) > 1:
                goes_on = lists.running[lane] and rows[-1] is everything[-1]
                numbers = [row.serial for row in rows]
                expected.append((lane, places[numbers[0]], numbers, goes_on))
    assert [
        (each.lane, each.begun, serials(lists.replay.frames(each.rows)).tolist(), each.open)
        for each in found
    ] == expected
    rows = lists.replay.rows()
    listed = [number for _, _, numbers, _ in expected for number in numbers]
    assert serials(lists.replay.frames(rows)).tolist() == listed
    assert len(set(rows.tolist())) == len(rows)
    assert lists.replay.kept.tolist() == [len(lane) for lane in lists.lanes]
    assert len(lists.lanes[lists.replay.emptiest_lane()]) == min(map(len, lists.lanes))


@given(HISTORIES)
def test_never_more_transitions_than_the_capacity_of_the_lanes(lists: Lists) -> None:
    lanes, length = len(lists.lanes), lists.length
    assert len(lists.replay) <= lanes * (length - 1)
    assert lists.replay.capacity <= lanes * (length - 1) < lists.replay.capacity + lanes + 1
    for before, after in pairwise(lists.replay.episodes()):
        assert not set(before.rows) & set(after.rows)


@pytest.mark.parametrize(
    ("what", "actions"), [("transitions", 1), *(("windows", n) for n in (1, 3, 7, 11))]
)
def test_draws_are_uniform(what: str, actions: int) -> None:
    """Whether most rows will do or hardly any."""
    lists = Lists(40, 2, seed=0)
    for length in (9, 2, 1, 7, 4, 12, 3):  # the ring turns over, and cuts an episode
        for lane in (0, 1):
            lists.begin(lane)
            for t in range(length):
                lists.step(lane, ended=t == length - 1)
    count = 40_000
    places = sum(max(0, len(rows) - actions) for rows in lists.episodes())
    replay = lists.replay
    ends = replay.draw_windows(count, actions)[:, -1] if what == "windows" else replay.draw(count)
    counts = np.bincount(ends)[np.unique(ends)]
    assert len(counts) == places > 2
    expected = count / places
    # About one in 10,000 generators would exceed it; this one is always the same.
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = places - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def test_draws_follow_the_seed() -> None:
    def draws(seed: int) -> list[list[int]]:
        lists = Lists(30, 1, seed=seed)
        lists.begin(0)
        for _ in range(25):
            lists.step(0)
        return [lists.replay.draw(9).tolist(), lists.replay.draw_windows(9, 2)[:, 0].tolist()]

    assert draws(1) == draws(1) != draws(2)


def test_what_the_model_made_of_rows_is_kept_until_it_is_replaced() -> None:
    class Belief(NamedTuple):
        a: torch.Tensor
        b: torch.Tensor

    lists = Lists(6, 2)
    for lane in (0, 1):
        lists.begin(lane)
        for _ in range(3):
            lists.step(lane)
    replay, rows = lists.replay, lists.replay.rows()
    values = torch.arange(8.0)
    replay.keep(rows, values[:, None] + 100, Belief(values[:, None], values[:, None].repeat(1, 2)))
    replay.keep(rows[2:4], values[2:4, None] + 100, Belief(torch.zeros(2, 1), torch.zeros(2, 2)))
    found = replay.beliefs(rows)
    assert type(found) is Belief
    assert found.a[:, 0].tolist() == [0, 1, 0, 0, 4, 5, 6, 7]
    assert found.b[:, 1].tolist() == [0, 1, 0, 0, 4, 5, 6, 7]
    assert replay.features(rows)[:, 0].tolist() == [100 + i for i in range(8)]
    assert replay.features(rows.reshape(2, 4)).shape == (2, 4, 1)
    lists.step(0)  # the oldest row of the lane is given to another frame
    replay.keep(replay.rows()[3:4], torch.tensor([[9.0]]), Belief(*2 * [torch.tensor([[9.0]])]))
    assert replay.features(replay.rows())[:, 0].tolist() == [101, 102, 103, 9, 104, 105, 106, 107]


def test_of_rows_that_are_kept_twice_the_last_stays() -> None:
    class Belief(NamedTuple):
        z: torch.Tensor

    rng = np.random.default_rng(0)
    lists = Lists(600, 1)
    lists.begin(0)
    for _ in range(500):
        lists.step(0)
    rows = rng.choice(lists.replay.rows(), 2304)
    values = torch.from_numpy(rng.normal(size=(len(rows), 160)).astype(np.float32))
    last = {int(row): value for row, value in zip(rows, values, strict=True)}
    known = np.array(list(last))
    expected = torch.stack(list(last.values()))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(40):
            lists.replay.keep(rows, values, Belief(values))
            assert torch.equal(lists.replay.features(known), expected)
            assert torch.equal(lists.replay.beliefs(known).z, expected)
    finally:
        torch.set_num_threads(threads)


def test_a_row_takes_the_bytes_that_were_announced() -> None:
    replay = SequenceReplay(1000, SPEC, lanes=1, seed=0)
    columns = [value for value in vars(replay).values() if isinstance(value, np.ndarray)]
    per_row = sum(column.nbytes for column in columns if len(column) == 1001) / 1001
    assert abs(per_row - SPEC.row_bytes) <= 8  # but for the bookkeeping


def test_windows_of_a_replay_without_vectors_have_none() -> None:
    spec = SequenceSpec(SPEC.frame, SPEC.action)
    replay = SequenceReplay(5, spec, lanes=1, seed=0)
    nothing = np.zeros(0, np.float32)
    replay.begin(0, picture(1), nothing)
    last = {"terminated": True, "ended": True}
    replay.step(0, np.array([3]), 1.0, picture(2), nothing, **last)
    assert replay.windows(replay.draw_windows(2, 1)).vectors is None
    assert replay.vectors(replay.rows()).shape == (2, 0)
