"""Vectors beside the frames: proprioception such as joint angles or forces."""

from __future__ import annotations

from latentwrap.config import Config


class VectorSpec(Config):
    """Which vectors an environment observes beside its image.

    Attributes:
        names: their keys in the observation, in the order in which they are joined.
        sizes: numbers in each.

    Example:
        >>> VectorSpec(names=("joints", "gripper"), sizes=(7, 1)).size
        8
    """

    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Numbers in all vectors together, V."""
        return sum(self.sizes)

    @property
    def slices(self) -> dict[str, slice]:
        """Where each vector lies in the joined one."""
        found, start = {}, 0
        for name, size in zip(self.names, self.sizes, strict=True):
            found[name] = slice(start, start + size)
            start += size
        return found
