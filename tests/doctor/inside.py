"""The doctor's tasks in the test's own process: quick, for what neither crashes nor hangs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentwrap.doctor import tasks
from latentwrap.doctor.child import FACTS_FILE, Facts
from latentwrap.doctor.findings import first_line
from latentwrap.doctor.isolated import Answer


def answer_inside(folder: Path, task: str, /, **arguments: Any) -> Answer:
    """What `ask` would answer; `folder` holds the facts."""
    trouble = ""
    try:
        getattr(tasks, task)(Facts(folder), **json.loads(json.dumps(arguments)))
    except Exception as error:  # noqa: BLE001 - as the process of its own does
        trouble = first_line(error)
    return Answer(json.loads((folder / FACTS_FILE).read_text(encoding="utf-8")), trouble)
