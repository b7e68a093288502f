"""What a run must have in common with the one that it goes on from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from latentwrap.errors import CheckpointError

_FINGERPRINT = 64


def refuse_changes(
    run: Path, saved: Mapping[str, Any], asked: Mapping[str, Any], *, free: Collection[str] = ()
) -> None:
    """Refuse to resume a run with other settings.

    Args:
        run: its folder, for the message.
        saved, asked: settings by name, nested; as JSON gives them.
        free: names that may change, dotted where nested.

    Raises:
        CheckpointError: a setting differs.
    """
    for name, before, now in _differences(saved, asked, ""):
        if name not in free:
            raise CheckpointError(
                f"The run in {run} cannot be resumed with another {name} "
                f"(it had {_shown(before)}, now {_shown(now)}): repeat the first command line."
            )


def _shown(value: Any) -> str:
    """A value in a message; of a fingerprint the beginning is enough."""
    text = repr(value)
    return text if len(text) < _FINGERPRINT else f"{text[:9]}…{text[-1]}"


def _differences(
    saved: Mapping[str, Any], asked: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(saved.keys() | asked.keys()):
        before, now = saved.get(name), asked.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _differences(before, now, f"{prefix}{name}.")
        elif before != now:
            yield f"{prefix}{name}", before, now
