"""Writers of the formats that `latentwrap import` reads, after their published layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from latentwrap_test_counter import counting_episode

from latentwrap.datasets import Episode

LENGTHS = (5, 1, 9)
"""Transitions of the episodes that `counted` makes."""

ENDS = (True, False, True)
"""Which of them terminate."""


def counted(lengths: Sequence[int] = LENGTHS, *, size: int = 64) -> list[Episode]:
    """Episodes that show their steps and actions."""
    ends = [ENDS[i % len(ENDS)] for i in range(len(lengths))]
    return [
        counting_episode(steps, seed, size=size, terminated=end)
        for seed, (steps, end) in enumerate(zip(lengths, ends, strict=True))
    ]


def rows_of(episodes: Sequence[Episode], *, last: Any = 0) -> dict[str, np.ndarray]:
    """Flat columns of one row for each frame; the last row of each holds an action of no effect."""
    pad = np.full((1, 1), last, np.float32)
    return {
        "frames": np.concatenate([e.frames for e in episodes]),
        "actions": np.concatenate([np.concatenate([e.actions, pad]) for e in episodes]),
        "rewards": np.concatenate(
            [[*(e.rewards if e.rewards is not None else []), -9] for e in episodes]
        ),
        "ends": np.concatenate([[*[False] * len(e.actions), True] for e in episodes]),
        "terminated": np.concatenate([[*[False] * len(e.actions), e.terminated] for e in episodes]),
        "steps": np.concatenate([e.states["step"] for e in episodes]),
    }


def write_d4rl(path: Path, episodes: Sequence[Episode], **changes: Any) -> Path:
    """A row for each frame; where the last action led was not stored."""
    rows = rows_of(episodes, last=0.5)
    columns = {
        "observations": rows["frames"],
        "actions": rows["actions"],
        "rewards": rows["rewards"].astype(np.float32),
        "terminals": rows["terminated"],
        "timeouts": rows["ends"] & ~rows["terminated"],
        "infos/qpos": rows["steps"].astype(np.float64),
        "infos/action_log_probs": rows["rewards"],
    }
    return write_columns(path, {**columns, **changes})


def write_d4rl_with_next(path: Path, episodes: Sequence[Episode], **changes: Any) -> Path:
    """A row for each transition, and where each of them led."""

    def joined(part: Callable[[Episode], Any]) -> np.ndarray:
        return np.concatenate([part(episode) for episode in episodes])

    steps = [np.arange(len(e.actions)) == len(e.actions) - 1 for e in episodes]
    flags = [last & e.terminated for last, e in zip(steps, episodes, strict=True)]
    columns = {
        "observations": joined(lambda e: e.frames[:-1]),
        "next_observations": joined(lambda e: e.frames[1:]),
        "actions": joined(lambda e: e.actions),
        "rewards": joined(lambda e: e.rewards)[:, None],
        "terminals": np.concatenate(flags)[:, None],
        "timeouts": (np.concatenate(steps) & ~np.concatenate(flags))[:, None],
        "infos/qpos": joined(lambda e: e.states["step"][:-1]),
    }
    return write_columns(path, {**columns, **changes})


def write_ogbench(path: Path, episodes: Sequence[Episode], **changes: Any) -> Path:
    """Compressed, with the state and action of the last row."""
    rows = rows_of(episodes, last=0.5)
    columns = {
        "observations": rows["frames"],
        "actions": rows["actions"],
        "terminals": rows["ends"],
        "qpos": rows["steps"].astype(np.float32),
        "button_states": rows["steps"].astype(np.int64),
    }
    columns = {name: c for name, c in {**columns, **changes}.items() if c is not None}
    np.savez_compressed(path, **columns)
    return path


def write_robomimic(
    path: Path, episodes: Sequence[Episode], *, next_obs: bool, env_name: str = "Lift"
) -> Path:
    """As the script that renders demonstrations writes them: two cameras, gzip."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(len(e.actions) for e in episodes)
        data.attrs["env_args"] = json.dumps({"env_name": env_name, "type": 1, "env_kwargs": {}})
        for number, episode in enumerate(episodes):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(episode.actions)
            _write_demo(demo, episode, next_obs=next_obs)
        file["mask/train"] = np.array([b"demo_0"])
    return path


def _write_demo(demo: h5py.Group, episode: Episode, *, next_obs: bool) -> None:
    steps = len(episode.actions)
    demo["actions"] = episode.actions.astype(np.float64)
    demo["rewards"] = episode.rewards
    demo["dones"] = np.arange(1, steps + 1) // steps * int(episode.terminated)
    demo["states"] = np.repeat(episode.states["step"][:-1], 3, axis=1).astype(np.float64)
    step = episode.states["step"].astype(np.float64)
    seen = {
        "agentview_image": episode.frames,
        "robot0_eye_in_hand_image": 255 - episode.frames,
        "robot0_eef_pos": np.repeat(step, 3, axis=1),
        "robot0_gripper_qpos": -np.repeat(step, 2, axis=1),
        "object": 10 * step,
    }
    for key, values in seen.items():
        demo.create_dataset(f"obs/{key}", data=values[:-1], compression="gzip")
        if next_obs:
            demo.create_dataset(f"next_obs/{key}", data=values[1:], compression="gzip")


def write_columns(path: Path, columns: dict[str, Any]) -> Path:
    """HDF5 with these columns; `None` leaves one out."""
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if values is not None:
                file[name] = values
    return path
