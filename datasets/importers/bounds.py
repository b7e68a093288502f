"""How much of a source may be in memory: a few bytes of it may unpack to any number."""

from __future__ import annotations

from typing import Any

from latentwrap.errors import DatasetError

MOST_FRAME_BYTES = 2 * 2**30
"""Of the frames of one episode, as they are written."""

MOST_BYTES = 2**30
"""Of any other array that must be in memory as a whole."""

BLOCK_ROWS = 256
"""Rows read at a time: an episode may be long."""

BLOCK_BYTES = 4 * 2**20
"""Read at a time: its images may be large as well."""


def block_rows(row_bytes: int) -> int:
    """How many rows to read at a time.

    >>> block_rows(4), block_rows(480 * 640 * 3)
    (256, 4)
    """
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(row_bytes, 1)))


def check_bytes(count: int, what: Any) -> None:
    """Refuse an array that is too large to be read as a whole.

    Raises:
        DatasetError: it is.
    """
    if count > MOST_BYTES:
        raise DatasetError(
            f"{what} unpacks to {count / 2**30:.3g} GiB, but import reads no more than "
            f"{MOST_BYTES / 2**30:.3g} GiB of it at once: get it anew, or cut it into parts."
        )


def check_frames(rows: int, frame_bytes: int, what: Any) -> None:
    """Refuse an episode whose frames would not fit into memory.

    Args:
        rows: its frames, or those so far.
        frame_bytes: of one frame as it is written.
        what: the source, for the message.

    Raises:
        DatasetError: they would not.
    """
    most = MOST_FRAME_BYTES // frame_bytes
    if rows > most:
        raise DatasetError(
            f"{what} holds an episode of {rows} frames or more, but import takes {most} at most "
            f"of {frame_bytes} bytes each: cut the episode, or choose a smaller --size."
        )
