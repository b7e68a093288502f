"""Names that people give to the columns of an episode, and what is meant."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from latentwrap.errors import DatasetError

FRAMES = ("frames", "images", "image", "pixels", "observations", "observation", "obs")
ACTIONS = ("actions", "action")
REWARDS = ("rewards", "reward")
TERMINATIONS = ("terminations", "termination", "terminated", "terminals", "terminal",
                "is_terminal", "dones", "done")  # fmt: skip
STATES = ("state", "states", "qpos", "qvel")


def find(names: Collection[str], wanted: tuple[str, ...]) -> str | None:
    """The first of some names that is there.

    >>> find({"image", "action"}, ACTIONS)
    'action'
    """
    return next((name for name in wanted if name in names), None)


def require(names: Collection[str], wanted: tuple[str, ...], what: str, path: Path) -> str:
    """The first of some names that is there.

    Raises:
        DatasetError: there is none; the message says what is there.
    """
    found = find(names, wanted)
    if found is None:
        raise DatasetError(
            f"{path} requires {what} under one of the names {', '.join(wanted)}, it holds "
            f"{', '.join(names) or 'nothing'}: rename an array."
        )
    return found
