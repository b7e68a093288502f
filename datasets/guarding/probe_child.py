"""Runs in the process of `latentwrap.datasets.guarding.probe`: reads files that may do harm.

Imports little, starts no threads and keeps no file open, so that it can fork at any time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs

from latentwrap.datasets.guarding.rules import RULES, Suspect
from latentwrap.datasets.guarding.walk import Walk
from latentwrap.errors import DatasetError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_STATM = Path("/proc/self/statm")


def serve() -> None:
    """Answer requests, a line of JSON each, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = forked(request) if request["fork"] else examined(request)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def forked(request: dict[str, Any]) -> dict[str, str]:
    """The answer of a child under limits, or what it died of."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _answer_as_child(request, reading, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        return {"died": signal.Signals(-code).name if code < 0 else f"exit code {code}"}
    found: dict[str, str] = json.loads(answer)
    return found


def _answer_as_child(request: dict[str, Any], reading: int, writing: int) -> None:
    code = 1
    try:
        os.close(reading)
        limit(request["limits"])
        more = functools.partial(allow_decoding, request["limits"], [])
        os.write(writing, json.dumps(examined(request, more)).encode())
        code = 0
    finally:
        os._exit(code)


def limit(limits: dict[str, int]) -> None:
    """Let this process compute, wait and allocate only so much, and write nothing."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limits["wall"])
    _set_limit("RLIMIT_CPU", limits["cpu"], limits["cpu"] + limits["decoding"] + 1)
    _set_limit("RLIMIT_FSIZE", 0)
    _set_limit("RLIMIT_CORE", 0)
    _set_limit("RLIMIT_NOFILE", 64)
    if _STATM.exists():
        pages = int(_STATM.read_text(encoding="ascii").split()[0])
        _set_limit("RLIMIT_AS", pages * resource.getpagesize() + limits["memory"])


def allow_decoding(limits: dict[str, int], expected: list[int], size: int) -> None:
    """Let this process compute longer for so many bytes more, within the limits.

    Args:
        limits: of the process.
        expected: the sizes that it was called with before; this one is added.
        size: of what is going to be decoded.
    """
    expected.append(size)
    more = min(sum(expected) // limits["decoded_per_second"], limits["decoding"])
    _set_limit("RLIMIT_CPU", limits["cpu"] + more, limits["cpu"] + limits["decoding"] + 1)


def _set_limit(name: str, value: int, most: int | None = None) -> None:
    """Not every system has every limit, and none lets one raise it.

    Args:
        name: of the limit.
        value: beyond it a signal ends the process, which tells why.
        most: to which the limit can be raised later.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):
        number = getattr(resource, name)
        hard, most = resource.getrlimit(number)[1], value if most is None else most
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (min(value, most), most))


def _unlimited(size: int) -> None:
    """Decode it in the time that there is."""


def examined(request: dict[str, Any], expect: Callable[[int], None] = _unlimited) -> dict[str, str]:
    """Nothing where a file may be opened, else the sentence that refuses it.

    Args:
        request: which file, and by which rules.
        expect: called with the size of what is going to be decoded.
    """
    name = request["name"]
    try:
        with h5py.File(request["path"], "r") as file, _descriptor(request["path"]) as descriptor:
            return _walked(file, descriptor, request, expect)
    except OSError as error:
        return {"refusal": f"{name} is no whole HDF5 file ({_one_line(error)}): get it anew."}


@contextlib.contextmanager
def _descriptor(path: str) -> Iterator[int]:
    number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield number
    finally:
        os.close(number)


def _walked(
    file: h5py.File, descriptor: int, request: dict[str, Any], expect: Callable[[int], None]
) -> dict[str, str]:
    name, size = request["name"], os.fstat(descriptor).st_size
    try:
        Walk(Suspect(name, size, descriptor, RULES[request["rules"]], expect)).run(file)
    except DatasetError as error:
        return {"refusal": _one_line(error)}
    except MemoryError:
        return {"refusal": f"{name} needs more memory to read than a sound file: get it anew."}
    except Exception as error:  # noqa: BLE001 - HDF5 raises whatever its inner layers raise
        return {"refusal": f"{name} is damaged ({_one_line(error).rstrip('.')}): get it anew."}
    return {}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
