"""Experience in a dataset, as transitions that an agent can learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentwrap.agents.sac import SAC
from latentwrap.datasets import Dataset
from latentwrap.errors import DatasetError
from latentwrap.progress import bar
from latentwrap.training.statistics import filter_episodes
from latentwrap.types import FloatArray
from latentwrap.wrappers import LatentObservation


def remember_dataset(
    agent: SAC, env: LatentObservation, dataset: Dataset, *, show_progress: bool = False
) -> int:
    """Filter every episode of a dataset and put its transitions into the agent's replay.

    The pretraining data has been paid for already, rewards included; an agent that starts with
    it depends less on where its own first steps happen to lead.

    Args:
        agent: acts in `env`.
        env: its model filters; latents are means, standardised as `env` does.
        dataset: of the same frames, actions and frame skip, with rewards.
        show_progress: draw a progress bar on standard error.

    Returns:
        How many transitions were added.

    Raises:
        DatasetError: the dataset has no rewards, or does not fit the model.

    Example:
        >>> data = Dataset("car.h5")  # doctest: +SKIP
        >>> remember_dataset(agent, env, data)  # doctest: +SKIP
        20000
    """
    if dataset.rewards is None:
        raise DatasetError(f"An agent learns from rewards, {dataset.name} has none: leave it out.")
    if dataset.info.frame_skip != env.frame_skip:
        raise DatasetError(
            f"{dataset.name} has frame skip {dataset.info.frame_skip}, the environment "
            f"{env.frame_skip}: collect it anew or leave it out."
        )
    numbers = np.arange(dataset.num_episodes)
    series = filter_episodes(env.model, dataset, numbers)
    with bar("Filtering episodes", dataset.num_episodes, show=show_progress) as progress:
        for number, raw in zip(numbers, series, strict=True):
            start = dataset.starts[number]
            rows = slice(start, start + dataset.lengths[number])
            steps = slice(rows.start, rows.stop - 1)
            agent.remember(
                env.compose(raw, _vectors(dataset, env.vector_names, rows)),
                dataset.actions[steps],
                dataset.rewards[steps],
                terminated=bool(dataset.terminations[steps].any()),
            )
            progress.advance()
    return dataset.num_transitions


def _vectors(dataset: Dataset, names: Sequence[str], rows: slice) -> FloatArray:
    """Some vectors of some rows, joined; float32 (N, V)."""
    missing = [name for name in names if name not in dataset.vectors]
    if missing:
        raise DatasetError(
            f"The environment observes the vector {missing[0]!r}, {dataset.name} has none: collect "
            f"it with --vector-key {missing[0]}, or leave it out."
        )
    nothing = np.zeros((rows.stop - rows.start, 0), np.float32)
    return np.concatenate([nothing, *(dataset.vectors[name][rows] for name in names)], axis=1)
