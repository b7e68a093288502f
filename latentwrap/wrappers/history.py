"""What the actor of SLAC sees, as published: the latest features and actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv

from latentwrap.envs.frames import FRAME, VECTORS
from latentwrap.errors import EnvironmentMismatch, LatentwrapError
from latentwrap.models import LatentModel, load_model
from latentwrap.types import AnyArray, FloatArray, Frame
from latentwrap.wrappers.frame_envs import observe_frames
from latentwrap.wrappers.history_observer import HistoryObserver


class HistoryObservation(gym.Wrapper[FloatArray, Any, Any, Any], RecordConstructorArgs):
    """Observes the features of the latest frames and the actions between them.

    That is what the published actor of SLAC (Lee et al. 2020, arXiv:1907.00953) sees. At the start
    of an episode its first frame and zero actions stand for what was not yet. Vectors of the
    environment, standardised, come before them.

    Args:
        env: a single environment, as of `LatentObservation`.
        ckpt: path of a checkpoint, or a loaded model.
        length: frames in the history.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        CheckpointError: the checkpoint is missing, foreign or damaged.
        EnvironmentMismatch: the environment does not fit it.

    Example:
        >>> import gymnasium, latentwrap
        >>> env = gymnasium.make("latentwrap/PixelPendulum-v0")
        >>> env = HistoryObservation(env, "pendulum.safetensors")  # doctest: +SKIP
        >>> env.observation_space.shape  # 8 · 128 features and 7 actions  # doctest: +SKIP
        (1031,)
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        ckpt: str | Path | LatentModel,
        *,
        length: int = 8,
        device: str = "cpu",
    ) -> None:
        recorded = None if isinstance(ckpt, LatentModel) else str(Path(ckpt).resolve())
        RecordConstructorArgs.__init__(self, ckpt=recorded, length=length, device=device)
        if length < 1:
            raise LatentwrapError(
                f"HistoryObservation requires a length of at least 1, got {length}."
            )
        if isinstance(env, VectorEnv):
            raise EnvironmentMismatch(
                "HistoryObservation requires a single environment, got a vector of them: wrap "
                "each, or use latentwrap.VectorLatentObservation."
            )
        self._rebuilds = recorded is not None
        self.model = ckpt if isinstance(ckpt, LatentModel) else load_model(ckpt, device=device)
        self._frames = observe_frames(env, self.model)
        super().__init__(cast(gym.Env[Any, Any], self._frames.env))
        self._observer = HistoryObserver(self.model, length)
        self._row: AnyArray = np.zeros(1, self._frames.dtype)
        self.observation_space = self._observer.space

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override] # as gymnasium.Wrapper does
        """The specification that rebuilds this environment; `None` with a loaded model."""
        return super().spec if self._rebuilds else None

    @property
    def model_fingerprint(self) -> str | None:
        """Identifies the model, so that an agent trained on another one is refused."""
        return self.model.fingerprint

    @property
    def frame(self) -> Frame:
        """The latest frame that the model saw, uint8 (H, W, C)."""
        latest: Frame = self._row[0][FRAME]
        return latest

    @property
    def frame_skip(self) -> int:
        """How often each action is repeated."""
        return self._frames.frame_skip

    @torch.inference_mode()
    def reconstruct(self) -> Frame:
        """The frame that the belief expects, uint8 (H, W, C)."""
        belief = self._observer.followed.belief
        expected: Frame = self.model.decode(belief)[0].cpu().numpy()
        return expected

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start an episode and a history."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(None, observation), info

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Take an action and see the frame that follows."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        seen = self._observe(np.asarray(action)[None], observation)
        return seen, float(reward), terminated, truncated, info

    def _observe(self, actions: AnyArray | None, observation: Any) -> FloatArray:
        self._row = self._frames.rows([observation])
        first = np.array([actions is None])
        seen = self._observer.step(actions, self._row[FRAME], self._row[VECTORS], first=first)
        observed: FloatArray = seen[0]
        return observed
