"""Small datasets for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.datasets import DatasetInfo, DatasetWriter, Episode
from latentwrap.pixels import FrameSpec

FRAME = FrameSpec(height=4, width=6, source_height=40, source_width=60)


def make_info(space: spaces.Space | None = None, **changes: Any) -> DatasetInfo:
    values = {"env_id": "Test-v0", "frame": FRAME, "frame_skip": 2, "provenance": {"seed": 3}}
    action = ActionSpec(space or spaces.Box(-1, 3, (2,)))
    return DatasetInfo(**{**values, "action": action, **changes})


def make_episode(
    steps: int,
    *,
    seed: int = 0,
    rewards: bool = True,
    terminated: bool = False,
    states: Sequence[str] = ("state",),
) -> Episode:
    rng = np.random.default_rng([seed, steps])
    return Episode(
        frames=rng.integers(0, 256, (steps + 1, *FRAME.shape), np.uint8),
        actions=rng.uniform(-1, 3, (steps, 2)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32) if rewards else None,
        terminated=terminated,
        truncated=not terminated,
        states={name: rng.normal(size=(steps + 1, 3)).astype(np.float32) for name in states},
    )


def write_dataset(path: Path, lengths: Sequence[int], **kwargs: Any) -> list[Episode]:
    """Write episodes of so many transitions and return them."""
    episodes = [make_episode(steps, seed=i, **kwargs) for i, steps in enumerate(lengths)]
    with DatasetWriter(path, make_info()) as writer:
        for episode in episodes:
            writer.add(episode)
    return episodes


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a file as a careless program would."""
    with h5py.File(path, "r+") as file:
        change(file)


def replace_column(path: Path, name: str, values: Any) -> None:
    """Give a column other values, shape and dtype."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    edit(path, change)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def assert_same_episode(found: Episode, expected: Episode) -> None:
    assert (found.terminated, found.truncated) == (expected.terminated, expected.truncated)
    assert found.states.keys() == expected.states.keys()
    assert found.vectors.keys() == expected.vectors.keys()
    pairs = [(found.frames, expected.frames), (found.actions, expected.actions)]
    pairs += [(found.states[name], expected.states[name]) for name in expected.states]
    pairs += [(found.vectors[name], expected.vectors[name]) for name in expected.vectors]
    if expected.rewards is not None:
        assert found.rewards is not None
        pairs.append((found.rewards, expected.rewards))
    else:
        assert found.rewards is None
    for have, want in pairs:
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)
