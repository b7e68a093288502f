"""The clock and the rows that the comparison's figures rest on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from latentwrap.agents import EvaluationResult

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import comparison_rows
from comparison_rows import Row, Stopwatch, Watch, forget_run, is_done, merge, read_rows, write_rows

RUN = ("pendulum", "frozen", 0)


class Time:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(comparison_rows, "time", time)
    return time


def row(run: tuple[str, str, int] = RUN, seconds: float = 0.0, value: float = 0.0) -> Row:
    return Row(*run, 1, seconds, 40, 10, value, 1.0)


def test_a_stopwatch_counts_what_is_not_paused(time: Time) -> None:
    clock = Stopwatch()
    time.now += 5
    assert clock.seconds == 0  # it has yet to start
    clock.start()
    time.now += 3
    with clock.paused():
        time.now += 100
        assert clock.seconds == 3
    time.now += 4
    assert clock.seconds == 7


def test_evaluations_take_place_at_their_times_and_cost_none(tmp_path: Path, time: Time) -> None:
    watch = Watch(tmp_path / "rows.csv", RUN, threads=1, action_repeat=4, minutes=1, every=0.25)
    watch.clock.start()

    def evaluate() -> EvaluationResult:
        time.now += 500
        return EvaluationResult(returns=(1.0, 3.0), lengths=(5, 5))

    steps = 0
    while watch.step(steps, evaluate):
        time.now += 7
        steps += 1
    rows = read_rows(tmp_path / "rows.csv")
    # Steps of 7 seconds: the first that end after 0, 15, 30, 45 and 60.
    assert [each.learning_seconds for each in rows] == [0, 21, 35, 49, 63]
    assert [each.agent_steps for each in rows] == [0, 3, 5, 7, 9]
    assert [each.env_steps for each in rows] == [0, 12, 20, 28, 36]
    assert {(each.run, each.return_mean, each.return_std) for each in rows} == {(RUN, 2.0, 1.0)}
    assert watch.minutes_left == 0


def test_a_step_that_outlasts_two_evaluations_is_followed_by_one(
    tmp_path: Path, time: Time
) -> None:
    watch = Watch(tmp_path / "rows.csv", RUN, threads=1, action_repeat=1, minutes=1, every=0.25)
    watch.clock.start()
    result = EvaluationResult(returns=(0.0,), lengths=(1,))
    for seconds in (0, 33, 1, 12):
        time.now += seconds
        assert watch.step(1, lambda: result)
    assert [each.learning_seconds for each in read_rows(tmp_path / "rows.csv")] == [0, 33, 46]


def test_a_run_is_done_when_its_minutes_are_used() -> None:
    rows = [row(seconds=119.0), row(("pendulum", "cnn", 0), 121.0)]
    assert not is_done(rows, RUN, 2)
    assert is_done([*rows, row(seconds=120.0)], RUN, 2)


def test_parts_take_the_place_of_the_same_runs(tmp_path: Path) -> None:
    path, part = tmp_path / "rows.csv", tmp_path / "part.csv"
    other = ("pendulum", "cnn", 0)
    write_rows(path, [row(seconds=0), row(seconds=9), row(other, 5)])
    write_rows(part, [row(seconds=6, value=2.5), row(seconds=0)])
    merge(path, part)
    assert read_rows(path) == [row(other, 5), row(seconds=0), row(seconds=6, value=2.5)]
    merge(path, tmp_path / "none.csv")
    assert len(read_rows(path)) == 3
    forget_run(path, RUN)
    assert read_rows(path) == [row(other, 5)]
