"""Runs in a process of its own for `wholeness.verify`: reads every chunk of files."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs

from latentwrap.datasets.guarding.probe_child import limit
from latentwrap.datasets.wholeness.examination import Examination, Found, reason_of, without_advice
from latentwrap.errors import DatasetError, LatentwrapError


def serve() -> None:
    """Answer requests, a line of JSON each, with lines of JSON, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if hasattr(os, "fork"):
            say(exit=_forked(request))
        else:
            _answer(request)
            say(exit=0)


def say(**message: Any) -> None:
    """Send a line to the parent."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def _forked(request: dict[str, Any]) -> int:
    """Answer in a child under limits; its exit code, negative if a signal ended it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            limit(request["limits"])
            _answer(request)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _answer(request: dict[str, Any]) -> None:
    found = Found()
    try:
        with _opened(request["path"]) as file:
            Examination(file, request["name"], found, moved).run()
    except LatentwrapError as error:
        found.problems.append(without_advice(error))
    except MemoryError:
        found.problems.append("it needs more memory to read than a sound file")
    except Exception as error:  # noqa: BLE001 - nothing may stop the other files
        found.problems.append(f"it is damaged ({reason_of(error)})")
    say(found=vars(found))


def moved(done: int, total: int) -> None:
    """Say how many rows were read."""
    say(done=done, total=total)


def _opened(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"it is no whole HDF5 file ({reason_of(error)}): get it anew.") from None
