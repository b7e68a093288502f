"""Each rule of the verdict on numbers made by hand, on both sides of its thresholds."""

from __future__ import annotations

import math

import pytest

from latentwrap.evaluation.drift import DriftResult
from latentwrap.evaluation.information import InformationResult
from latentwrap.evaluation.openloop import OpenLoopResult
from latentwrap.evaluation.verdict import (
    Finding,
    Level,
    judge_data,
    judge_drift,
    judge_information,
    judge_memory,
    judge_moving_object,
    judge_plainness,
    judge_prediction,
    judge_states,
    steps_foreseen,
    sum_up,
)

NAN = math.nan


def loop(model: list[float], copy: list[float], mean: list[float]) -> OpenLoopResult:
    curves = {"model": model, "copy": copy, "mean": mean}
    return OpenLoopResult(len(model) - 1, 10, curves, curves, 0.1)


def level(finding: Finding | None) -> Level:
    assert finding is not None
    assert finding.rule
    assert bool(finding.advice) == (finding.level is not Level.GOOD)
    return finding.level


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(6.0, Level.GOOD), (5.9, Level.FAIR), (3.0, Level.FAIR), (2.9, Level.POOR), (-1, Level.POOR)],
)
def test_a_moving_object_is_seen_or_missed(gain: float, expected: Level) -> None:
    finding = judge_moving_object(loop([10 + gain, 0], [100, 0], [10, 0]))
    assert level(finding) is expected
    assert finding is not None
    assert ("missed" in finding.sentence) == (expected is Level.POOR)


def test_where_nothing_moves_there_is_nothing_to_miss() -> None:
    still = loop([NAN, NAN], [NAN, NAN], [NAN, NAN])
    assert judge_moving_object(still) is None
    assert judge_prediction(still) is None
    assert judge_data(still, still) is None


@pytest.mark.parametrize(
    ("better", "expected"), [(4, Level.GOOD), (3, Level.FAIR), (1, Level.FAIR), (0, Level.POOR)]
)
def test_prediction_counts_the_steps_in_a_row(better: int, expected: Level) -> None:
    # The last number is good again, but unless all before are, the row was broken.
    model = [20.0] + [12.5] * better + [12.4] * (4 - better) + [30.0]
    result = loop(model, [100, 9, 9, 9, 9, 9], [12.0] * 6)
    assert steps_foreseen(result) == (5 if better == 4 else better)
    assert level(judge_prediction(result)) is expected


def test_prediction_must_beat_both_baselines() -> None:
    assert steps_foreseen(loop([20, 15], [100, 14.6], [0, 0])) == 0
    assert steps_foreseen(loop([20, 15], [100, 0], [0, 14.6])) == 0
    assert steps_foreseen(loop([20, 15], [100, 14.5], [0, 14.5])) == 1


def test_states_are_judged_by_the_worst_of_the_better_probes() -> None:
    assert level(judge_states({"a": 0.2, "b": 0.95}, {"a": 0.9, "b": 0.1})) is Level.GOOD
    fair = judge_states({"a": 0.2, "b": 0.95, "c": NAN}, {"a": 0.6, "b": 0.1, "c": NAN})
    assert level(fair) is Level.FAIR
    assert fair is not None
    assert "a 0.600" in fair.sentence
    assert "b" not in fair.sentence.partition(";")[0].partition(":")[2]
    assert level(judge_states({"a": 0.2}, {"a": 0.49})) is Level.POOR
    assert judge_states({"a": NAN}, {"a": NAN}) is None
    assert judge_states({}, {}) is None


def test_memory_is_judged_where_one_frame_does_not_suffice() -> None:
    assert judge_memory({"a": 0.5}, {"a": 0.9}, {"a": 1.0}) is None
    assert judge_memory({}, {}, {}) is None
    assert level(judge_memory({"v": 0.8}, {"v": 0.1}, {"v": 0.85})) is Level.GOOD
    behind = judge_memory({"v": 0.7}, {"v": 0.1}, {"v": 0.85})
    assert level(behind) is Level.FAIR
    assert behind is not None
    assert "0.850" in behind.sentence
    unused = judge_memory({"v": 0.12, "w": 0.9}, {"v": 0.1, "w": 0.2}, {"v": 0.1, "w": 0.2})
    assert level(unused) is Level.POOR
    assert unused is not None
    assert "w" not in unused.sentence.partition(":")[2]


def test_plainness_is_the_gap_between_mlp_and_line() -> None:
    assert level(judge_plainness({"a": 0.9}, {"a": 0.99})) is Level.GOOD
    assert level(judge_plainness({"a": 0.5, "b": 0.9}, {"a": 0.7, "b": 0.9})) is Level.FAIR
    assert judge_plainness({}, {}) is None


@pytest.mark.parametrize(
    ("drop", "expected"),
    [(-0.3, Level.GOOD), (0.05, Level.GOOD), (0.06, Level.FAIR), (0.21, Level.POOR)],
)
def test_drift_is_the_largest_drop(drop: float, expected: Level) -> None:
    drops = {"a": -0.5, "b": drop, "c": NAN}
    assert level(judge_drift(DriftResult([0, 4, 8], [40, 40], {}, drops))) is expected
    assert judge_drift(None) is None
    assert judge_drift(DriftResult([0, 4, 8], [1, 1], {}, {"a": NAN})) is None


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        ([0.3, 0.3, 0.3], Level.GOOD),
        ([5.0] + [0.001] * 9, Level.FAIR),
        ([0.3, 0.1], Level.POOR),
        ([0.0, 0.0], Level.POOR),
    ],
)
def test_collapse_is_little_information_in_all(kl: list[float], expected: Level) -> None:
    result = InformationResult(kl, sum(kl), sum(each > 0.01 for each in kl))
    finding = judge_information(result)
    assert level(finding) is expected
    assert finding is not None
    assert ("collapsed" in finding.sentence) == (expected is Level.POOR)


def test_kinds_without_a_kl_cannot_collapse() -> None:
    assert judge_information(InformationResult([], 0.0, 0)) is None


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(-2.0, Level.GOOD), (1.0, Level.GOOD), (1.1, Level.FAIR), (9.0, Level.FAIR)],
)
def test_more_data_where_new_episodes_are_harder(gap: float, expected: Level) -> None:
    heldout = loop([10.0, 10.0], [0, 0], [0, 0])
    trained = loop([10.0 + gap] * 2, [0, 0], [0, 0])
    assert level(judge_data(heldout, trained)) is expected
    assert judge_data(heldout, None) is None
    assert judge_data(heldout, loop([10.0] * 3, [0] * 3, [0] * 3)) is None


def finding(topic: str, level: Level) -> Finding:
    return Finding(topic, level, "", "", "rule")


def test_the_headline_names_the_worst() -> None:
    good, fair = finding("a", Level.GOOD), finding("b", Level.FAIR)
    poor, worse = finding("c", Level.POOR), finding("d", Level.POOR)
    assert sum_up([good, None]).level is Level.GOOD
    usable = sum_up([good, fair])
    assert (usable.level, usable.headline) == (Level.FAIR, "Usable; b could be better.")
    verdict = sum_up([good, fair, poor, worse])
    assert verdict.level is Level.POOR
    assert "c and d" in verdict.headline
    assert "b" not in verdict.headline.split()
    assert sum_up([]).level is Level.FAIR
