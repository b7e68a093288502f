"""A run of dmc.py: its folder, its clock, and what it prints."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmc_curve import Evaluation, read_curve

from latentwrap.agents import Callback, EpisodeStats
from latentwrap.agents.online import OnlineAgent
from latentwrap.files import written_whole

if TYPE_CHECKING:
    from latentwrap import SLAC

PATIENCE = 60  # seconds that an episode has to end when the minutes are up


@dataclass(frozen=True)
class Progress:
    """What the agent does not know of its run, kept as `progress.json`.

    Attributes:
        episodes: finished.
        seconds: of all pieces, evaluations included.
    """

    episodes: int = 0
    seconds: float = 0.0


class RunFolder:
    """The folder of a run.

    Attributes:
        path: of the folder, which is made.
        returns: the evaluations in it.
        agent: the folder of the agent inside.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.returns, self.agent = path, path / "returns.csv", path / "agent"
        self._progress, self._settings = path / "progress.json", path / "settings.json"

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with a run of other settings."""
        if self._settings.exists():
            before = json.loads(self._settings.read_text(encoding="utf-8"))
            other = [name for name, value in settings.items() if before.get(name) != value]
            if other:
                sys.exit(
                    f"{self.path} holds a run with {other[0]} = {before.get(other[0])}, not "
                    f"{settings[other[0]]}: choose another folder with -o."
                )
        self._settings.write_text(json.dumps(settings, indent=2), encoding="utf-8")

    @property
    def has_agent(self) -> bool:
        """Whether there is an agent to go on with, written to the end."""
        return self._progress.exists()

    def progress(self) -> Progress:
        """As of the last save."""
        if not self.has_agent:
            return Progress()
        return Progress(**json.loads(self._progress.read_text(encoding="utf-8")))

    def save(self, agent: SLAC, progress: Progress) -> None:
        """Keep the agent."""
        agent.save(self.agent)
        with written_whole(self._progress) as temporary:
            temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")

    def evaluations(self, *, up_to: int) -> list[Evaluation]:
        """Those of the steps that the agent remembers."""
        rows = read_curve(self.returns) if self.returns.exists() else []
        return [row for row in rows if row.OriginalEnvironmentSteps <= up_to]


class Clock:
    """The wall-clock time of a run, in pieces.

    Args:
        before: seconds of earlier pieces.
        minutes: of this piece.
    """

    def __init__(self, before: float, minutes: float) -> None:
        self._zero = time.monotonic() - before
        self._end = before + 60 * minutes

    @property
    def seconds(self) -> float:
        """Of all pieces."""
        return time.monotonic() - self._zero

    @property
    def is_up(self) -> bool:
        """Whether this piece should end."""
        return self.seconds >= self._end

    def say(self, steps: int, words: str) -> None:
        """A line of the log."""
        print(f"{self.seconds / 60:7.1f} min  {steps:8d} steps  {words}", flush=True)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Press Ctrl-C, as it were, if this piece has not ended long after it should have."""
        left = max(0.0, self._end + PATIENCE - self.seconds)
        if left > threading.TIMEOUT_MAX:
            yield
            return
        timer = threading.Timer(left, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class Tell(Callback):
    """Prints every episode with the wall-clock time, and ends learning with one when that is up.

    Args:
        action_repeat: environment steps in a step of the agent.
        clock: of the run.
        episodes: finished in earlier pieces.

    Attributes:
        episodes: finished in all.
    """

    def __init__(self, action_repeat: int, clock: Clock, episodes: int) -> None:
        self._action_repeat, self._clock, self.episodes = action_repeat, clock, episodes
        self._before, self._ended = 0.0, False

    def on_start(self, agent: OnlineAgent, total: int) -> None:  # noqa: ARG002 - of the interface
        """Measure the first episode from here."""
        self._before = self._clock.seconds

    def on_episode(self, agent: OnlineAgent, stats: EpisodeStats) -> None:
        """Print."""
        now, before = self._clock.seconds, self._before
        words = f"return {stats.total:.1f}, {1000 * (now - before) / stats.length:.0f} ms a step"
        self._clock.say(agent.num_timesteps * self._action_repeat, words)
        self._before, self._ended, self.episodes = now, True, self.episodes + 1

    def on_step(self, agent: OnlineAgent) -> bool:  # noqa: ARG002 - of the interface
        """Whether an episode is being played, or there is time for another."""
        ended, self._ended = self._ended, False
        return not ended or not self._clock.is_up
