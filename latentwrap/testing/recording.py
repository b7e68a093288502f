"""Recording what an environment really gave and took, and giving it once more."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from latentwrap.errors import LatentwrapError


class End(NamedTuple):
    """How an episode is made to end.

    Attributes:
        after: steps of the environment, at least 1.
        terminated, truncated: what the environment says then.
    """

    after: int
    terminated: bool = False
    truncated: bool = True


@dataclass
class RecordedEpisode:
    """What an environment gave in one episode, and what it was asked; T steps of it.

    Attributes:
        observations: T+1.
        images: T+1; what was rendered after each step, `None` where nobody asked.
        infos: T+1.
        actions: T, as the environment received them.
        rewards: T.
    """

    observations: list[Any] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def give(self, observation: Any, info: dict[str, Any]) -> None:
        """Note an observation as it is now, whatever becomes of its memory."""
        self.observations.append(copy.deepcopy(observation))
        self.images.append(None)
        self.infos.append(copy.deepcopy(info))

    def frames_at(self, skip: int) -> list[int]:
        """Which observations an agent saw that took every action `skip` times."""
        steps = len(self.actions)
        return [*range(0, steps, skip), steps]


class Recorder(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Records each episode, and ends episodes after given numbers of steps.

    Args:
        env: the environment.
        ends: of its episodes, in turn and again from the first; each an `End`. An episode that the
            environment ends earlier is over then. None of them leave all to the environment.

    Attributes:
        recorded: the episodes so far, the last perhaps unfinished.

    Example:
        >>> import gymnasium, latentwrap
        >>> env = gymnasium.make("latentwrap/PixelPendulum-v0")
        >>> env = Recorder(env, ends=[End(2), End(5, terminated=True, truncated=False)])
        >>> _ = env.reset(seed=0)
        >>> for _ in range(2):
        ...     *_, truncated, _ = env.step(env.action_space.sample())
        >>> truncated, len(env.recorded[0].observations)
        (True, 3)
    """

    def __init__(self, env: gym.Env[Any, Any], ends: Sequence[Sequence[Any]] = ()) -> None:
        self.ends = tuple(End(*end) for end in ends)
        RecordConstructorArgs.__init__(self, ends=[list(end) for end in self.ends])
        super().__init__(env)
        self.recorded: list[RecordedEpisode] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the record of another episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.recorded.append(RecordedEpisode())
        self.recorded[-1].give(observation, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and end the episode if it is time."""
        episode = self.recorded[-1]
        episode.actions.append(copy.deepcopy(action))
        observation, reward, terminated, truncated, info = self.env.step(action)
        end = self._end_of(len(self.recorded) - 1)
        if end is not None and len(episode.actions) >= end.after:
            terminated, truncated = terminated or end.terminated, truncated or end.truncated
        episode.give(observation, info)
        episode.rewards.append(float(reward))
        return observation, float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """Render, and keep the first image since the last step."""
        image = self.env.render()
        if self.recorded and self.recorded[-1].images[-1] is None:
            self.recorded[-1].images[-1] = copy.deepcopy(image)
        return image

    def _end_of(self, episode: int) -> End | None:
        return self.ends[episode % len(self.ends)] if self.ends else None


class Replay(gym.Env[Any, Any]):
    """Gives one recorded episode again, whatever it is asked to do.

    It does not tell that the episode ends: what is observed at the end must be the same.

    Args:
        episode: what to give.
        like: an environment with the spaces, metadata and render mode of the recorded one.
    """

    def __init__(self, episode: RecordedEpisode, like: gym.Env[Any, Any]) -> None:
        self.observation_space, self.action_space = like.observation_space, like.action_space
        self.metadata, self.render_mode = like.metadata, like.render_mode
        self.spec = like.spec
        self._episode, self._now = episode, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The first observation."""
        super().reset(seed=seed, options=options)
        self._now = 0
        return self._given()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        """The next observation.

        Raises:
            LatentwrapError: the record is over.
        """
        if self._now >= len(self._episode.rewards):
            raise LatentwrapError(
                f"The recorded episode has {self._now} steps, but a fresh copy of the wrapper "
                "takes more of the same actions: a wrapper must not step on its own."
            )
        reward = self._episode.rewards[self._now]
        self._now += 1
        observation, info = self._given()
        return observation, reward, False, False, info

    def render(self) -> Any:
        """The image that was rendered at this step."""
        return copy.deepcopy(self._episode.images[self._now])

    def _given(self) -> tuple[Any, dict[str, Any]]:
        episode = copy.deepcopy((self._episode.observations[self._now],))
        return episode[0], copy.deepcopy(self._episode.infos[self._now])
