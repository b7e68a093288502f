"""Playing in a process of its own."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle  # type: ignore[import-untyped] # Gymnasium requires it
import gymnasium as gym

from latentwrap.errors import LatentwrapError
from latentwrap.testing.notes import Played
from latentwrap.testing.plans import Plan
from latentwrap.testing.playing import play_single

_PATIENCE = 120.0
"""Seconds until a process counts as hanging."""


def play_elsewhere(make: Callable[[], gym.Env[Any, Any]], plan: Plan, method: str) -> Played:
    """Make and play a single environment in another process.

    Args:
        make: makes the environment there.
        plan: how to play.
        method: `fork`, `spawn` or `forkserver`.

    Raises:
        LatentwrapError: the process gave no answer in time, died, or raised.
    """
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    work = cloudpickle.dumps((make, plan))
    process = context.Process(target=_answer, args=(work, there), daemon=True)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # Python warns of forks with threads; whether this one works is what is asked.
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        process.start()
    there.close()
    try:
        return _received(here, method)
    finally:
        process.kill()
        process.join()


def _received(connection: Connection, method: str) -> Played:
    try:
        if not connection.poll(_PATIENCE):
            raise LatentwrapError(
                f"A process made by {method} gave no answer within {_PATIENCE:g} s: threads do "
                "not survive a fork; use spawn, or torch.set_num_threads(1) before it."
            )
        answer = cloudpickle.loads(connection.recv_bytes())
    except EOFError:
        raise LatentwrapError(f"A process made by {method} died without an answer.") from None
    if isinstance(answer, str):
        raise LatentwrapError(f"A process made by {method} failed: {answer}.")
    played: Played = answer
    return played


def _answer(work: bytes, connection: Connection) -> None:
    try:
        make, plan = cloudpickle.loads(work)
        answer: Played | str = play_single(make(), plan)
    except Exception as error:  # noqa: BLE001 - told to who asked
        answer = f"{type(error).__name__}: {error}"
    connection.send_bytes(cloudpickle.dumps(answer))
