"""Transitions that an agent learns from in one update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Transitions in one tensor, so that drawing and moving them is one operation.

    Attributes:
        rows: float32 (2, B, d + A + 1): of each transition s', nothing and whether it ended, and
            s, a and r.
        size: columns of an observation, d.

    Example:
        >>> zero = torch.zeros(4, 3)
        >>> batch = Batch.of(
        ...     observation=zero,
        ...     action=torch.ones(4, 2),
        ...     reward=zero[:, 0],
        ...     next_observation=zero + 1,
        ...     terminated=zero[:, 0],
        ... )
        >>> batch.rows.shape
        torch.Size([2, 4, 6])
        >>> batch.action[0]
        tensor([1., 1.])
    """

    rows: Tensor
    size: int

    @classmethod
    def of(
        cls,
        *,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        next_observation: Tensor,
        terminated: Tensor,
    ) -> Batch:
        """Join what was held apart, in the shapes that the properties have."""
        following = torch.cat(
            [next_observation, torch.zeros_like(action), terminated.unsqueeze(1)], 1
        )
        current = torch.cat([observation, action, reward.unsqueeze(1)], 1)
        return cls(torch.stack([following, current]), observation.shape[1])

    @property
    def observation(self) -> Tensor:
        """s, (B, d)."""
        return self.rows[1, :, : self.size]

    @property
    def action(self) -> Tensor:
        """a in [-1, 1], (B, A); or the index of a discrete one, (B, 1)."""
        return self.rows[1, :, self.size : -1]

    @property
    def reward(self) -> Tensor:
        """r, (B,)."""
        return self.rows[1, :, -1]

    @property
    def next_observation(self) -> Tensor:
        """s', (B, d)."""
        return self.rows[0, :, : self.size]

    @property
    def terminated(self) -> Tensor:
        """1 where the episode truly ended, (B,); a truncated one goes on, unseen."""
        return self.rows[0, :, -1]

    def columns(self) -> dict[str, Tensor]:
        """Views of all five, by the names that `of` takes."""
        names = "observation", "action", "reward", "next_observation", "terminated"
        return {name: getattr(self, name) for name in names}

    @property
    def states(self) -> Tensor:
        """Each s', then each s, (2B, d)."""
        return self.rows.flatten(0, 1)[:, : self.size]
