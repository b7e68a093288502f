"""Vectors of environments whose sensors fail now and then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentwrap.errors import EnvironmentMismatch
from latentwrap.types import BoolArray, FloatArray


class VectorMemory:
    """The latest vectors of some environments; what is not finite keeps its last value.

    Args:
        num: environments.
        size: numbers in the vectors of each.
        names: of the vectors, for messages.

    Example:
        >>> memory = VectorMemory(1, 2, ["joints"])
        >>> first, later = np.float32([[1, 2]]), np.float32([[3, np.nan]])
        >>> _ = memory.see(first, begun=np.array([True]))
        >>> memory.see(later, begun=np.array([False])).tolist()
        [[3.0, 2.0]]
    """

    def __init__(self, num: int, size: int, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._latest = np.zeros((num, size), np.float32)

    def see(
        self, vectors: FloatArray, *, begun: BoolArray, mask: BoolArray | None = None
    ) -> FloatArray:
        """What the environments show now, float32 (num, size); a new array.

        Args:
            vectors: as they came, (num, size).
            begun: where an episode begins, bool (num,).
            mask: the others are not looked at, bool (num,).

        Raises:
            EnvironmentMismatch: something is not finite where an episode begins.
        """
        known = np.isfinite(vectors)
        if mask is not None:
            known &= mask[:, None]
        missing = begun & ~known.all(axis=1)
        if mask is not None:
            missing &= mask
        if missing.any():
            raise EnvironmentMismatch(
                f"The first observation of an episode requires finite vectors "
                f"{', '.join(self._names)}, got {vectors[missing][0].tolist()}: mend or wrap the "
                "environment."
            )
        self._latest = np.where(known, vectors, self._latest).astype(np.float32)
        return self._latest
