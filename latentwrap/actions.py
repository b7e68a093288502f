"""Actions: how an environment's actions are stored in a dataset and seen by a model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from latentwrap.errors import EnvironmentMismatch
from latentwrap.types import AnyArray, FloatArray

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

    @property
    def stored_size(self) -> int:
        """Columns of a stored action."""
        return int(np.prod(self.space.shape, dtype=int)) if self.space.shape else 1

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """float32 for Box, int64 for the discrete spaces."""
        return np.dtype(np.float32 if isinstance(self.space, spaces.Box) else np.int64)

    @property
    def size(self) -> int:
        """Columns of an encoded action, A."""
        return int(self.encode(np.zeros((1, self.stored_size), self.stored_dtype)).shape[1])

    def flatten(self, action: Any) -> AnyArray:
        """The stored form, (A,) in C order, of one action of the environment."""
        return np.asarray(action, dtype=self.stored_dtype).reshape(self.stored_size)

    def encode(self, stored: AnyArray) -> FloatArray:
        """What the model sees.

        Args:
            stored: stored actions, (N, columns).

        Returns:
            float32 (N, A).
        """
        if isinstance(self.space, spaces.Box):
            return _scale(self.space, stored)
        if isinstance(self.space, spaces.Discrete):
            return _one_hot(stored[:, 0] - self.space.start, int(self.space.n))
        if isinstance(self.space, spaces.MultiDiscrete):
            shifted = stored - self.space.start.reshape(-1)
            sizes = self.space.nvec.reshape(-1)
            columns = [_one_hot(shifted[:, i], int(n)) for i, n in enumerate(sizes)]
            return np.concatenate(columns, axis=1)
        return stored.astype(np.float32)

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
                f"has {describe(other)}: wrap the environment (RescaleAction) or train a model "
                "on its own data."
            )

    def to_json(self) -> str:
        """The space as a JSON document that `from_json` reads."""
        return json.dumps(_document(self.space))

    @classmethod
    def from_json(cls, text: str) -> ActionSpec:
        """Rebuild from `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the text is not such a document.
        """
        document = json.loads(text)
        kind = document["kind"]
        if kind == "Box":
            low, high = np.float32(document["low"]), np.float32(document["high"])
            return cls(spaces.Box(low, high, dtype=np.float32))
        if kind == "Discrete":
            return cls(spaces.Discrete(document["n"], start=document["start"]))
        if kind == "MultiDiscrete":
            start = np.asarray(document["start"], np.int64)
            return cls(spaces.MultiDiscrete(np.asarray(document["nvec"], np.int64), start=start))
        if kind == "MultiBinary":
            return cls(spaces.MultiBinary(document["shape"]))
        raise ValueError(f"unknown action space {kind!r}")


def describe(space: spaces.Space[Any]) -> str:
    """A space in a few words, with a Box's bounds cut short when it is large."""
    if isinstance(space, spaces.Box) and space.low.size > 4:
        return f"Box of shape {space.shape} in [{space.low.min():g}, {space.high.max():g}]"
    return str(space)


def _scale(space: spaces.Box, stored: AnyArray) -> FloatArray:
    low = space.low.reshape(-1).astype(np.float32)
    high = space.high.reshape(-1).astype(np.float32)
    clipped = np.clip(stored.astype(np.float32), low, high)
    bounded = np.isfinite(low) & np.isfinite(high)
    width = np.where(bounded, np.maximum(high - low, np.finfo(np.float32).tiny), 1)
    return np.where(bounded, 2 * (clipped - low) / width - 1, clipped).astype(np.float32)


def _one_hot(index: AnyArray, size: int) -> FloatArray:
    rows: FloatArray = np.eye(size, dtype=np.float32)[np.clip(index, 0, size - 1)]
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
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return {"kind": "Box", "low": low.tolist(), "high": high.tolist()}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        document = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"kind": "MultiDiscrete", **document}
    assert isinstance(space, spaces.MultiBinary)  # noqa: S101 - __post_init__ let no other in
    return {"kind": "MultiBinary", "shape": list(space.shape)}
