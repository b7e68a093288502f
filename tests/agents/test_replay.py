"""The ring of transitions against a plain list."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentwrap.agents import replay as replay_module
from latentwrap.agents.replay import Replay

CPU = torch.device("cpu")


def add(replay: Replay, number: int) -> None:
    """A transition that carries its number in every column."""
    row = np.full(2, number, np.float32)
    replay.add(row, row[:1] / 1000, float(number), row + 1, terminated=number % 3 == 0)


@given(st.integers(1, 40), st.integers(1, 120), st.integers(1, 16))
def test_it_holds_the_latest_transitions_whole(capacity: int, count: int, first: int) -> None:
    plain, kept = replay_module._FIRST_ROWS, deque(range(count), maxlen=capacity)
    replay_module._FIRST_ROWS = first  # so that growth is met often
    try:
        replay = Replay(capacity, 2, 1, seed=0, device=CPU)
        for number in range(count):
            add(replay, number)
    finally:
        replay_module._FIRST_ROWS = plain
    assert len(replay) == len(kept)
    batch = replay.sample(500)
    numbers = batch.reward
    assert set(numbers.int().tolist()) <= set(kept)
    torch.testing.assert_close(batch.observation, numbers[:, None].expand(-1, 2))
    torch.testing.assert_close(batch.next_observation, numbers[:, None].expand(-1, 2) + 1)
    torch.testing.assert_close(batch.action, numbers[:, None] / 1000)
    torch.testing.assert_close(batch.terminated, (numbers % 3 == 0).float())


def test_draws_are_uniform() -> None:
    replay = Replay(10, 2, 1, seed=0, device=CPU)
    for number in range(25):
        add(replay, number)
    drawn = replay.sample(20_000).reward.int().bincount(minlength=25)
    assert drawn[:15].sum() == 0
    assert (drawn[15:] - 2000).abs().max() < 5 * 2000**0.5


def test_a_restored_replay_draws_the_same() -> None:
    first = Replay(10, 2, 1, seed=0, device=CPU)
    for number in range(13):
        add(first, number)
    first.sample(3)
    second = Replay(10, 2, 1, seed=9, device=CPU)
    second.restore(*first.state())
    for replay in (first, second):
        add(replay, 99)
    torch.testing.assert_close(first.sample(50).rows, second.sample(50).rows, rtol=0, atol=0)


def test_memory_grows_with_what_is_stored() -> None:
    replay = Replay(1_000_000, 64, 4, seed=0, device=CPU)
    assert len(replay._rows) <= 4096
