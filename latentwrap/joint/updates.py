"""Updates of model and agent from one replay."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latentwrap.agents.learner import Learner
from latentwrap.agents.replay import Batch
from latentwrap.agents.rescaling import Rescaling
from latentwrap.joint.beliefs import ReplayFilter
from latentwrap.joint.config import JointConfig
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.joint.view import AgentView
from latentwrap.models import LatentModel, LatentNormalizer
from latentwrap.training.recipes import TrainingConfig
from latentwrap.training.updater import ModelUpdater
from latentwrap.types import AnyArray, FloatArray, IntArray
from latentwrap.wrappers.following import History

_FRAMES_SHOWN = 1000
_ROWS_MEASURED = 10_000


class JointUpdates:
    """Lets a model and an agent learn from the same replay.

    Args:
        model: learns, unless it is frozen.
        updater: descends its loss.
        training: windows and batches of the model.
        replay: what happened so far.
        filter_: filters the replay anew.
        view: what the agent sees.
        learner: the agent.
        config: hyperparameters.
    """

    def __init__(
        self,
        model: LatentModel,
        updater: ModelUpdater,
        training: TrainingConfig,
        replay: SequenceReplay,
        filter_: ReplayFilter,
        view: AgentView,
        learner: Learner,
        config: JointConfig,
    ) -> None:
        self._model, self._updater, self._training = model, updater, training
        self._replay, self._filter = replay, filter_
        self._view, self._learner, self._config = view, learner, config

    def show_data(self) -> None:
        """Let a new model take means and scales from what happened so far."""
        rows = self._replay.rows()
        shown = rows[:: max(1, len(rows) // _FRAMES_SHOWN)]
        self._model.fit_frames(torch.from_numpy(self._replay.frames(shown)))
        taken = np.concatenate([each.rows[:-1] for each in self._replay.episodes()])
        rewards = self._replay.rewards(taken).astype(np.float64)
        self._model.fit_rewards(float(rewards.mean()), float(rewards.std()))
        if self._model.vector_spec.size:
            vectors = self._replay.vectors(rows).astype(np.float64)
            self._model.vector_normalizer = _statistics(vectors)

    def update_model(self) -> dict[str, Tensor]:
        """One update of the model; what it saw of its windows renews their beliefs."""
        rows = self._replay.draw_windows(self._training.batch_size, self._training.window)
        loss = self._updater.update(self._replay.windows(rows))
        if not self._config.fresh:
            # The features are those of the weights before this very update.
            self._filter.refresh(rows, loss.features)
        return {f"model_{name}": term for name, term in loss.terms.items()}

    def update_agent(self) -> dict[str, Tensor]:
        """One update of actor, critics and temperature."""
        rows = self._replay.draw(self._config.batch_size)
        return self._learner.update(self.batch(rows))

    def rescale(self) -> None:
        """Measure the latents of the replay anew, and let the agent see them in that scale."""
        rows = self._replay.rows()
        beliefs = self._replay.beliefs(rows[:: max(1, len(rows) // _ROWS_MEASURED)])
        scale = _statistics(self._model.latent(beliefs).double().cpu().numpy())
        self._model.normalizer = scale
        if self._view.standardizes:
            self._learner.rescale(Rescaling.between(self._view.scale, scale))
            self._view.rescale(scale)

    def batch(self, rows: IntArray) -> Batch:
        """The transitions that led to rows of the replay, int64 (B,), as the agent sees them."""
        if self._config.fresh:
            steps = max(self._config.burn_in, self._config.history)
            self._filter.refresh(self._replay.windows_before(rows, steps))
        before = self._replay.before(rows, 1)
        return Batch(
            observation=self._observe(before),
            action=self._on_device(self._actions(before)),
            reward=self._on_device(self._replay.rewards(before)),
            next_observation=self._observe(rows),
            terminated=self._on_device(self._replay.terminated(before)),
        )

    def _observe(self, rows: IntArray) -> Tensor:
        history = self._history(rows) if self._view.with_history else None
        return self._view.observe(self._replay.beliefs(rows), self._replay.vectors(rows), history)

    def _history(self, rows: IntArray) -> History:
        windows = self._replay.windows_before(rows, self._config.history - 1)
        before, after = windows[:, :-1], windows[:, 1:]
        actions = self._replay.actions(before.reshape(-1)).reshape(*before.shape, -1)
        # A row that is repeated stands for frames before the episode.
        known = np.where((before == after)[..., None], np.float32(0), actions)
        return History(self._replay.features(windows), self._on_device(known))

    def _actions(self, rows: IntArray) -> FloatArray:
        """As the learner takes them: scaled to [-1, 1], or the index of a discrete one."""
        encoded = self._replay.actions(rows)
        if self._replay.spec.action.is_discrete:
            encoded = encoded.argmax(axis=1, keepdims=True).astype(np.float32)
        return encoded

    def _on_device(self, array: FloatArray) -> Tensor:
        return torch.from_numpy(array).to(self._learner.device)


def _statistics(rows: AnyArray) -> LatentNormalizer:
    """Over rows float64 (N, k)."""
    return LatentNormalizer(
        rows.mean(axis=0).astype(np.float32), rows.std(axis=0).astype(np.float32)
    )
