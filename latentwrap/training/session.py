"""What a pretraining run is made of: model, windows and trainer, from data and a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentwrap.allocator import keep_freed_memory
from latentwrap.datasets import (
    Dataset,
    WindowLoader,
    WindowSampler,
    split_episodes,
)
from latentwrap.devices import resolve_device
from latentwrap.errors import CheckpointError, ConfigError
from latentwrap.models import LatentModel, build_model, load_model
from latentwrap.seeding import child_seeds, numpy_generator, torch_generator
from latentwrap.training.memory import MemoryEstimate, estimate_memory
from latentwrap.training.processes import Processes
from latentwrap.training.recipes import Recipe
from latentwrap.training.statistics import vector_statistics, vector_words
from latentwrap.training.trainer import Trainer
from latentwrap.training.updater import to_tensors
from latentwrap.types import AnyArray, FloatArray, IntArray

_FRAMES_SHOWN = 1000


@dataclass(frozen=True)
class Loading:
    """How frames reach the model.

    Attributes:
        memory: most bytes of frames that this machine may hold; more are read from the files while
            the model learns.
        workers: processes that read them, for each that trains; 0 leaves it to a thread.
    """

    memory: int = 2 * 1024**3
    workers: int = 0


class Session:
    """The objects of one run, built from data, recipe and seed alone.

    Args:
        dataset: to learn from.
        recipe: what, and how.
        seed: of weights, windows, noise and held-out episodes.
        device: `auto`, `cpu` or `cuda`.
        init: a checkpoint whose weights to start from.
        loading: how frames reach the model; it changes no result.
        weights: of the dataset's files, float64 (F,), or `None`.
        processes: that train the model.
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        device: str,
        init: str | Path | None,
        loading: Loading,
        weights: AnyArray | None,
        processes: Processes,
    ) -> None:
        self.dataset, self.recipe, self.seed = dataset, recipe, seed
        self.processes, self._weights = processes, weights
        weights_seed, split_seed, window_seed, noise_seed = child_seeds(seed, 4)
        training = recipe.training
        _check_vectors(dataset, recipe)
        self._share = processes.share(training.batch_size)
        copies = processes.launch.local_count
        self._preloads = copies * dataset.frame_bytes <= loading.memory
        if self._preloads:
            dataset.preload()
        self.split = split_episodes(
            dataset,
            training.heldout_fraction,
            numpy_generator(split_seed),
            shortest=training.window,
        )
        self.sampler = self._windows(
            self.split.train, window_seed, weights=weights, share=self._share.rows
        )
        self.init = None if init is None else load_model(init)
        self.model = self._build(weights_seed, device)
        # Copying out of memory is quicker than handing the work to another thread.
        self._loader = None
        if loading.workers or not self._preloads:
            self._loader = WindowLoader(self.sampler, workers=loading.workers)
        windows = self._loader or self.sampler
        self.trainer = Trainer(
            self.model,
            windows,
            self._heldout_windows(),
            training,
            seed=noise_seed,
            processes=processes,
        )

    def identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with this one."""
        start = None if self.init is None or self.init.checkpoint is None else self.init.checkpoint
        return {
            "dataset": self.dataset.fingerprint(),
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            **({} if self._weights is None else {"mix": self._weights.tolist()}),
            "init": None if start is None else start.fingerprint,
        }

    def memory(self) -> MemoryEstimate:
        """What training will need in this process."""
        window = to_tensors(next(self.sampler.fixed(1)), self.model)
        return estimate_memory(
            self.model,
            window,
            batch_size=self._share.size,
            frames=self.dataset.frame_bytes if self._preloads else 0,
        )

    def close(self) -> None:
        """End what reads ahead."""
        if self._loader is not None:
            self._loader.close()

    def _build(self, seed: int, device: str) -> LatentModel:
        info = self.dataset.info
        options = self.recipe.model.model_dump()
        if self.dataset.rewards is None:
            options["rewards"] = False
        model = build_model(
            self.recipe.kind,
            options,
            frame_spec=info.frame,
            action_spec=info.action,
            frame_skip=info.frame_skip,
            vector_spec=info.vectors,
            generator=torch_generator(seed),
        )
        model.vector_normalizer = vector_statistics(self.dataset, self.split.train)
        if self.init is not None:
            _copy_weights(self.init, model)
        else:
            self._show_data(model)
        where = resolve_device(self.processes.device(device))
        if where.type == "cpu":
            keep_freed_memory()
        return model.to(where)

    def _show_data(self, model: LatentModel) -> None:
        """Let the model take means and scales from the training episodes."""
        frames = self.dataset.spread_frames(self.split.train, _FRAMES_SHOWN)
        model.fit_frames(torch.from_numpy(frames))
        if self.dataset.rewards is not None:
            rewards = self._training_rewards(self.dataset.rewards)
            model.fit_rewards(float(np.mean(rewards)), float(np.std(rewards)))

    def _training_rewards(self, rewards: FloatArray) -> AnyArray:
        """Rewards of the training episodes, without the padding of their last rows."""
        first, last = self.dataset.starts, self.dataset.starts + self.dataset.lengths - 1
        pieces = [rewards[first[e] : last[e]] for e in self.split.train]
        return np.concatenate(pieces).astype(np.float64)

    def _windows(
        self,
        episodes: IntArray,
        seed: int,
        *,
        weights: AnyArray | None = None,
        share: slice | None = None,
    ) -> WindowSampler:
        training = self.recipe.training
        return WindowSampler(
            self.dataset,
            episodes,
            length=training.window,
            batch_size=training.batch_size,
            generator=numpy_generator(seed),
            weights=weights,
            share=share,
        )

    def _heldout_windows(self) -> WindowSampler | None:
        return self._windows(self.split.heldout, 0) if len(self.split.heldout) else None


def _check_vectors(dataset: Dataset, recipe: Recipe) -> None:
    if recipe.model.vectors and dataset.joined_vectors is None:
        raise ConfigError(
            f"A model with vectors=True requires data with vectors, {dataset.name} has none: "
            "collect it with --vector-key, or leave the option out."
        )


def _copy_weights(source: LatentModel, target: LatentModel) -> None:
    if source.kind != target.kind:
        raise CheckpointError(
            f"The checkpoint given as init holds a {source.kind} model, a {target.kind} model is "
            f"to be trained: pass --kind {source.kind}."
        )
    if source.checkpoint is not None:
        target.action_spec.check_environment(source.action_spec.space)
    if target.sees_vectors and source.sees_vectors:
        _copy_vectors(source, target)
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip().rstrip(".")
        raise CheckpointError(
            f"The checkpoint given as init does not fit the model to train ({reason}): "
            "use its preset and options."
        ) from None


def _copy_vectors(source: LatentModel, target: LatentModel) -> None:
    """Scale vectors as the weights know them."""
    seen, found = source.vector_spec, target.vector_spec
    if seen != found:
        raise CheckpointError(
            f"The checkpoint given as init sees the vectors {vector_words(seen)}, the data has "
            f"{vector_words(found)}: collect data with the same --vector-key, in the same order."
        )
    target.vector_normalizer = source.vector_normalizer
