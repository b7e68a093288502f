"""What was handed out while something was played, kept as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from latentwrap.errors import LatentwrapError
from latentwrap.testing.recording import RecordedEpisode
from latentwrap.types import AnyArray

Flat = NDArray[np.float64]
"""One observation, flattened, float64 (D,)."""


@dataclass
class PlayedEpisode:
    """What a player got in one episode, and what it did; T steps of it.

    Attributes:
        seed: that the environment was reset with; `None` where its own went on.
        observations: T+1, flattened.
        actions: T, as the player gave them.
    """

    seed: int | None
    observations: list[Flat] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Played:
    """All that was played.

    Attributes:
        episodes: for each environment, in order.
        recorded: what the environments inside gave in those episodes.
        faults: what was wrong while playing, in a few words each.
    """

    episodes: tuple[tuple[PlayedEpisode, ...], ...]
    recorded: tuple[tuple[RecordedEpisode, ...], ...]
    faults: tuple[str, ...]


class Notes:
    """Takes down what is handed out, and tells whether it later changes.

    Args:
        space: of one observation.
        num: environments.
        scribble: write over each array that was handed out, once it is noted.

    Raises:
        LatentwrapError: observations that cannot be flattened to numbers.
    """

    def __init__(self, space: gym.Space[Any], num: int, *, scribble: bool) -> None:
        if not space.is_np_flattenable:
            raise LatentwrapError(
                f"The conformance suite requires observations that are numbers, got {space}: wrap "
                "the environment so that they are."
            )
        self._space, self._scribble = space, scribble
        self._episodes: list[list[PlayedEpisode]] = [[] for _ in range(num)]
        self._kept: list[tuple[AnyArray, AnyArray]] = []
        self._outside = 0
        self.faults: list[str] = []

    def begin(self, env: int, observation: Any, seed: int | None = None) -> None:
        """An episode began."""
        self._episodes[env].append(PlayedEpisode(seed, [self._flat(observation)]))

    def go_on(self, env: int, action: Any, observation: Any) -> None:
        """An action was taken."""
        episode = self._episodes[env][-1]
        episode.actions.append(copy.deepcopy(action))
        episode.observations.append(self._flat(observation))

    def keep(self, *handed: Any) -> None:
        """Watch the arrays of observations, batched or not; call it after noting them."""
        for array in _arrays(handed):
            if self._scribble and array.flags.writeable:
                array.fill(_nonsense(array.dtype))
            self._kept.append((array, array.copy()))

    def close(self, recorded: Sequence[Sequence[RecordedEpisode]]) -> Played:
        """All that was played, with what the environments inside recorded meanwhile."""
        changed = sum(found.tobytes() != kept.tobytes() for found, kept in self._kept)
        if changed:
            self.faults.append(f"{changed} arrays changed after they had been handed out")
        if self._outside:
            self.faults.append(f"{self._outside} observations lie outside of {self._space}")
        return Played(
            tuple(tuple(episodes) for episodes in self._episodes),
            tuple(tuple(episodes) for episodes in recorded),
            tuple(dict.fromkeys(self.faults)),
        )

    def _flat(self, observation: Any) -> Flat:
        image = isinstance(self._space, spaces.Box)
        if observation is None or (image and not isinstance(observation, np.ndarray)):
            self.faults.append(f"{type(observation).__name__} instead of an observation")
            return np.full(1, np.nan)
        self._outside += not self._space.contains(observation)
        try:
            return np.array(spaces.flatten(self._space, observation), np.float64).reshape(-1)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            self.faults.append(f"an observation that cannot be flattened: {error}")
            return np.full(1, np.nan)


def rows_of(space: gym.Space[Any], batch: Any, num: int) -> list[Any]:
    """The observation of each environment, out of a batch."""
    if isinstance(space, spaces.Dict):
        columns = {name: rows_of(inner, batch[name], num) for name, inner in space.spaces.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(num)]
    if isinstance(space, spaces.Tuple):
        parts = [rows_of(inner, part, num) for inner, part in zip(space, batch, strict=True)]
        return list(zip(*parts, strict=True))
    return list(batch)


def _arrays(handed: Any) -> Iterator[AnyArray]:
    if isinstance(handed, np.ndarray) and handed.dtype != object:
        yield handed
    elif isinstance(handed, Mapping):
        for value in handed.values():
            yield from _arrays(value)
    elif isinstance(handed, (tuple, list, np.ndarray)):
        for value in handed:
            yield from _arrays(value)


def _nonsense(dtype: np.dtype[Any]) -> Any:
    return 12345.678 if dtype.kind == "f" else 1
