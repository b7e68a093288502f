"""Updates of model and agent from one replay."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from latentwrap.agents.batch import Batch
from latentwrap.agents.learner import Learner
from latentwrap.agents.rescaling import Rescaling
from latentwrap.devices import to_device
from latentwrap.errors import DatasetError
from latentwrap.joint.beliefs import Filtered, ReplayFilter, replayed_history
from latentwrap.joint.config import JointConfig
from latentwrap.joint.sequences import SequenceReplay
from latentwrap.joint.view import AgentView
from latentwrap.models import map_belief
from latentwrap.training.statistics import statistics_of
from latentwrap.training.updater import ModelUpdater
from latentwrap.types import FloatArray, IntArray

_FRAMES_SHOWN = 1000
_ROWS_MEASURED = 10_000


class JointUpdates:
    """Lets a model and an agent learn from the same replay.

    Args:
        updater: of the model.
        replay: what happened so far.
        filter_: filters the replay anew.
        view: what the agent sees.
        learner: the agent.
        config: hyperparameters.
    """

    def __init__(
        self,
        updater: ModelUpdater,
        replay: SequenceReplay,
        filter_: ReplayFilter,
        view: AgentView,
        learner: Learner,
        config: JointConfig,
    ) -> None:
        self._model, self._updater, self._training = updater.model, updater, updater.config
        self._replay, self._filter = replay, filter_
        self._view, self._learner, self._config = view, learner, config

    def show_data(self) -> None:
        """Let a new model take means and scales from what happened so far."""
        rows = self._replay.rows()
        shown = _spread(rows, _FRAMES_SHOWN)
        frames = torch.from_numpy(self._replay.frames(shown))
        self._model.fit_frames(to_device(frames, self._model.device))
        taken = np.concatenate([each.rows[:-1] for each in self._replay.episodes()])
        rewards = self._replay.rewards(taken).astype(np.float64)
        self._model.fit_rewards(float(rewards.mean()), float(rewards.std()))
        if self._model.vector_spec.size:
            vectors = self._replay.vectors(rows)
            self._model.vector_normalizer = statistics_of([vectors], vectors.shape[1])

    def check_windows(self) -> None:
        """Refuse a replay that the model cannot learn from.

        Raises:
            DatasetError: no episode is as long as a window.
        """
        window, longest = self._training.window, self._replay.longest()
        if longest < window:
            mend = f"set a smaller one, model.window={longest} or less"
            raise DatasetError(
                f"The model learns from windows of {window} actions, the longest episode so far "
                f"has {longest}: {mend if longest else 'let the agent act first'}."
            )

    def update_model(self, *, renew: bool = True) -> dict[str, Tensor]:
        """One update of the model, or none where episodes have become shorter than a window.

        Args:
            renew: let what it saw of its windows renew the beliefs that the replay keeps; off where
                all of them are about to be filtered anew.
        """
        window = self._training.window
        rows = self._replay.draw_windows(self._training.batch_size, window)
        if rows is None:
            # The same words each time, so that they are shown once.
            warnings.warn(
                f"No episode in the replay is as long as the model's windows of {window} actions "
                "any more, so the model stays as it is: to let it go on, resume the run with a "
                "smaller model.window.",
                stacklevel=2,
            )
            return {}
        loss = self._updater.update(self._replay.windows(rows))
        if renew and not self._config.fresh:
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
        if not len(rows):
            return
        beliefs = self._replay.beliefs(_spread(rows, _ROWS_MEASURED))
        latents: FloatArray = self._model.latent(beliefs).cpu().numpy()
        scale = statistics_of([latents], latents.shape[1])
        self._model.normalizer = scale
        if self._view.standardizes:
            self._learner.rescale(Rescaling.between(self._view.scale, scale))
            self._view.rescale(scale)

    def batch(self, rows: IntArray) -> Batch:
        """The transitions that led to rows of the replay, int64 (B,), as the agent sees them."""
        windows = self._replay.windows_before(rows, self._steps)
        made = self._filter.refresh(windows) if self._config.fresh else self._kept(windows)
        before = windows[:, -2]
        return Batch.of(
            observation=self._observe(windows[:, :-1], made, -2),
            action=self._on_device(self._actions(before)),
            reward=self._on_device(self._replay.rewards(before)),
            next_observation=self._observe(windows[:, 1:], made, -1),
            terminated=self._on_device(self._replay.terminated(before)),
        )

    @property
    def _steps(self) -> int:
        """Actions in a window of which the agent sees the last."""
        seen = self._config.history if self._view.with_history else 1
        return max(seen, self._config.burn_in) if self._config.fresh else seen

    def _kept(self, windows: IntArray) -> Filtered:
        """What the replay keeps; of beliefs only the last two."""
        pairs = windows[:, -2:]
        beliefs = map_belief(
            lambda tensor: tensor.unflatten(0, pairs.shape),
            self._replay.beliefs(pairs.reshape(-1)),
        )
        return Filtered(self._replay.features(windows), beliefs)

    def _observe(self, rows: IntArray, made: Filtered, place: int) -> Tensor:
        """What the agent sees at the end of windows of rows (B, L), `place` in what was made."""
        beliefs = map_belief(lambda tensor: tensor[:, place], made.beliefs)
        history = None
        if self._view.with_history:
            length = self._config.history
            first = made.features.shape[1] + place + 1 - length
            features = made.features[:, first : first + length]
            history = replayed_history(self._replay, rows[:, -length:], features)
        return self._view.observe(beliefs, self._replay.vectors(rows[:, -1]), history)

    def _actions(self, rows: IntArray) -> FloatArray:
        """As the learner takes them: scaled to [-1, 1], or the index of a discrete one."""
        encoded = self._replay.actions(rows)
        if self._replay.spec.action.is_discrete:
            encoded = encoded.argmax(axis=1, keepdims=True).astype(np.float32)
        return encoded

    def _on_device(self, array: FloatArray) -> Tensor:
        return to_device(array, self._learner.device)


def _spread(rows: IntArray, count: int) -> IntArray:
    """So many of them, evenly spread, or all; no stride that episodes could be in step with."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    chosen: IntArray = rows[places]
    return chosen
