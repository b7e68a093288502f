"""The other side: what runs in a process of its own and says what it finds."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

from latentwrap.doctor.findings import first_line
from latentwrap.files import to_json, written_whole
from latentwrap.types import Frame

FACTS_FILE = "facts.json"
IMAGE_FILE = "image.npy"
DONE = "done"
ERROR = "error"
"""Facts that tell how the task ended."""


class Facts:
    """What is found, written to a file at once, so that a crash leaves what came before.

    Args:
        folder: of the file, and of the image.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._facts: dict[str, Any] = {}

    def say(self, **facts: Any) -> None:
        """Add facts, or replace them."""
        self._facts |= facts
        with written_whole(self._folder / FACTS_FILE) as path:
            path.write_text(to_json(self._facts), encoding="utf-8")

    def show(self, image: Frame) -> None:
        """Leave an image."""
        import numpy as np

        np.save(self._folder / IMAGE_FILE, image)


def main(folder: str, task: str, arguments: str) -> None:
    """Run one task and end the process.

    Args:
        folder: for what is found.
        task: name of a function of `latentwrap.doctor.tasks`.
        arguments: of it, as JSON.
    """
    facts = Facts(Path(folder))
    try:
        tasks = importlib.import_module("latentwrap.doctor.tasks")
        getattr(tasks, task)(facts, **json.loads(arguments))
        facts.say(**{DONE: True})
    except BaseException as error:  # noqa: BLE001 - SystemExit too: an environment may call it
        facts.say(**{ERROR: first_line(error)})
    # Drivers that crash at the interpreter's end would spoil an answer that is whole.
    os._exit(0)
