"""Actions: how an environment's actions are stored in a dataset and seen by a model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from latentwrap.errors import EnvironmentMismatch
from latentwrap.types import AnyArray, FloatArray

MOST_VALUES = 2**16
"""Of an encoded action; more would not fit a model, and a damaged number takes all memory."""

_Kinds = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


@dataclass(frozen=True)
class ActionSpec:
    """An action space, its stored form and its encoding for the model.

    A dataset stores an action as the environment took it, flattened: float32 (N, A) for Box,
    int64 (N, A) otherwise. A model sees float32 in which a Box is scaled to [-1, 1] by its
    finite bounds (dimensions without two finite bounds stay as they are), Discrete and
    MultiDiscrete are one-hot and MultiBinary is 0 or 1.

    Example:
        >>> spec = ActionSpec(spaces.Discrete(3))
        >>> spec.encode(spec.flatten(2)[None])
        array([[0., 0., 1.]], dtype=float32)
    """

    space: spaces.Space[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.space, _Kinds):
            raise EnvironmentMismatch(
                "Actions must be Box, Discrete, MultiDiscrete or MultiBinary, "
                f"got {type(self.space).__name__}: wrap the environment to flatten its actions."
            )
        if max(self.stored_size, self.size) > MOST_VALUES:
            raise EnvironmentMismatch(
                f"Actions must have at most {MOST_VALUES} values, one for each choice, "
                f"got {max(self.stored_size, self.size)}: wrap the environment to offer fewer."
            )

    @property
    def stored_size(self) -> int:
        """Columns of a stored action."""
        return math.prod(self.space.shape or ())

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """float32 for Box, int64 for the discrete spaces."""
        return np.dtype(np.float32 if isinstance(self.space, spaces.Box) else np.int64)

    @cached_property
    def size(self) -> int:
        """Columns of an encoded action, A."""
        if isinstance(self.space, spaces.Discrete):
            return int(self.space.n)
        if isinstance(self.space, spaces.MultiDiscrete):
            return sum(self.space.nvec.ravel().tolist())
        return self.stored_size

    @property
    def is_discrete(self) -> bool:
        """Whether an action is one of a number of choices."""
        return isinstance(self.space, spaces.Discrete)

    def flatten(self, action: Any) -> AnyArray:
        """The stored form, (A,) in C order, of one action of the environment.

        Raises:
            EnvironmentMismatch: another number of values than the space has, or one not finite.
        """
        stored: AnyArray = self.flatten_batch(np.asarray(action)[None])[0]
        return stored

    def flatten_batch(self, actions: AnyArray) -> AnyArray:
        """The stored form, (N, A), of N actions, (N, ...).

        Raises:
            EnvironmentMismatch: as of `flatten`.
        """
        flat = actions.reshape(len(actions), -1)
        if flat.shape[1] != self.stored_size or not np.isfinite(flat).all():
            raise EnvironmentMismatch(
                f"An action of {describe(self.space)} has {self.stored_size} finite values, "
                f"got {actions.tolist()}."
            )
        stored: AnyArray = flat.astype(self.stored_dtype)
        self._check_choices(stored, flat)
        return stored

    def _check_choices(self, stored: AnyArray, given: AnyArray) -> None:
        """Refuse what is no choice of a discrete space; a Box is clipped when it is encoded."""
        first, count = choices(self.space)
        if count is None:
            return
        known = (stored >= first) & (stored < first + count) & (stored == given)
        if not known.all():
            raise EnvironmentMismatch(
                f"An action of {describe(self.space)} is one of its choices, got {given.tolist()}."
            )

    def encode(self, stored: AnyArray) -> FloatArray:
        """What the model sees.

        Args:
            stored: stored actions, (N, columns).

        Returns:
            float32 (N, A).
        """
        if isinstance(self.space, spaces.Box):
            return self._unit_scale(stored)
        if isinstance(self.space, spaces.Discrete):
            return _one_hot(stored[:, 0] - self.space.start, int(self.space.n))
        if isinstance(self.space, spaces.MultiDiscrete):
            shifted = stored - self.space.start.reshape(-1)
            sizes = self.space.nvec.reshape(-1)
            columns = [_one_hot(shifted[:, i], int(n)) for i, n in enumerate(sizes)]
            return np.concatenate(columns, axis=1)
        return stored.astype(np.float32)

    @cached_property
    def _unit_scale(self) -> UnitScale:
        """Of a Box; a filter asks for it at every step."""
        return UnitScale(cast(spaces.Box, self.space))

    def matches(self, other: spaces.Space[Any]) -> bool:
        """Whether actions of another space mean the same."""
        return _same_space(self.space, other)

    def check_environment(self, other: spaces.Space[Any]) -> None:
        """Refuse an environment whose actions mean something else.

        Raises:
            EnvironmentMismatch: another kind of space, shape or bounds.
        """
        if not self.matches(other):
            raise EnvironmentMismatch(
                f"The checkpoint expects the action space {describe(self.space)}, the environment "
                f"has {describe(other)}: pretrain a model on the environment's own data, or wrap "
                "the environment so that its actions are those of the checkpoint."
            )

    def to_json(self) -> str:
        """The space as a JSON document that `from_json` reads."""
        return space_to_json(self.space)

    @classmethod
    def from_json(cls, text: str) -> ActionSpec:
        """Rebuild from `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the text is not such a document.
        """
        return cls(space_from_json(text))


def space_to_json(space: spaces.Space[Any]) -> str:
    """A Box, Discrete, MultiDiscrete or MultiBinary space as a JSON document."""
    return json.dumps(_document(space))


def space_from_json(text: str) -> spaces.Space[Any]:
    """The space that `space_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: the text is not such a document.
    """
    document = json.loads(text)
    kind = document["kind"]
    if kind == "Box":
        dtype, shape = np.dtype(document["dtype"]), tuple(document["shape"])
        if dtype.kind not in "biuf":
            raise ValueError(f"a Box of {dtype}")
        low, high = (np.array(document[name], dtype) for name in ("low", "high"))
        if np.isnan(low).any() or np.isnan(high).any():
            raise ValueError("a Box with bounds that are NaN")
        return spaces.Box(low.reshape(shape), high.reshape(shape), shape, document["dtype"])
    if kind == "Discrete":
        return spaces.Discrete(document["n"], start=document["start"])
    if kind == "MultiDiscrete":
        start = np.asarray(document["start"], np.int64)
        return spaces.MultiDiscrete(np.asarray(document["nvec"], np.int64), start=start)
    if kind == "MultiBinary":
        return spaces.MultiBinary(document["shape"])
    raise ValueError(f"unknown action space {kind!r}")


def describe(space: spaces.Space[Any]) -> str:
    """A space in a few words, with a Box's bounds cut short when it is large."""
    if isinstance(space, spaces.Box) and space.low.size > 4:
        return f"Box of shape {space.shape} in [{space.low.min():g}, {space.high.max():g}]"
    return str(space)


def choices(space: spaces.Space[Any]) -> tuple[Any, Any]:
    """First choice and number of choices by column of stored actions; the latter `None` for a Box.

    >>> choices(spaces.Discrete(3, start=-1))
    (-1, 3)
    """
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start.reshape(-1), space.nvec.reshape(-1)
    return 0, 2 if isinstance(space, spaces.MultiBinary) else None


class UnitScale:
    """Clips to the bounds of a Box, and scales dimensions with two finite bounds to [-1, 1].

    Args:
        space: of n dimensions.

    Example:
        >>> UnitScale(spaces.Box(0, 4, (2,)))(np.array([1.0, 5.0]))
        array([-0.5,  1. ], dtype=float32)
    """

    def __init__(self, space: spaces.Box) -> None:
        self._low = space.low.reshape(-1).astype(np.float64)
        self._high = space.high.reshape(-1).astype(np.float64)
        bounded = space.bounded_below.reshape(-1) & space.bounded_above.reshape(-1)
        self._base = np.where(bounded, self._low, 0)
        width = np.where(bounded, self._high, 1) - self._base
        self._width = np.where(width > 0, width, 1)
        self._bounded = None if bounded.all() else bounded

    def __call__(self, actions: AnyArray) -> FloatArray:
        """Scale actions (..., n), flat.

        Returns:
            float32 (..., n); a dimension whose bounds are equal gives -1.
        """
        clipped = np.minimum(np.maximum(actions.astype(np.float64), self._low), self._high)
        unit = 2 * (clipped - self._base) / self._width - 1
        if self._bounded is not None:
            unit = np.where(self._bounded, unit, clipped)
        return unit.astype(np.float32)


def _one_hot(index: AnyArray, size: int) -> FloatArray:
    rows = np.zeros((len(index), size), np.float32)
    rows[np.arange(len(index)), np.clip(index, 0, size - 1)] = 1
    return rows


def _same_space(ours: spaces.Space[Any], theirs: spaces.Space[Any]) -> bool:
    if type(ours) is not type(theirs) or ours.shape != theirs.shape:
        return False
    if isinstance(ours, spaces.Box) and isinstance(theirs, spaces.Box):
        # Precision does not change what an action means, so float64 bounds match float32 ones.
        return np.allclose(ours.low, theirs.low) and np.allclose(ours.high, theirs.high)
    # MultiBinary(3) and MultiBinary((3,)) take the same actions but are not equal.
    return isinstance(ours, spaces.MultiBinary) or ours == theirs


def _document(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Box):
        bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
        return {"kind": "Box", "shape": space.shape, "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        document = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"kind": "MultiDiscrete", **document}
    assert isinstance(space, spaces.MultiBinary)  # noqa: S101 - __post_init__ let no other in
    return {"kind": "MultiBinary", "shape": list(space.shape)}
