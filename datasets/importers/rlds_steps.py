"""RLDS: what the steps of an episode mean, whoever reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from latentwrap.actions import ActionSpec
from latentwrap.datasets.importers.acting import stored_actions
from latentwrap.datasets.importers.bounds import check_frames
from latentwrap.datasets.importers.observing import Observations, join_frames
from latentwrap.datasets.importers.rows import CutEpisode, episode_of_rows
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray, Frames

_BLOCK = 32
"""Steps whose images are in memory at a time."""


@dataclass
class _Columns:
    """What has been read of an episode, block by block."""

    frames: list[Frames] = field(default_factory=list)
    vectors: list[Mapping[str, FloatArray]] = field(default_factory=list)
    actions: list[AnyArray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


def episode_of_steps(
    steps: Iterable[Mapping[str, Any]],
    seen: Observations,
    action: ActionSpec,
    action_keys: Sequence[str],
    what: str,
) -> CutEpisode:
    """An episode of RLDS steps.

    Step t holds what was observed, the action taken then, and its reward. In the last step of an
    episode only the observation means anything: its action and reward are padding, and
    `is_terminal` says whether nothing could follow.

    Args:
        steps: with NumPy arrays, an observation that is an image or a flat Dict.
        seen: makes frames and vectors of them.
        action: the action space.
        action_keys: as of `action_of`.
        what: the source, for messages.

    Raises:
        DatasetError: an episode without steps.
    """
    columns, rest, terminal = _Columns(), iter(steps), False
    while block := list(islice(rest, _BLOCK)):
        observed = _observed(block, seen)
        columns.frames.append(seen.frames(observed))
        check_frames(_BLOCK * len(columns.frames), columns.frames[0][0].nbytes, what)
        columns.vectors.append(seen.vector_columns(observed))
        columns.actions += [action_of(step["action"], action_keys) for step in block]
        if "reward" in block[0]:
            columns.rewards += [float(np.asarray(step["reward"]).reshape(-1)[0]) for step in block]
        terminal = bool(block[-1].get("is_terminal", False))
    if not columns.frames:
        raise DatasetError(f"{what} holds an episode without steps: get it anew.")
    names = columns.vectors[0]
    return episode_of_rows(
        join_frames(columns.frames),
        stored_actions(action, np.stack(columns.actions)[:-1]),
        np.array(columns.rewards[:-1], np.float32) if columns.rewards else None,
        terminated=terminal,
        vectors={name: np.concatenate([part[name] for part in columns.vectors]) for name in names},
    )


def action_of(action: Any, keys: Sequence[str]) -> AnyArray:
    """One action as a vector; of a Dict, its entries `keys` one after the other.

    >>> action_of({"turn": np.float32([0.5, 1]), "grip": np.float32(0)}, ["grip", "turn"])
    array([0. , 0.5, 1. ], dtype=float32)
    """
    if not keys:
        return np.asarray(action).reshape(-1)
    return np.concatenate([np.asarray(action[key]).reshape(-1) for key in keys])


def _observed(steps: list[Mapping[str, Any]], seen: Observations) -> Any:
    """The observations of some steps as columns; only those that are needed."""
    observations = [step["observation"] for step in steps]
    names = (*seen.cameras, *seen.vectors.names)
    if not names:
        return np.stack(observations)
    return {name: np.stack([each[name] for each in observations]) for name in names}
