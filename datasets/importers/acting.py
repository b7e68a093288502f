"""The actions of a source: their space, where it does not store one, and their stored form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.datasets.importers.observing import numbers
from latentwrap.datasets.importers.source import ImportOptions
from latentwrap.envs.making import find_spec, make_env
from latentwrap.errors import DatasetError, EnvironmentMismatch
from latentwrap.types import AnyArray

_SLACK = 1e-5
"""How far rounding may carry an action beyond a bound."""

_MOST_CHOICES = 10_000
"""Of a discrete action; whole numbers beyond are a measure and no choice."""


def action_spec(options: ImportOptions, parts: Iterable[AnyArray], what: str) -> ActionSpec:
    """The action space of the environment that the user names, else what the actions tell.

    A model is refused by an environment whose bounds differ, and actions seldom reach theirs: only
    the environment knows. A name that Gymnasium does not know is a mere name. Without one, numbers
    that all lie in [-1, 1] make a Box of these bounds, others one from the least to the greatest,
    so that a model sees actions of any unit in the same range; whole numbers are choices from 0.

    Args:
        options: what the user said.
        parts: all actions of the source, (n, ...) at a time.
        what: the source, for messages.

    Raises:
        DatasetError: the source holds no actions, of several sizes, or of another size than the
            environment takes; or whole numbers that are no choices.
        EnvironmentMismatch: the environment cannot be made.
    """
    seen = _Seen(what)
    for part in parts:
        seen.add(part)
    told = seen.space()
    named = _space_of(options.env_id)
    if named is None:
        return ActionSpec(told)
    spec, found = ActionSpec(named), ActionSpec(told).stored_size
    if found != spec.stored_size:
        raise DatasetError(
            f"{what} holds actions of {found} numbers, but {options.env_id} takes "
            f"{spec.stored_size}: name another environment, or none."
        )
    return spec


def stored_actions(spec: ActionSpec, actions: Any) -> AnyArray:
    """The stored form (n, A) of n actions; those of a Box may be NaN, for the caller to see.

    Raises:
        DatasetError: another number of values than the space has.
    """
    flat = np.asarray(actions).reshape(len(actions), -1) if len(actions) else np.zeros((0, 0))
    if not len(flat):
        return np.zeros((0, spec.stored_size), spec.stored_dtype)
    if flat.shape[1] != spec.stored_size:
        raise DatasetError(
            f"All actions of a source require equally many numbers, got {flat.shape[1]} and "
            f"{spec.stored_size}: import its parts one by one."
        )
    return numbers(flat) if isinstance(spec.space, spaces.Box) else flat.astype(np.int64)


class _Seen:
    """What all actions have in common."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._whole = True
        self._low: AnyArray | None = None
        self._high: AnyArray = np.zeros(0)

    def add(self, part: AnyArray) -> None:
        """Look at some more; what is NaN is left out with its episode, and says nothing here."""
        if not len(part):
            return
        flat = np.asarray(part).reshape(len(part), -1)
        known = np.isfinite(flat)
        low = np.where(known, flat, np.inf).min(axis=0)
        high = np.where(known, flat, -np.inf).max(axis=0)
        self._whole &= flat.dtype.kind in "iu"
        if self._low is not None and self._low.shape != low.shape:
            raise DatasetError(
                f"{self._what} holds actions of {len(self._low)} and of {len(low)} numbers: import "
                "its parts one by one."
            )
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if not len(self._high) else np.maximum(self._high, high)

    def space(self) -> spaces.Space[Any]:
        """The narrowest space that users would expect."""
        if self._low is None or not len(self._low) or not _fit_float32(self._low, self._high):
            raise DatasetError(f"{self._what} holds no finite actions: import another source.")
        if self._whole:
            return self._choices(self._low)
        unit = self._low.min() >= -1 - _SLACK and self._high.max() <= 1 + _SLACK
        low, high = (
            (-np.ones_like(self._low), np.ones_like(self._low)) if unit else (self._low, self._high)
        )
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def _choices(self, low: AnyArray) -> spaces.Space[Any]:
        counts = self._high.astype(np.int64) + 1
        if low.min() < 0 or counts.max() > _MOST_CHOICES:
            raise DatasetError(
                f"{self._what} holds whole numbers from {low.min():.0f} to {self._high.max():.0f} "
                "as actions, which are no choices from 0 on: store them as floats."
            )
        if len(counts) == 1:
            return spaces.Discrete(int(counts[0]))
        return spaces.MultiDiscrete(counts)


def _space_of(env_id: str | None) -> gym.Space[Any] | None:
    """The action space of an environment that Gymnasium knows; `None` for a mere name."""
    if env_id is None:
        return None
    try:
        spec = find_spec(env_id)
    except EnvironmentMismatch:
        return None
    env = make_env(spec)
    try:
        return env.action_space
    finally:
        env.close()


def _fit_float32(*bounds: AnyArray) -> bool:
    """Whether they are finite, also once they are stored."""
    with np.errstate(over="ignore"):
        return all(np.isfinite(each.astype(np.float32)).all() for each in bounds)
