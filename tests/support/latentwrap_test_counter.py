"""Episodes whose every frame shows its step number and the action that led to it.

An importer that shifts actions against frames by one row cannot pass `assert_aligned`. The signs
are large areas sixteen grey levels apart, so that they survive JPEG and video.
"""

from __future__ import annotations

import numpy as np

from latentwrap.datasets import Episode
from latentwrap.types import FloatArray, Frame

LEVELS = 15
"""Actions are one of these many numbers from -1 to 1; steps are counted modulo as many."""


def counting_episode(steps: int, seed: int, *, size: int = 64, terminated: bool = False) -> Episode:
    """An episode of `steps` transitions with one action and a reward that is its step number."""
    codes = np.random.default_rng(seed).integers(LEVELS, size=steps)
    frames = [draw(0, None, size), *(draw(t + 1, int(c), size) for t, c in enumerate(codes))]
    return Episode(
        frames=np.stack(frames),
        actions=action_of(codes)[:, None],
        rewards=np.arange(steps, dtype=np.float32),
        terminated=terminated,
        truncated=not terminated,
        states={"step": np.arange(steps + 1, dtype=np.float32)[:, None]},
    )


def action_of(codes: np.ndarray) -> FloatArray:
    """The number from -1 to 1 that a code stands for."""
    return (2 * codes / (LEVELS - 1) - 1).astype(np.float32)


def draw(step: int, code: int | None, size: int = 64) -> Frame:
    """Left half: the step number; right half: the code of the action before, black for none."""
    frame = np.zeros((size, size, 3), np.uint8)
    frame[:, : size // 2] = 16 * (step % LEVELS + 1)
    frame[:, size // 2 :] = 0 if code is None else 16 * (code + 1)
    return frame


def step_in(frame: Frame) -> int:
    """The step number that a frame shows, modulo `LEVELS`."""
    return _level(frame[:, : frame.shape[1] // 2]) - 1


def code_in(frame: Frame) -> int | None:
    """The code of the action that led to a frame; `None` in the first."""
    level = _level(frame[:, frame.shape[1] // 2 :])
    return level - 1 if level else None


def assert_aligned(episode: Episode) -> None:
    """Frame t shows step t and the action of transition t - 1; its reward is t - 1."""
    for t, frame in enumerate(episode.frames):
        assert step_in(frame) == t % LEVELS
        expected = None if t == 0 else episode.actions[t - 1, 0]
        found = code_in(frame)
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_allclose(action_of(np.array(found)), expected, atol=0.01)
    if episode.rewards is not None:
        np.testing.assert_allclose(episode.rewards, np.arange(len(episode.rewards)), atol=1e-5)


def _level(area: Frame) -> int:
    height, width = area.shape[0] // 4, area.shape[1] // 4
    middle = area[height:-height, width:-width]  # video blurs the borders
    return round(float(middle.mean()) / 16)
