"""Experience in a dataset, as transitions that an agent can learn from."""

from __future__ import annotations

import numpy as np

from latentwrap.agents.sac import SAC
from latentwrap.datasets import Dataset
from latentwrap.errors import DatasetError
from latentwrap.progress import bar
from latentwrap.training.statistics import filter_episodes
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
        raise DatasetError(f"An agent learns from rewards, {dataset.path} has none: leave it out.")
    if dataset.info.frame_skip != env.frame_skip:
        raise DatasetError(
            f"{dataset.path} has frame skip {dataset.info.frame_skip}, the environment "
            f"{env.frame_skip}: collect it anew or leave it out."
        )
    numbers = np.arange(dataset.num_episodes)
    series = filter_episodes(env.model, dataset, numbers)
    normalizer = env.model.normalizer if env.filter.normalize else None
    with bar("Filtering episodes", dataset.num_episodes, show=show_progress) as progress:
        for number, raw in zip(numbers, series, strict=True):
            start = dataset.starts[number]
            steps = slice(start, start + dataset.lengths[number] - 1)
            agent.remember(
                raw if normalizer is None else normalizer.normalize(raw),
                dataset.actions[steps],
                dataset.rewards[steps],
                terminated=bool(dataset.terminations[steps].any()),
            )
            progress.advance()
    return dataset.num_transitions
