"""What a check found, and checks that cannot fail with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from textwrap import shorten

_WIDTH = 300


class Status(str, Enum):
    """How good what was found is; the value stands in the JSON."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: of the check, one or two words.
        status: how good it is.
        finding: what was found, in one line.
        mend: what to do or type about it; empty where nothing is to be done.

    Example:
        >>> Finding("frame", Status.ERROR, "all black", mend="export MUJOCO_GL=egl").document()
        {'name': 'frame', 'status': 'error', 'finding': 'all black', 'mend': 'export MUJOCO_GL=egl'}
    """

    name: str
    status: Status
    finding: str
    mend: str = ""

    def document(self) -> dict[str, str]:
        """Plain text by key."""
        return {
            "name": self.name,
            "status": self.status.value,
            "finding": self.finding,
            "mend": self.mend,
        }


def guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """The finding of a check; one that raises is an error named after it.

    >>> guarded("disk", lambda: Finding("disk", Status.OK, f"{1 / 0} free")).finding
    'The check itself failed: ZeroDivisionError: division by zero'
    """
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a doctor does not die of its patient
        return Finding(
            name,
            Status.ERROR,
            f"The check itself failed: {first_line(error)}",
            mend="report it with this line and your version of latentwrap",
        )


def first_line(error: BaseException) -> str:
    """What an error says first, behind its type unless the message was made for users.

    >>> first_line(KeyError("size"))
    "KeyError: 'size'"
    """
    from latentwrap.errors import LatentwrapError

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    if isinstance(error, LatentwrapError) and lines:
        return shorten(lines[0], _WIDTH)
    return shorten(": ".join([kind, *lines[:1]]), _WIDTH)


def gibibytes(count: float) -> str:
    """Bytes in words.

    >>> gibibytes(3 * 2**30), gibibytes(2**28)
    ('3.0 GiB', '256 MiB')
    """
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
