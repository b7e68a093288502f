"""Processes that are killed by SIGKILL at a chosen call that changes files, or at a chosen time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
from latentwrap_test_data import make_episode, make_info

from latentwrap.datasets import DatasetWriter, writer

_CHANGES = {
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a process.

    Attributes:
        killed: it did not come to its end.
        safe: episodes that it was told were kept.
        calls: that changed files, if it was not killed.
    """

    killed: bool
    safe: int
    calls: int


def write(
    path: Path, lengths: list[int], options: dict[str, Any], said: Callable[[], None]
) -> None:
    """Write the episodes that are not there yet; `said` is called when each is safe."""
    with DatasetWriter(path, make_info(), **options) as begun:
        for number in range(begun.episodes, len(lengths)):
            begun.add(make_episode(lengths[number], seed=number))
            said()


def run_killed(
    path: Path,
    lengths: list[int],
    options: dict[str, Any],
    *,
    call: int | None = None,
    after: float | None = None,
) -> Outcome:
    """Run `write` in a process that dies at its `call`-th call that changes files, or by the clock.

    Args:
        path: what it writes.
        lengths: of the episodes.
        options: of the writer.
        call: with which it dies.
        after: seconds after its first episode is safe.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(path, lengths, options, call, theirs))
    process.start()
    theirs.close()
    if after is not None:
        ours.poll(None)
        time.sleep(after)
        process.kill()
    said = _all(ours)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    counts = [number for number in said if number is not None]
    return Outcome(process.exitcode != 0, len(said) - len(counts), counts[0] if counts else 0)


def _main(
    path: Path, lengths: list[int], options: dict[str, Any], call: int | None, pipe: Connection
) -> None:
    calls = 0
    alive = True

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal calls
        if not alive or not (event in _CHANGES or (event == "open" and _writes(args))):
            return
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1

    os.fsync = lambda _: None  # a power cut needs it, a kill does not
    # Nor is a stranger's file continued here, which another process would have to look at first.
    writer.open_checked = lambda path, trusted: h5py.File(path)
    sys.addaudithook(count)
    write(path, lengths, options, lambda: pipe.send(None))
    alive = False
    pipe.send(calls)


def _writes(args: tuple[Any, ...]) -> bool:
    return bool(args[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))


def _all(pipe: Connection) -> list[Any]:
    found = []
    try:
        while True:
            found.append(pipe.recv())
    except EOFError:
        return found
