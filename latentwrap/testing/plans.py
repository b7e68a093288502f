"""What is played: how long, from which seed, and when episodes end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentwrap.seeding import numpy_generator
from latentwrap.testing.recording import End

_ALIKE = 0.3
"""How often all environments end their episodes together."""


@dataclass(frozen=True)
class Plan:
    """A way to play; the same plan plays the same way.

    Attributes:
        seed: of the environments (seed + i), the actions, and of when episodes are left early.
        steps: how often all environments are stepped.
        ends: for each environment, how its episodes end, in turn; see `Recorder`.
        leave: chance, at each step, to leave the current episodes before their end.
        scribble: write over each array that was handed out, once it is read.
    """

    seed: int
    steps: int
    ends: tuple[tuple[End, ...], ...]
    leave: float = 0.05
    scribble: bool = False

    @property
    def num_envs(self) -> int:
        """How many environments."""
        return len(self.ends)

    @classmethod
    def draw(cls, seed: int, *, num_envs: int, steps: int) -> Plan:
        """A random plan: episodes of one step and longer ones, ended in every way.

        Example:
            >>> Plan.draw(0, num_envs=2, steps=9).num_envs
            2
        """
        rng = numpy_generator(seed)
        if rng.random() < _ALIKE:
            return cls(seed, steps, (_draw_ends(rng, steps),) * num_envs)
        return cls(seed, steps, tuple(_draw_ends(rng, steps) for _ in range(num_envs)))


def _draw_ends(rng: np.random.Generator, steps: int) -> tuple[End, ...]:
    ways = [(True, False), (False, True), (True, True)]
    longest = max(3, steps // 3)
    lengths = [
        1 if rng.random() < 1 / 3 else int(rng.integers(2, longest + 1))
        for _ in range(rng.integers(1, 9))
    ]
    return tuple(End(length, *ways[rng.integers(3)]) for length in lengths)
