"""Independent streams in one batch: some begin an episode while others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentwrap.models import map_belief
from latentwrap.types import BoolArray


class StreamInputs(NamedTuple):
    """What the model gets for each stream.

    Attributes:
        frames: uint8 (num, H, W, C).
        actions: encoded, float32 (num, A).
        noise: standard normal (num, k), or `None` for means.
        vectors: standardised, float32 (num, V), or `None` where the model sees none.
    """

    frames: Tensor
    actions: Tensor
    noise: Tensor | None
    vectors: Tensor | None

    def select(self, rows: Tensor) -> StreamInputs:
        """The inputs of some streams."""
        return StreamInputs(
            frames=self.frames[rows],
            actions=self.actions[rows],
            noise=None if self.noise is None else self.noise[rows],
            vectors=None if self.vectors is None else self.vectors[rows],
        )

    @property
    def seen(self) -> dict[str, Tensor]:
        """Arguments that only a model which sees vectors takes."""
        return {} if self.vectors is None else {"vectors": self.vectors}


Advance = Callable[[Any, StreamInputs], Any]
"""Makes new tensors, batch-first, from a belief and inputs."""


def advance_streams(belief: Any, inputs: StreamInputs, *steps: tuple[BoolArray, Advance]) -> Any:
    """Advance the streams in each mask by the function beside it, all from the same belief.

    Args:
        belief: of all streams; `None` before the first, if one mask holds every stream.
        inputs: of all streams.
        steps: masks, bool (num,), that share no stream, and what becomes of those streams.

    Returns:
        The belief of all streams; those in no mask are the same bit for bit.
    """
    result = belief
    for mask, advance in steps:
        if mask.all():
            return advance(belief, inputs)
        if mask.any():
            rows = rows_of(mask, inputs.frames.device)
            part = advance(select_streams(belief, rows), inputs.select(rows))
            result = map_belief(_put(rows), result, part)
    return result


def select_streams(belief: Any, rows: Tensor) -> Any:
    """The belief of some streams."""
    return map_belief(lambda tensor: tensor[rows], belief)


def rows_of(mask: BoolArray, device: torch.device) -> Tensor:
    """Indices of the streams in a mask, int64."""
    return torch.from_numpy(np.flatnonzero(mask)).to(device)


def _put(rows: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda whole, some: whole.index_copy(0, rows, some)
