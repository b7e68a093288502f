"""Randomness: every generator is made here from a seed and handed to whoever draws.

Nothing in latentwrap draws from a global generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def numpy_generator(seed: int | None) -> np.random.Generator:
    """A NumPy generator; `None` takes fresh entropy from the system."""
    return np.random.Generator(np.random.PCG64(seed))


def torch_generator(seed: int | None) -> torch.Generator:
    """A torch generator on the CPU, so that a seed gives the same noise on every device."""
    import torch

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def torch_states(generators: Sequence[torch.Generator]) -> list[torch.Tensor]:
    """The states of torch generators, which unlike them can be pickled and copied."""
    return [generator.get_state() for generator in generators]


def restored_torch_generators(states: Sequence[torch.Tensor]) -> list[torch.Generator]:
    """New generators that go on where those of `torch_states` were."""
    return [torch_generator(0).set_state(state) for state in states]


def child_seeds(seed: int | None, count: int, key: tuple[int, ...] = ()) -> list[int]:
    """`count` seeds, statistically independent of each other, drawn from one.

    Args:
        seed: the one.
        count: how many.
        key: numbers that part seeds for one purpose from those for another.

    >>> child_seeds(0, 3) == child_seeds(0, 3)
    True
    >>> len({*child_seeds(0, 3), *child_seeds(0, 3, key=(1,)), *child_seeds(1, 3)})
    9
    """
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return [int(word) for word in sequence.generate_state(count)]


def numpy_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a NumPy generator as a JSON document."""
    return dict(generator.bit_generator.state)


def restore_numpy_state(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Put a NumPy generator into a state that `numpy_state` gave."""
    generator.bit_generator.state = state
