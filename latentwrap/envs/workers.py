"""Environments that observe frames, made where they run: here, or in a process of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gymnasium.envs.registration import EnvSpec

from latentwrap.envs.frames import FrameSkip, RenderFrame
from latentwrap.envs.making import make_env
from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import DEFAULT_SIZE


@dataclass(frozen=True)
class FrameEnvMaker:
    """Makes one environment that observes frames; may be pickled to a worker.

    Making it needs no torch, so that workers stay small.

    Attributes:
        spec: of the environment; workers need not have registered its id.
        frame_skip: how often each action is repeated.
        height, width, grey: size of the frames, and whether they lose their colours.
        image_keys, vector_keys, layout, rendering, cameras, states: as of `RenderFrame`.
        env_kwargs: passed on to the environment.
    """

    spec: EnvSpec
    frame_skip: int = 1
    height: int = DEFAULT_SIZE
    width: int = DEFAULT_SIZE
    grey: bool = False
    image_keys: tuple[str, ...] | None = None
    vector_keys: tuple[str, ...] = ()
    layout: str | None = None
    rendering: str = "fast"
    cameras: tuple[str, ...] = ()
    states: bool = False
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    _home: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        if self.frame_skip < 1:
            raise EnvironmentMismatch(
                f"frame_skip requires a number of at least 1, got {self.frame_skip}."
            )

    def __call__(self) -> RenderFrame:
        """Make it."""
        if os.getpid() != self._home:
            # Ctrl-C reaches every process of the terminal; the first alone shall act on it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        env = make_env(self.spec, **self.env_kwargs)
        if self.frame_skip > 1:
            env = FrameSkip(env, self.frame_skip)
        return RenderFrame(
            env,
            height=self.height,
            width=self.width,
            grey=self.grey,
            image_keys=self.image_keys,
            vector_keys=self.vector_keys,
            layout=self.layout,
            rendering=self.rendering,
            cameras=self.cameras,
            states=self.states,
        )
