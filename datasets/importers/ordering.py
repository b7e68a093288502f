"""The order in which the files of a folder are read: that of the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Files sorted by the numbers in their names, whatever the system's own order.

    >>> [path.name for path in in_order([Path("ep_10.npz"), Path("ep_2.npz")])]
    ['ep_2.npz', 'ep_10.npz']
    """
    return sorted(paths, key=lambda path: (natural(path.name), path))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names by the numbers in them.

    >>> sorted(["part10", "part9"], key=natural)
    ['part9', 'part10']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
