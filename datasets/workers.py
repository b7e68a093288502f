"""The environments that a collection steps: frames observed, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from latentwrap.datasets.collector import environment_errors
from latentwrap.envs.workers import FrameEnvMaker
from latentwrap.errors import DatasetError


@contextmanager
def running(
    make: FrameEnvMaker, count: int, name: str, *, apart: bool = False
) -> Iterator[VectorEnv[Any, Any, Any]]:
    """`count` environments under Gymnasium's NEXT_STEP autoreset, closed after the block.

    One runs in this process, more run in a spawned process each: a fork would copy threads and
    rendering contexts that do not survive it. If the block raises, the processes are terminated,
    because one that hangs or died can no longer be asked to close.

    Args:
        make: makes one.
        count: how many.
        name: of the environment, for messages.
        apart: let one alone run in a process of its own too.

    Raises:
        DatasetError: a process ended without a word.
        EnvironmentFailed: an environment cannot be made.
    """
    envs = None
    try:
        with environment_errors(name):
            envs = _make_vector(make, count, apart=apart or count > 1)
        yield envs
    except BaseException as error:
        _terminate(envs)
        if isinstance(envs, AsyncVectorEnv) and isinstance(error, EOFError | ConnectionError):
            raise DatasetError(
                "The process of an environment ended unexpectedly (killed, out of memory, or a "
                "script without if __name__ == '__main__'): see its own output, and pass --resume "
                "to go on with what was saved."
            ) from error
        raise
    _close(envs)


def spec_json(env: gym.Env[Any, Any]) -> str | None:
    """The specification that the environment was made from; `None` if it cannot be written."""
    spec = env.unwrapped.spec
    if spec is None:
        return None
    try:
        return spec.to_json()
    except (TypeError, ValueError, AttributeError):
        return None  # an entry point or argument that is no importable name or plain value


def _next_step() -> dict[str, Any]:
    """Name the autoreset mode where Gymnasium has a name for it (1.1); 1.0 has no other."""
    mode = getattr(gym.vector, "AutoresetMode", None)
    return {} if mode is None else {"autoreset_mode": mode.NEXT_STEP}


def _make_vector(make: FrameEnvMaker, count: int, *, apart: bool) -> VectorEnv[Any, Any, Any]:
    envs: VectorEnv[Any, Any, Any]
    if apart:
        envs = AsyncVectorEnv([make] * count, context="spawn", **_next_step())
    else:
        envs = SyncVectorEnv([make], **_next_step())
    envs.spec = make.spec  # as gymnasium.make_vec does
    return envs


def _close(envs: VectorEnv[Any, Any, Any]) -> None:
    """Ask them to close; those that a signal has ended already are left alone."""
    processes = envs.processes if isinstance(envs, AsyncVectorEnv) else []
    if all(process.is_alive() for process in processes):
        try:
            return envs.close()
        except (EOFError, ConnectionError):
            pass  # it ended just now
    return _terminate(envs)


def _terminate(envs: VectorEnv[Any, Any, Any] | None) -> None:
    """Close without waiting for an answer.

    `AsyncVectorEnv.close(terminate=True)` first waits for a step that was asked for, and fails
    where its process is dead.
    """
    if not isinstance(envs, AsyncVectorEnv):
        if envs is not None:
            envs.close()
        return
    for process in envs.processes:
        process.terminate()
    for process in envs.processes:
        process.join()
    for pipe in envs.parent_pipes:
        if pipe is not None:
            pipe.close()
    envs.closed = True
