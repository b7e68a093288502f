"""The environments that a collection steps: frames observed, in processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from latentwrap.envs.making import FrameSkip, RenderFrame, make_env
from latentwrap.errors import DatasetError


@dataclass(frozen=True)
class EnvMaker:
    """Makes one environment that observes frames; may be pickled to a worker.

    Attributes:
        spec: of the environment; workers need not have registered its id.
        frame_skip: how often each action is repeated.
        height, width, grey: size of the frames, and whether they lose their colours.
        env_kwargs: passed on to the environment.
    """

    spec: EnvSpec
    frame_skip: int
    height: int
    width: int
    grey: bool
    env_kwargs: Mapping[str, Any]
    _home: int = field(default_factory=os.getpid)

    def __call__(self) -> RenderFrame:
        """Make it."""
        if os.getpid() != self._home:
            # Ctrl-C reaches every process of the terminal; the collector alone shall act on it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        env = make_env(self.spec, **self.env_kwargs)
        if self.frame_skip > 1:
            env = FrameSkip(env, self.frame_skip)
        return RenderFrame(env, height=self.height, width=self.width, grey=self.grey)


@contextmanager
def running(make: EnvMaker, count: int) -> Iterator[VectorEnv[Any, Any, Any]]:
    """`count` environments under Gymnasium's NEXT_STEP autoreset, closed after the block.

    One runs in this process, more run in a spawned process each: a fork would copy threads and
    rendering contexts that do not survive it. If the block raises, the processes are terminated,
    because one that hangs or died can no longer be asked to close.

    Raises:
        DatasetError: a process ended without a word.
    """
    envs = None
    try:
        envs = _make_vector(make, count)
        yield envs
    except BaseException as error:
        _terminate(envs)
        if count > 1 and isinstance(error, EOFError | ConnectionError):
            raise DatasetError(
                "The process of an environment ended unexpectedly (killed, out of memory, or a "
                "script without if __name__ == '__main__'): see its own output, and pass --resume "
                "to go on with the episodes so far."
            ) from error
        raise
    envs.close()


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


def _make_vector(make: EnvMaker, count: int) -> VectorEnv[Any, Any, Any]:
    if count == 1:
        return SyncVectorEnv([make], **_next_step())
    return AsyncVectorEnv([make] * count, context="spawn", **_next_step())


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
