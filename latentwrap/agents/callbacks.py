"""What happens beside learning: logging, evaluation, saving, progress."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from torch import Tensor

from latentwrap.agents.evaluate import EvaluationResult, evaluate_policy
from latentwrap.progress import bar
from latentwrap.runlog import MetricLog

if TYPE_CHECKING:
    from latentwrap.agents.online import OnlineAgent


@dataclass(frozen=True)
class EpisodeStats:
    """A finished episode: undiscounted sum of rewards, and steps."""

    total: float
    length: int


class Callback:
    """Hooks into the `learn` of `SAC` and `SLAC`; each does nothing unless overridden."""

    def on_start(self, agent: OnlineAgent, total: int) -> None:
        """Called before the first step; learning ends at step `total`."""

    def on_step(self, agent: OnlineAgent) -> bool:
        """Called after every environment step; `False` ends learning."""
        return True

    def on_episode(self, agent: OnlineAgent, stats: EpisodeStats) -> None:
        """Called when an episode has ended."""

    def on_update(self, agent: OnlineAgent, metrics: dict[str, Tensor]) -> None:
        """Called after every update; reading a metric waits for the device."""

    def on_end(self, agent: OnlineAgent) -> None:
        """Called at the end, however it came."""


class Callbacks(Callback):
    """Several as one.

    Args:
        callback: one, several or none.
        show_progress: draw a progress bar too.
    """

    def __init__(
        self, callback: Callback | Sequence[Callback] | None, *, show_progress: bool
    ) -> None:
        several = [callback] if isinstance(callback, Callback) else list(callback or [])
        self._all = [*several, ShowProgress()] if show_progress else several

    def on_start(self, agent: OnlineAgent, total: int) -> None:
        """Tell all."""
        for each in self._all:
            each.on_start(agent, total)

    def on_step(self, agent: OnlineAgent) -> bool:
        """Ask all, whatever the first ones say."""
        wishes = [each.on_step(agent) for each in self._all]
        return all(wishes)

    def on_episode(self, agent: OnlineAgent, stats: EpisodeStats) -> None:
        """Tell all."""
        for each in self._all:
            each.on_episode(agent, stats)

    def on_update(self, agent: OnlineAgent, metrics: dict[str, Tensor]) -> None:
        """Tell all."""
        for each in self._all:
            each.on_update(agent, metrics)

    def on_end(self, agent: OnlineAgent) -> None:
        """Tell all."""
        for each in self._all:
            each.on_end(agent)


class LogMetrics(Callback):
    """Writes losses and returns into `folder/metrics.csv` and TensorBoard.

    Args:
        folder: made if missing; an agent that has learned before goes on with the log there.
        every: steps between two rows.

    Attributes:
        note: a sentence for the user if TensorBoard is missing, else `None`.
    """

    def __init__(self, folder: Path, *, every: int = 500) -> None:
        self._folder, self._every = folder, every
        self.note: str | None = None

    def on_start(self, agent: OnlineAgent, total: int) -> None:
        """Open the log."""
        resume_at = agent.num_timesteps or None
        self._log = MetricLog(self._folder, resume_at=resume_at)
        self.note = self._log.note
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._since = time.monotonic(), agent.num_timesteps

    def on_update(self, agent: OnlineAgent, metrics: dict[str, Tensor]) -> None:
        """Add up; nothing is read from the device yet."""
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def on_episode(self, agent: OnlineAgent, stats: EpisodeStats) -> None:
        """Write return and length."""
        row = {"episode/return": stats.total, "episode/length": stats.length}
        self._log.write(agent.num_timesteps, row)

    def on_step(self, agent: OnlineAgent) -> bool:
        """Write the means since the last row."""
        if agent.num_timesteps % self._every == 0 and self._sums:
            row = {f"train/{n}": float(v) / self._counts[n] for n, v in self._sums.items()}
            now, before = (time.monotonic(), agent.num_timesteps), self._since
            row["time/steps_per_second"] = (now[1] - before[1]) / max(now[0] - before[0], 1e-9)
            self._log.write(agent.num_timesteps, row)
            self._sums, self._counts, self._since = {}, {}, now
        return True

    def on_end(self, agent: OnlineAgent) -> None:
        """Close the log."""
        self._log.close()


class EvaluateEvery(Callback):
    """Evaluates the agent from time to time, with its mean action.

    Args:
        env: an environment of its own.
        every: steps between evaluations.
        episodes: in each.
        seed: of the first episode of each evaluation, always the same.
        folder: where `evaluations/` and `best.safetensors` go; `None` keeps no files.

    Attributes:
        history: (step, result) of every evaluation of this run.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        every: int,
        episodes: int,
        *,
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        self._env, self._every, self._episodes = env, every, episodes
        self._seed, self._folder = seed, folder
        self._best = float("-inf")
        self.history: list[tuple[int, EvaluationResult]] = []

    def on_start(self, agent: OnlineAgent, total: int) -> None:
        """Open the log."""
        if self._folder is not None:
            resume_at = agent.num_timesteps or None
            self._log = MetricLog(self._folder / "evaluations", resume_at=resume_at)
            self._best = max(self._log.values("evaluation/return"), default=float("-inf"))

    def on_step(self, agent: OnlineAgent) -> bool:
        """Evaluate when it is time."""
        if agent.num_timesteps % self._every == 0:
            result = evaluate_policy(agent.policy, self._env, self._episodes, seed=self._seed)
            self.history.append((agent.num_timesteps, result))
            self._keep(agent, result)
        return True

    def on_end(self, agent: OnlineAgent) -> None:
        """Close the log."""
        if self._folder is not None:
            self._log.close()

    def _keep(self, agent: OnlineAgent, result: EvaluationResult) -> None:
        if self._folder is None:
            return
        row = {"evaluation/return": result.mean, "evaluation/return_std": result.std}
        self._log.write(agent.num_timesteps, row)
        if result.mean > self._best:
            self._best = result.mean
            agent.save_policy(self._folder / "best.safetensors")


class SaveEvery(Callback):
    """Saves the agent with its replay from time to time, so that a killed run can be resumed.

    Args:
        path: a `.safetensors` file, replaced each time.
        every: steps between two.
    """

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every

    def on_step(self, agent: OnlineAgent) -> bool:
        """Save when it is time."""
        if agent.num_timesteps % self._every == 0:
            agent.save(self._path)
        return True


class ShowProgress(Callback):
    """Draws a progress bar with the return of the latest episode."""

    def on_start(self, agent: OnlineAgent, total: int) -> None:
        """Draw it."""
        self._stack = ExitStack()
        self._bar = self._stack.enter_context(bar("Learning", total))
        self._note: str | None = None

    def on_episode(self, agent: OnlineAgent, stats: EpisodeStats) -> None:
        """Remember the return."""
        self._note = f"return {stats.total:.1f}"

    def on_step(self, agent: OnlineAgent) -> bool:
        """Move it."""
        self._bar.move_to(agent.num_timesteps, self._note)
        return True

    def on_end(self, agent: OnlineAgent) -> None:
        """Leave it as it is."""
        self._stack.close()
