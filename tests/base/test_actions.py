"""Actions: stored as taken, encoded for the model, compared with an environment's."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from latentwrap.actions import ActionSpec, describe
from latentwrap.errors import EnvironmentMismatch

SPACES = [
    spaces.Box(-2, 2, (1,)),
    spaces.Box(np.float32([[0, -np.inf], [-3, 5]]), np.float32([[1, np.inf], [4, 9]])),
    spaces.Box(-1, 1, (3,), np.float64),
    spaces.Discrete(5),
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 3], [4, 1]]),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_json_round_trip(space: spaces.Space) -> None:
    rebuilt = ActionSpec.from_json(ActionSpec(space).to_json())
    rebuilt.check_environment(space)
    assert type(rebuilt.space) is type(space)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_encoding_has_the_declared_size(space: spaces.Space) -> None:
    spec = ActionSpec(space)
    space.seed(0)
    stored = np.stack([spec.flatten(space.sample()) for _ in range(20)])
    encoded = spec.encode(stored)
    assert stored.shape == (20, spec.stored_size)
    assert stored.dtype == spec.stored_dtype
    assert encoded.shape == (20, spec.size)
    assert encoded.dtype == np.float32


@given(st.floats(-5, 5, width=32))
def test_bounded_dimensions_are_clipped_and_scaled(value: float) -> None:
    spec = ActionSpec(spaces.Box(np.float32([-2]), np.float32([4])))
    expected = (min(max(value, -2), 4) - 1) / 3
    assert spec.encode(np.float32([[value]]))[0, 0] == pytest.approx(expected, abs=1e-6)


def test_dimensions_without_two_finite_bounds_stay() -> None:
    low, high = np.float32([-np.inf, 0, -1]), np.float32([np.inf, np.inf, 1])
    encoded = ActionSpec(spaces.Box(low, high)).encode(np.float32([[7, 3, 0.5]]))
    assert encoded.tolist() == [[7, 3, 0.5]]


def test_a_box_without_width_is_finite() -> None:
    spec = ActionSpec(spaces.Box(np.float32([1]), np.float32([1])))
    assert np.isfinite(spec.encode(np.float32([[1]]))).all()


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Discrete(3), 1, [0, 1, 0]),
        (spaces.Discrete(3, start=-1), -1, [1, 0, 0]),
        (spaces.MultiDiscrete([2, 3]), [1, 2], [0, 1, 0, 0, 1]),
        (spaces.MultiDiscrete([2, 2], start=[5, 1]), [5, 2], [1, 0, 0, 1]),
        (spaces.MultiBinary(3), [0, 1, 1], [0, 1, 1]),
    ],
    ids=str,
)
def test_discrete_actions_are_one_hot(
    space: spaces.Space, action: object, expected: list[int]
) -> None:
    spec = ActionSpec(space)
    assert spec.encode(spec.flatten(action)[None]).tolist() == [expected]


@pytest.mark.parametrize(
    "other",
    [spaces.Box(-1, 1, (1,)), spaces.Box(-2, 2, (2,)), spaces.Discrete(3)],
    ids=str,
)
def test_another_space_is_refused(other: spaces.Space) -> None:
    spec = ActionSpec(spaces.Box(-2, 2, (1,)))
    with pytest.raises(EnvironmentMismatch, match="expects the action space Box") as caught:
        spec.check_environment(other)
    assert describe(other) in str(caught.value)


def test_precision_of_the_bounds_does_not_matter() -> None:
    ActionSpec(spaces.Box(-0.1, 0.1, (2,))).check_environment(
        spaces.Box(-0.1, 0.1, (2,), np.float64)
    )


def test_other_spaces_are_refused() -> None:
    with pytest.raises(EnvironmentMismatch, match="got Dict"):
        ActionSpec(spaces.Dict(a=spaces.Discrete(2)))


def test_a_large_box_is_described_shortly() -> None:
    assert describe(spaces.Box(-1, 1, (100,))) == "Box of shape (100,) in [-1, 1]"
