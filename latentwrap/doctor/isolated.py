"""Asking a process of its own, because a wrong driver can crash or hang the interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentwrap.doctor.child import DONE, ERROR, FACTS_FILE, IMAGE_FILE
from latentwrap.files import to_json
from latentwrap.types import Frame

# The path is handed over, so that the process finds what this one does and nothing else.
_START = (
    "import os, sys\n"
    "sys.path[:] = sys.argv.pop(1).split(os.pathsep)\n"
    "from latentwrap.doctor.child import main\n"
    "main(*sys.argv[1:])\n"
)


@dataclass(frozen=True)
class Answer:
    """What a process said before it ended.

    Attributes:
        facts: by name; what it said before a crash is there too.
        trouble: why it did not come to its end, in a few words; empty where it did.
        image: the image that it left, uint8 (H, W, C), if it did.
    """

    facts: Mapping[str, Any]
    trouble: str = ""
    image: Frame | None = None


def ask(
    task: str,
    *,
    limit: float,
    environment: Mapping[str, str | None] | None = None,
    **arguments: Any,
) -> Answer:
    """Run a task of `latentwrap.doctor.tasks` in a process of its own.

    Whatever happens to it, an answer comes: after an exception, a crash or the time limit it
    holds the trouble, and the facts so far.

    Args:
        task: name of the function.
        limit: seconds until the process is killed.
        environment: variables to set there; `None` removes one.
        arguments: of the task, as JSON has them.
    """
    with tempfile.TemporaryDirectory(prefix="doctor-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        words = [sys.executable, "-c", _START, os.pathsep.join(sys.path), name, task]
        trouble = _run([*words, to_json(arguments)], folder, limit, _changed(environment or {}))
        return _read(folder, trouble)


def _changed(environment: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**os.environ, **environment}
    return {name: value for name, value in merged.items() if value is not None}


def _run(words: list[str], folder: Path, limit: float, environment: dict[str, str]) -> str:
    """Run to the end or the limit; returns what went wrong, if anything did."""
    errors = folder / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            start_new_session=True,  # so that its own children can be killed with it
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            _kill(process)
            return f"gave no answer within {limit:g} s"
        except BaseException:
            _kill(process)
            raise
    return _describe_end(code, errors)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _describe_end(code: int, errors: Path) -> str:
    if code == 0:
        return ""
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = f": {lines[-1].strip()[:200]}" if lines else ""
    if code > 0:
        return f"ended with exit code {code}{last}"
    try:
        return f"crashed ({signal.Signals(-code).name}){last}"
    except ValueError:
        return f"crashed (signal {-code}){last}"


def _read(folder: Path, trouble: str) -> Answer:
    facts, image = {}, None
    if (folder / FACTS_FILE).exists():
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    if (folder / IMAGE_FILE).exists():
        image = np.load(folder / IMAGE_FILE)
    if not trouble and not facts.get(DONE):
        trouble = facts.get(ERROR) or "ended without an answer"
    return Answer(facts, trouble, image)
