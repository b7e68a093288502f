"""Independent streams in one batch: some begin an episode while others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from latentwrap.types import BoolArray, IntArray


class _Selectable(Protocol):
    def select(self, rows: IntArray) -> Any:
        """What concerns some streams."""


I = TypeVar("I", bound=_Selectable)  # noqa: E741 - inputs
B = TypeVar("B")
"""A belief, batch-first."""


def advance_streams(
    belief: B,
    inputs: I,
    *steps: tuple[BoolArray, Callable[[B, I], B]],
    select: Callable[[B, IntArray], B],
    put: Callable[[B, IntArray, B], B],
) -> B:
    """Advance the streams in each mask by the function beside it, all from the same belief.

    Args:
        belief: of all streams; `None` before the first, if one mask holds every stream.
        inputs: of all streams; `inputs.select(rows)` are those of some.
        steps: masks, bool (num,), that share no stream, and what becomes of those streams.
        select: the belief of some streams.
        put: a new belief, with that of some streams in place of theirs.

    Returns:
        The belief of all streams; those in no mask are the same bit for bit.
    """
    result = belief
    for mask, advance in steps:
        # Counting takes a tenth of the time of `all`, which a robot's loop notices.
        count = np.count_nonzero(mask)
        if count == len(mask):
            return advance(belief, inputs)
        if count:
            rows = np.flatnonzero(mask)
            result = put(result, rows, advance(select(belief, rows), inputs.select(rows)))
    return result
