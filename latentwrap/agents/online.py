"""What agents share that learn while they act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from latentwrap.agents.callbacks import Callback, Callbacks
from latentwrap.agents.config import SACConfig
from latentwrap.agents.kinds import ActionKind
from latentwrap.agents.policy import Policy
from latentwrap.agents.spaces import ActionSpace
from latentwrap.agents.stepping import Played
from latentwrap.interrupts import InterruptFlag
from latentwrap.types import AnyArray, BoolArray, FloatArray, IntArray
from latentwrap.wrappers.workers import Environment

if TYPE_CHECKING:
    from typing_extensions import Self


class Source(Protocol):
    """What an agent acts in: a `Stepper`, or what follows one with a model.

    Attributes:
        acting: where an action is taken next, bool (num,).
        overlaps: whether the environments step between `send` and `receive`.
    """

    @property
    def acting(self) -> BoolArray:
        """Where an action is taken next."""

    @property
    def overlaps(self) -> bool:
        """Whether the environments step meanwhile."""

    def send(self, actions: AnyArray) -> None:
        """Let every environment take an action."""

    def receive(self) -> list[Played]:
        """What came of it."""

    def drop(self) -> None:
        """Wait for what came of it, and forget it."""

    def restart(self) -> None:
        """Reset what has ended, where nobody else does."""


class OnlineAgent(ABC):
    """An agent that learns from what it does.

    Where environments step in processes of their own, it learns from their transitions while they
    take the next action, which is therefore chosen before those updates.

    Attributes:
        config: hyperparameters.
        action_space: of one environment.
        policy: chooses the actions.
        num_timesteps: environment steps so far, those of all environments together.
        interrupted: whether Ctrl-C ended the latest `learn`.
    """

    config: SACConfig
    action_space: ActionSpace
    policy: Policy
    num_timesteps: int
    interrupted: bool
    _kind: ActionKind

    def learn(
        self,
        total_timesteps: int,
        *,
        callback: Callback | Sequence[Callback] | None = None,
        progress_bar: bool = False,
    ) -> Self:
        """Learn for some more environment steps; Ctrl-C ends after the step in progress.

        N environments step together, and a step that has been taken is learned from: what ends
        learning, also Ctrl-C or a callback, does so when all N transitions have been counted.

        Args:
            total_timesteps: steps to take now, rounded up to whole steps of all environments.
            callback: one or several.
            progress_bar: draw one on standard error.
        """
        self._require_env()
        callbacks = Callbacks(callback, show_progress=progress_bar)
        goal = self.num_timesteps + total_timesteps
        callbacks.on_start(self, goal)
        try:
            with InterruptFlag() as interrupt:
                self._interact(goal, callbacks, interrupt, show=progress_bar)
            self.interrupted = interrupt.raised
        finally:
            callbacks.on_end(self)
        return self

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,  # noqa: FBT001, FBT002 - as SB3's signature has it
    ) -> tuple[AnyArray, Any]:
        """Choose actions, as `Policy.predict` does."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Save all that it takes to go on learning."""

    @abstractmethod
    def save_policy(self, path: str | Path) -> None:
        """Save what it takes to act."""

    @abstractmethod
    def _require_env(self) -> Environment:
        """Where it acts.

        Raises:
            EnvironmentMismatch: nowhere.
        """

    @abstractmethod
    def _interact(
        self, goal: int, callbacks: Callbacks, interrupt: InterruptFlag, *, show: bool
    ) -> None:
        """Begin, and `_play` until the goal."""

    @abstractmethod
    def _keep(self, played: Played, row: FloatArray) -> None:
        """Keep a transition and its action as the replay stores it."""

    @abstractmethod
    def _learn_after(
        self, step: int, callbacks: Callbacks, interrupt: InterruptFlag, *, show: bool
    ) -> None:
        """The updates that are due after so many environment steps."""

    def _play(
        self,
        source: Source,
        see: Callable[[IntArray], Tensor],
        goal: int,
        callbacks: Callbacks,
        interrupt: InterruptFlag,
        *,
        show: bool,
    ) -> None:
        """Act, keep, update and tell, until the goal."""
        kept = deque[Played]()  # not learned from yet

        def learn() -> bool:
            wanted = True
            while kept:
                played = kept.popleft()
                self.num_timesteps += 1
                self._learn_after(self.num_timesteps, callbacks, interrupt, show=show)
                wanted &= self._tell(callbacks, played)
            return wanted

        wanted = True
        while wanted and self.num_timesteps + len(kept) < goal and not interrupt.raised:
            rows = self._explore(source.acting, see, taken=self.num_timesteps + len(kept))
            source.send(self._kind.to_actions(rows))
            if source.overlaps:
                try:
                    wanted &= learn()
                except BaseException:
                    source.drop()  # else nobody could even reset the environments
                    raise
            for played in source.receive():
                self._keep(played, rows[played.number])
                kept.append(played)
                if not source.overlaps:
                    wanted &= learn()
            source.restart()
        learn()

    def _explore(
        self, acting: BoolArray, see: Callable[[IntArray], Tensor], *, taken: int
    ) -> FloatArray:
        """Actions as the replay stores them: random at first, then from the policy.

        Args:
            acting: bool (num,); the other environments reset, and draw no noise.
            see: what the actor sees in environments of these numbers, float32 (K, d).
            taken: environment steps so far.
        """
        rows = np.zeros((len(acting), self._kind.size), np.float32)
        numbers = np.flatnonzero(acting)
        if taken < self.config.learning_starts:
            for number in numbers:
                rows[number] = self._kind.to_row(self.action_space.sample())
        elif len(numbers):
            rows[numbers] = self.policy.choose(see(numbers), deterministic=False)
        return rows

    def _tell(self, callbacks: Callbacks, played: Played) -> bool:
        """Tell that a step is over; whether another is wanted."""
        if played.ended is not None:
            callbacks.on_episode(self, played.ended)
        return callbacks.on_step(self)
