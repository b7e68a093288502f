"""The replay: a ring of transitions in preallocated memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentwrap.devices import to_device
from latentwrap.seeding import numpy_generator, numpy_state, restore_numpy_state
from latentwrap.types import AnyArray

_FIRST_ROWS = 4096


class Batch(NamedTuple):
    """Transitions, float32.

    Attributes:
        observation, next_observation: (B, d).
        action: in [-1, 1], (B, A); or the index of a discrete one, (B, 1).
        reward: (B,).
        terminated: 1 where the episode truly ended, (B,); a truncated one goes on, unseen.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor


class Replay:
    """Keeps the latest transitions and draws batches of them uniformly, with replacement.

    Memory grows by doubling up to `capacity`, so a short run stays small.

    Args:
        capacity: transitions that are kept; the oldest are overwritten.
        observation_size, action_size: columns of an observation and an action.
        seed: of the draws.
        device: where they are kept.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.capacity, self._device = capacity, device
        self._sizes = observation_size, action_size
        self._columns = self._allocate(min(capacity, _FIRST_ROWS))
        self._generator = numpy_generator(seed)
        self._next = 0
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    def add(
        self,
        observation: AnyArray,
        action: AnyArray,
        reward: float,
        next_observation: AnyArray,
        *,
        terminated: bool,
    ) -> None:
        """Keep one transition."""
        if self._next == len(self._columns.reward) < self.capacity:
            self._grow()
        values = (observation, action, reward, next_observation, terminated)
        for column, value in zip(self._columns, values, strict=True):
            column[self._next] = torch.as_tensor(value)
        self._filled = max(self._filled, self._next + 1)
        self._next = (self._next + 1) % self.capacity

    def sample(self, size: int) -> Batch:
        """A random batch of at least one stored transition."""
        drawn = torch.from_numpy(self._generator.integers(self._filled, size=size))
        rows = to_device(drawn, self._device)
        return Batch(*(column.index_select(0, rows) for column in self._columns))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Stored transitions by column, and the counters as a JSON document."""
        columns = self._columns._asdict()
        tensors = {name: column[: self._filled].cpu() for name, column in columns.items()}
        return tensors, {"next": self._next, "generator": numpy_state(self._generator)}

    def restore(self, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._filled = len(tensors["reward"])
        self._columns = self._allocate(min(self.capacity, max(_FIRST_ROWS, self._filled)))
        for name, column in self._columns._asdict().items():
            column[: self._filled] = tensors[name]
        self._next = int(document["next"])
        restore_numpy_state(self._generator, document["generator"])

    def _allocate(self, rows: int) -> Batch:
        observation, action = self._sizes
        shapes = [(rows, observation), (rows, action), (rows,), (rows, observation), (rows,)]
        return Batch(*(torch.zeros(shape, device=self._device) for shape in shapes))

    def _grow(self) -> None:
        rows = len(self._columns.reward)
        larger = self._allocate(min(self.capacity, 2 * rows))
        for new, old in zip(larger, self._columns, strict=True):
            new[:rows] = old
        self._columns = larger


def flat(observation: Any) -> AnyArray:
    """An observation as a float32 vector."""
    return np.asarray(observation, np.float32).reshape(-1)
