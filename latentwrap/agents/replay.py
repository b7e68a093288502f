"""The replay: a ring of transitions in preallocated memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.agents.batch import Batch
from latentwrap.devices import to_device
from latentwrap.seeding import numpy_generator, numpy_state, restore_numpy_state
from latentwrap.types import AnyArray

_FIRST_ROWS = 4096


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
        self._size, self._width = observation_size, observation_size + action_size + 1
        self._rows = self._allocate(min(capacity, _FIRST_ROWS))
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
        if self._next == len(self._rows) < self.capacity:
            self._grow()
        # The rows of `Batch.of`, whose tensors would take twice as long for a single transition.
        room = np.zeros_like(action)
        rows = (next_observation, room, [terminated]), (observation, action, [reward])
        transition = np.stack([np.concatenate(row) for row in rows], dtype=np.float32)
        self._rows[self._next] = to_device(transition, self._device)
        self._filled = max(self._filled, self._next + 1)
        self._next = (self._next + 1) % self.capacity

    def sample(self, size: int) -> Batch:
        """A random batch of at least one stored transition."""
        drawn = 2 * self._generator.integers(self._filled, size=size)
        both = to_device(np.concatenate([drawn, drawn + 1]), self._device)
        rows = self._rows.view(-1, self._width).index_select(0, both)
        return Batch(rows.view(2, size, -1), self._size)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Stored transitions by column, and the counters as a JSON document."""
        stored = self._batch(self._rows[: self._filled].cpu()).columns()
        tensors = {
            name: column.clone(memory_format=torch.contiguous_format)
            for name, column in stored.items()
        }
        return tensors, {"next": self._next, "generator": numpy_state(self._generator)}

    def restore(self, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._filled = len(tensors["reward"])
        self._rows = self._allocate(min(self.capacity, max(_FIRST_ROWS, self._filled)))
        kept = self._batch(self._rows[: self._filled])
        for name, column in kept.columns().items():
            column.copy_(tensors[name])
        self._next = int(document["next"])
        restore_numpy_state(self._generator, document["generator"])

    def _allocate(self, rows: int) -> Tensor:
        return torch.zeros(rows, 2, self._width, device=self._device)

    def _batch(self, transitions: Tensor) -> Batch:
        """Some of the rows as they are handed out."""
        return Batch(transitions.transpose(0, 1), self._size)

    def _grow(self) -> None:
        larger = self._allocate(min(self.capacity, 2 * len(self._rows)))
        larger[: len(self._rows)] = self._rows
        self._rows = larger


def flat(observation: Any) -> AnyArray:
    """An observation as a float32 vector."""
    return np.asarray(observation, np.float32).reshape(-1)
