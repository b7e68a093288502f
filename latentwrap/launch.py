"""What a launcher such as torchrun tells each of the processes that it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from latentwrap.errors import ConfigError

_REQUIRED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """Which of how many processes this is.

    Attributes:
        rank, count: among all, on whatever machines.
        local_rank, local_count: among those on this machine.

    Example:
        >>> Launch.from_environment({}).count
        1
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Launch:
        """As torchrun's variables say; one process alone where they are not all set.

        Raises:
            ConfigError: one of them is no number.
        """
        if any(name not in variables for name in _REQUIRED):
            return cls()
        rank, count = _number(variables, "RANK", 0), _number(variables, "WORLD_SIZE", 1)
        return cls(
            rank,
            count,
            local_rank=_number(variables, "LOCAL_RANK", rank),
            local_count=_number(variables, "LOCAL_WORLD_SIZE", count),
        )

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(variables.get(name, default))
    except ValueError:
        raise ConfigError(
            f"The environment variable {name} must be a whole number, got {variables[name]!r}: "
            "let torchrun set it, or unset it."
        ) from None
