"""Contestants in processes of their own, taking turns."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

Work: TypeAlias = Callable[[], object]
"""Does the work once."""

_SHORTEST_TURN = 0.15  # seconds; shorter ones would measure the clock and the scheduler
_WARM_UP = 2
_GO, _STOP = True, False


@dataclass(frozen=True)
class Contestant:
    """Something to be timed.

    Attributes:
        make: prepares the work in a process of its own; a function at the top of a module.
        arguments: of `make`.
        units: how much of what is counted one call does.
    """

    make: Callable[..., Work]
    arguments: Mapping[str, Any]
    units: int = 1


def race(
    contestants: Mapping[str, Contestant], *, rounds: int, threads: int
) -> dict[str, float | str]:
    """Median seconds of a unit of each, or why it could not start."""
    with _started(contestants, threads) as running:
        found: dict[str, float | str] = {}
        turns: dict[str, list[float]] = {}
        for name, connection in running.items():
            answer = _received(connection)
            if isinstance(answer, str):
                found[name] = answer
            else:
                turns[name] = []
        for turn in range(rounds + _WARM_UP):
            for name in list(turns):
                running[name].send(_GO)
                taken = _received(running[name])
                if isinstance(taken, str):
                    found[name] = taken
                    del turns[name]
                elif turn >= _WARM_UP:
                    turns[name].append(taken / contestants[name].units)
        return found | {name: statistics.median(seconds) for name, seconds in turns.items()}


def _received(connection: Connection) -> float | str:
    try:
        answer: float | str = connection.recv()
    except EOFError:
        answer = "its process ended"
    return answer


@contextmanager
def _started(contestants: Mapping[str, Contestant], threads: int) -> Any:
    context = multiprocessing.get_context("spawn")
    processes, connections = [], {}
    for name, contestant in contestants.items():
        connections[name], there = context.Pipe()
        arguments = (there, contestant, threads)
        processes.append(context.Process(target=_contend, args=arguments, daemon=True))
        processes[-1].start()
        there.close()  # else the end of the process would not be noticed
        connections[name].poll(None)  # one prepares at a time
    try:
        yield connections
    finally:
        for connection in connections.values():
            with suppress(OSError):  # it has ended already
                connection.send(_STOP)
        for process in processes:
            process.join()


def _contend(connection: Connection, contestant: Contestant, threads: int) -> None:
    try:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        work = contestant.make(**contestant.arguments)
        repeats = _repeats(work)
    except Exception as error:  # noqa: BLE001 - one that is not installed is named in the table
        connection.send(f"{type(error).__name__}: {error}")
        connection.recv()
        return
    connection.send(repeats)
    while connection.recv():
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        connection.send((time.perf_counter() - started) / repeats)


def _repeats(work: Work) -> int:
    """Calls in a turn that is long enough to be timed, once the first turn has warmed up."""
    for _ in range(2):
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < _SHORTEST_TURN:
            work()
            calls += 1
    return calls
