"""Environments that remember what truly happened in them, and quick agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from tests.conftest import make_tiny_model

from latentwrap import RenderFrame
from latentwrap.actions import ActionSpec
from latentwrap.joint.sequences import SequenceReplay, SequenceSpec
from latentwrap.models import LatentModel
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.training.statistics import filter_beliefs
from latentwrap.vectors import VectorSpec

SIDE = 16
FRAME = FrameSpec(height=SIDE, width=SIDE)
NAMED = FrameSpec(height=SIDE, width=SIDE, cameras=(Camera(name="image"),))
"""The same image, out of a Dict."""
VECTORS = VectorSpec(names=("joints", "grip"), sizes=(2, 1))
BOX = spaces.Box(np.float32([-2, 0]), np.float32([2, 4]))
DISCRETE = spaces.Discrete(3, start=5)
MODES = list(AutoresetMode)

TINY_MODEL = {
    "patch": 8, "widths": (4, 8), "features": 12, "hidden": (16,), "memory": 5, "stochastic": 3,
    "batch_size": 3, "window": 4,
}  # fmt: skip
QUICK = {
    "hidden": (16,), "batch_size": 8, "learning_starts": 20, "initial_model_updates": 3,
    "buffer_size": 200, "rescale_every": 7, "history": 3, "burn_in": 3,
    "actor_input": "latent",
}  # fmt: skip


@dataclass
class Played:
    """An episode as it truly was; frames and vectors (T+1, ...), all else (T, ...)."""

    frames: list[np.ndarray] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    ended: bool = False

    def __len__(self) -> int:
        return len(self.actions)


class Diary(gym.Env[Any, Any]):
    """Shows noise that nobody foresees, and keeps every episode; lengths and ends take turns.

    Args:
        number: of the environment; its noise is its own.
        lengths: of its episodes, in turn; every second one terminates, the others are cut.
        actions: its space.
        vectors: observe a Dict of the image and two vectors.
    """

    def __init__(
        self,
        number: int = 0,
        lengths: tuple[int, ...] = (5, 1, 9),
        actions: spaces.Space = BOX,
        *,
        vectors: bool = False,
    ) -> None:
        self.action_space = actions
        image = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        joints, grip = spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-9, 9, (1,))
        self._with_vectors = vectors
        self.observation_space: spaces.Space = (
            spaces.Dict({"image": image, "joints": joints, "grip": grip}) if vectors else image
        )
        self._number, self._lengths = number, lengths
        self.diary: list[Played] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.diary.append(Played())
        return self._look(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        now = self.diary[-1]
        assert not now.ended, "an ended episode was stepped"
        now.actions.append(np.reshape(action, -1))
        now.rewards.append(float(np.sum(action)) + 10 * len(now) + 1000 * self._number)
        count = len(self.diary) - 1
        now.ended = len(now) == self._lengths[count % len(self._lengths)]
        now.terminated = now.ended and count % 2 == 0
        return self._look(), now.rewards[-1], now.terminated, now.ended and not now.terminated, {}

    def _look(self) -> Any:
        now = self.diary[-1]
        rng = np.random.default_rng([self._number, len(self.diary), len(now)])
        frame = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        vectors = rng.normal(1, 2, 3).astype(np.float32)
        now.frames.append(frame)
        now.vectors.append(vectors)
        if not self._with_vectors:
            return frame
        return {"image": frame, "joints": vectors[:2], "grip": vectors[2:]}


def framed(env: gym.Env, *, vectors: bool = False) -> RenderFrame:
    """It, as a worker of a vector has it."""
    keys = VECTORS.names if vectors else ()
    return RenderFrame(env, height=SIDE, width=SIDE, vector_keys=keys)


def framed_diary(number: int, lengths: tuple[int, ...]) -> RenderFrame:
    """One that can be made in a process of its own, where its diary stays."""
    return framed(Diary(number, lengths))


def make_world(
    mode: AutoresetMode | None = None,
    num: int = 3,
    *,
    actions: spaces.Space = BOX,
    vectors: bool = False,
) -> tuple[Any, list[Diary]]:
    """A single environment, or a vector of them with other lengths each; and their diaries."""
    if mode is None:
        alone = Diary(actions=actions, vectors=vectors)
        return framed(alone, vectors=vectors), [alone]
    lengths = [(5, 1, 9), (3, 4), (12, 2)]
    diaries = [
        Diary(number, lengths[number % 3], actions, vectors=vectors) for number in range(num)
    ]
    makers = [lambda each=each: framed(each, vectors=vectors) for each in diaries]
    return SyncVectorEnv(makers, autoreset_mode=mode), diaries


def make_model(
    kind: str = "rssm", *, actions: spaces.Space = BOX, vectors: bool = False, sees: bool = False
) -> LatentModel:
    """A tiny model of such a world."""
    spec = VECTORS if vectors or sees else None
    return make_tiny_model(
        kind=kind,
        action_space=actions,
        frame=FRAME if spec is None else NAMED,
        vectors=spec,
        sees_vectors=sees,
    )


def make_replay(
    capacity: int = 200, *, actions: spaces.Space = BOX, lanes: int = 1, vectors: bool = False
) -> SequenceReplay:
    spec = SequenceSpec(FRAME, ActionSpec(actions), VECTORS.size if vectors else 0)
    return SequenceReplay(capacity, spec, lanes=lanes, seed=0)


def play_into(
    replay: SequenceReplay,
    lengths: tuple[int, ...],
    *,
    lane: int = 0,
    vectors: bool = False,
    seed: int = 0,
) -> list[Played]:
    """Keep episodes of noise in a lane, the last one unfinished; returns them."""
    space = replay.spec.action.space
    space.seed(seed)
    env = Diary(seed, lengths, space)
    for number, length in enumerate(lengths):
        env.reset()
        now = env.diary[-1]
        seen = (np.zeros(0, np.float32),) if not vectors else now.vectors
        replay.begin(lane, now.frames[0], seen[-1])
        for _ in range(length):
            _, reward, terminated, truncated, _ = env.step(space.sample())
            finished = number < len(lengths) - 1
            replay.step(
                lane,
                now.actions[-1],
                reward,
                now.frames[-1],
                seen[-1],
                terminated=terminated and finished,
                ended=(terminated or truncated) and finished,
            )
    return env.diary


def offline(model: LatentModel, episode: Played) -> list[Any]:
    """The mean belief after each frame, each of a batch of one, from the episode's start."""
    frames = torch.from_numpy(np.stack(episode.frames))[None]
    stored = np.zeros((0, model.action_spec.stored_size), model.action_spec.stored_dtype)
    if episode.actions:
        stored = model.action_spec.flatten_batch(np.stack(episode.actions))
    actions = torch.from_numpy(model.action_spec.encode(stored))[None]
    vectors = model.prepare_vectors(np.stack(episode.vectors))
    with torch.no_grad():
        return list(
            filter_beliefs(model, frames, actions, None if vectors is None else vectors[None])
        )


def features_of(model: LatentModel, episode: Played) -> torch.Tensor:
    """What the model sees in every frame, (T+1, F)."""
    with torch.no_grad():
        frames = torch.from_numpy(np.stack(episode.frames))
        return model.see(frames, model.prepare_vectors(np.stack(episode.vectors)))


def assert_same_beliefs(found: Any, expected: Any, **tolerance: float) -> None:
    options = {"rtol": 1e-4, "atol": 1e-5, **tolerance}
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **options)


def random_actions(space: spaces.Space, num: int, rng: np.random.Generator) -> np.ndarray:
    """One for each environment, (num, ...)."""
    if isinstance(space, spaces.Discrete):
        return space.start + rng.integers(space.n, size=num)
    return rng.uniform(space.low, space.high, (num, *space.shape)).astype(space.dtype)
