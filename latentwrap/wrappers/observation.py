"""The observation wrapper for a single environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs

from latentwrap.envs.making import FrameSkip, FrameSource
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.models.normalizer import CLIP
from latentwrap.pixels import fit_frame
from latentwrap.types import FloatArray, Frame
from latentwrap.wrappers.filter import LatentFilter


class LatentObservation(gym.ObservationWrapper[FloatArray, Any, Any], RecordConstructorArgs):
    """Observes the filtered latent state of a pretrained model instead of pixels.

    At `reset` a new belief starts from the first frame; at `step` the belief is updated with
    the very action that was taken and the frame that followed, so the observation also knows
    what one frame hides, such as velocities. The frame is the environment's observation where
    that is an image, else what it renders.

    Args:
        env: an environment with an image as observation, or with `render_mode="rgb_array"`.
        ckpt: path of a checkpoint, recorded absolute so that `env.spec` rebuilds this
            environment; or a loaded model, and then the environment has no spec.
        device: `cpu`, `cuda` or `auto`.
        deterministic: observe the mean of the belief; else a sample, drawn from a generator
            that `reset(seed=...)` seeds.
        normalize: standardise with the pretraining statistics and clip to ±10; else the
            observation is the raw latent and its Box is unbounded.
        frame_skip: how often each action is repeated, rewards summed; `None` does as the
            pretraining data did.
        stretch: accept images of another aspect ratio than the pretraining data's.

    Raises:
        CheckpointError: the checkpoint is missing, foreign or damaged.
        EnvironmentMismatch: the environment gives no image, or its image or actions are not
            those that the model was trained on.

    Example:
        >>> import gymnasium as gym
        >>> from latentwrap import LatentObservation
        >>> env = gym.make("CarRacing-v3")  # doctest: +SKIP
        >>> env = LatentObservation(env, "car.safetensors")  # doctest: +SKIP
        >>> env.observation_space  # doctest: +SKIP
        Box(-10.0, 10.0, (160,), float32)

    Change log:
        * v0.1.0 - Initially added
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        ckpt: str | Path | LatentModel,
        *,
        device: str = "cpu",
        deterministic: bool = True,
        normalize: bool = True,
        frame_skip: int | None = None,
        stretch: bool = False,
    ) -> None:
        recorded = None if isinstance(ckpt, LatentModel) else str(Path(ckpt).resolve())
        RecordConstructorArgs.__init__(
            self,
            ckpt=recorded,
            device=device,
            deterministic=deterministic,
            normalize=normalize,
            frame_skip=frame_skip,
            stretch=stretch,
        )
        self.filter = LatentFilter(
            ckpt, device=device, deterministic=deterministic, normalize=normalize
        )
        skip = _checked_skip(frame_skip, self.filter.model.frame_skip)
        super().__init__(env)
        # Repeated inside, so that the wrapped environment stays what the user passed.
        self._repeated = FrameSkip(env, skip)
        self._source = FrameSource(env)
        self._rebuilds = recorded is not None
        self._stretch = stretch
        self._image_shape: tuple[int, ...] | None = None
        self.model.action_spec.check_environment(env.action_space)
        if self._source.from_observation:
            self._check_image(env.observation_space.shape or ())
        bound = CLIP if normalize else np.inf
        self.observation_space = gym.spaces.Box(
            -bound, bound, (self.filter.latent_size,), np.float32
        )
        self._frame: Frame | None = None

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override] # as gymnasium.Wrapper does
        """The specification that rebuilds this environment; `None` with a loaded model."""
        return super().spec if self._rebuilds else None

    @property
    def model(self) -> LatentModel:
        """The model that filters."""
        return self.filter.model

    @property
    def model_fingerprint(self) -> str | None:
        """Identifies the model, so that an agent trained on another one is refused."""
        checkpoint = self.filter.model.checkpoint
        return None if checkpoint is None else checkpoint.fingerprint

    @property
    def frame_skip(self) -> int:
        """How often each action is repeated."""
        return self._repeated.skip

    @property
    def frame(self) -> Frame:
        """The frame behind the latest observation, uint8 (H, W, C)."""
        if self._frame is None:
            raise EnvironmentMismatch("There is no frame yet: call reset() first.")
        return self._frame

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start an episode and a new belief.

        Args:
            seed: seeds the environment, and the noise of a sampled belief; without one the
                noise goes on.
            options: passed on.

        Returns:
            The latent of the first frame, float32 (d,), and the environment's info.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self.filter.seed(seed)
        return self.filter.reset(self._look(observation)), info

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Take an action and filter the frame that follows; the last frame included.

        Returns:
            Latent float32 (d,), reward, terminated, truncated, info.
        """
        observation, reward, terminated, truncated, info = self._repeated.step(action)
        latent = self.filter.step(action, self._look(observation))
        return latent, reward, terminated, truncated, info

    def observation(self, observation: Any) -> FloatArray:  # noqa: ARG002
        """Not offered: a latent depends on the action too.

        Raises:
            EnvironmentMismatch: always.
        """
        raise EnvironmentMismatch(
            "LatentObservation cannot map one observation alone, for a latent depends on the "
            "episode so far: use reset and step, or latentwrap.LatentFilter."
        )

    def _look(self, observation: Any) -> Frame:
        image = self._source.image(observation)
        if np.shape(image) != self._image_shape:
            self._check_image(np.shape(image))
        self._frame = fit_frame(image, self.model.frame_spec)
        return self._frame

    def _check_image(self, shape: tuple[int, ...]) -> None:
        self.model.frame_spec.check_source(shape, stretch=self._stretch)
        self._image_shape = shape


def _checked_skip(asked: int | None, trained: int) -> int:
    skip = trained if asked is None else asked
    if skip < 1:
        raise EnvironmentMismatch(f"frame_skip requires a number of at least 1, got {skip}.")
    return skip
