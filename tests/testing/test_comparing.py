"""Differences, where they are, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from latentwrap.testing.comparing import RAW, Comparison, compare, difference
from latentwrap.testing.notes import Played, PlayedEpisode


def played(*series: list[float], faults: tuple[str, ...] = ()) -> Played:
    """One environment with these episodes of one number."""
    episodes = tuple(PlayedEpisode(0, [np.array([x]) for x in each]) for each in series)
    return Played((episodes,), ((),), faults)


def expected(*series: list[float]) -> list[list[list[np.ndarray]]]:
    return [[[np.array([x]) for x in each] for each in series]]


@pytest.mark.parametrize(
    ("found", "wanted", "relative", "size"),
    [
        ([1.0, 5.0], [1.0, 4.0], False, 1.0),
        ([1.0, 5.0], [1.0, 4.0], True, 0.25),
        ([0.5], [0.25], True, 0.25),  # never divided by less than 1
        ([np.nan], [0.0], True, np.inf),
        ([0.0], [np.nan], True, np.inf),
        ([np.inf], [np.inf], True, 0.0),
        ([-np.inf], [np.inf], True, np.inf),
        ([1.0, 2.0], [1.0], False, np.inf),
    ],
)
def test_difference(found: list[float], wanted: list[float], relative: bool, size: float) -> None:
    assert difference(np.array(found), np.array(wanted), relative=relative) == size


def test_equal_observations_pass() -> None:
    found = compare(played([1, 2], [3]), expected([1, 2], [3]), relative=True)
    assert found == Comparison(0.0, RAW, 3)
    assert found.passed


def test_the_first_difference_is_named() -> None:
    found = compare(played([1, 2], [3, 4, 9]), expected([1, 2], [3, 5, 8]), relative=False)
    assert not found.passed
    assert found.largest == 1
    assert "first at the observation (step 1 of 2) of episode 1 of environment 0" in str(found)


@pytest.mark.parametrize(("step", "word"), [(0, "first observation"), (2, "last observation")])
def test_ends_of_episodes_are_called_so(step: int, word: str) -> None:
    wrong = [1.0, 1.0, 1.0]
    wrong[step] = 2.0
    assert word in str(compare(played(wrong), expected([1, 1, 1]), relative=False))


def test_missing_observations_and_episodes_are_named() -> None:
    found = compare(played([1, 2]), expected([1]), relative=False)
    assert "handed out 2 observations, but the environment inside gave 1" in str(found)
    found = compare(played([1]), expected([1], [2]), relative=False)
    assert "handed out 1 episodes, but the environment inside began 2" in str(found)


def test_faults_while_playing_fail_equal_observations() -> None:
    found = compare(played([1], faults=("it smells",)), expected([1]), relative=False)
    assert not found.passed
    assert str(found) == "it smells"
