"""Latents in the vector environments of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentwrap.errors import MissingExtra
from latentwrap.models import LatentModel
from latentwrap.types import AnyArray, BoolArray, FloatArray
from latentwrap.wrappers.diagnosis import INFO
from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.observer import LatentObserver, split_observations
from latentwrap.wrappers.workers import check_frame_skip, made_frames, refuse_latents

try:
    from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
except ImportError:
    raise MissingExtra(
        "latentwrap.integrations.sb3 requires Stable-Baselines3: pip install stable-baselines3."
    ) from None

_LAST = "terminal_observation"


class VecLatentObservation(VecEnvWrapper):
    """Observes the filtered latent states of a `VecEnv`, with one call of the model.

    The environments, in `DummyVecEnv` or `SubprocVecEnv`, observe images or are wrapped in
    `latentwrap.RenderFrame`, and never load the model. `infos[i]["terminal_observation"]` is the
    latent of the last frame, from the belief before the reset and the last action.

    Args:
        venv: vector environment with images in its observations.
        ckpt: path of a checkpoint, or a loaded model.
        device, deterministic, normalize, frame_skip, stretch, image_keys, vector_keys, layout,
            diagnostics, backend: as of `latentwrap.VectorLatentObservation`.

    Attributes:
        filter: the filter, one stream for each environment.

    Raises:
        CheckpointError: the checkpoint is missing, foreign or damaged.
        EnvironmentMismatch: the environments do not fit the checkpoint.

    Example:
        >>> from stable_baselines3 import SAC
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> from stable_baselines3.common.vec_env import SubprocVecEnv
        >>> venv = make_vec_env(  # doctest: +SKIP
        ...     "CarRacing-v3", 8, wrapper_class=RenderFrame, vec_env_cls=SubprocVecEnv
        ... )
        >>> venv = VecLatentObservation(venv, "car.safetensors")  # doctest: +SKIP
        >>> SAC("MlpPolicy", venv).learn(100_000)  # doctest: +SKIP
    """

    def __init__(
        self,
        venv: VecEnv,
        ckpt: str | Path | LatentModel,
        *,
        device: str = "cpu",
        deterministic: bool = True,
        normalize: bool = True,
        frame_skip: int | None = None,
        stretch: bool = False,
        image_keys: Sequence[str] | None = None,
        vector_keys: Sequence[str] | None = None,
        layout: str | None = None,
        diagnostics: bool = False,
        backend: str = "torch",
    ) -> None:
        self.filter = LatentFilter(
            ckpt,
            venv.num_envs,
            device=device,
            deterministic=deterministic,
            normalize=normalize,
            stretch=stretch,
            diagnostics=diagnostics,
            backend=backend,
        )
        workers = _VecEnvWorkers(venv)
        refuse_latents(workers)
        self.filter.model.action_spec.check_environment(venv.action_space)
        check_frame_skip(workers, self.filter.model.frame_skip, declared=frame_skip)
        self._observer = LatentObserver(
            self.filter,
            venv.observation_space,
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
            made=made_frames(workers),
        )
        self._actions: AnyArray | None = None
        super().__init__(venv, observation_space=self._observer.space)

    @property
    def model_fingerprint(self) -> str | None:
        """Identifies the model, so that an agent trained on another one is refused."""
        return self.filter.model.fingerprint

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments at their next reset, and the noise of sampled beliefs now."""
        seeds: Sequence[int | None] = self.venv.seed(seed)
        for stream, each in enumerate(seeds):
            if each is not None:
                self.filter.seed(each, stream)
        return seeds

    def reset(self) -> FloatArray:
        """Start episodes and new beliefs; latents float32 (num_envs, d)."""
        latents = self._observer.reset(self.venv.reset())
        for stream, info in enumerate(self.venv.reset_infos):
            self._inform(info, stream)
        self.reset_infos = self.venv.reset_infos
        return latents

    def step_async(self, actions: AnyArray) -> None:
        """Pass the actions on, and keep them for the filter."""
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> tuple[FloatArray, AnyArray, BoolArray, list[dict[str, Any]]]:
        """Filter the frames that followed.

        Returns:
            Latents float32 (num_envs, d), rewards, dones, infos.
        """
        observations, rewards, dones, infos = self.venv.step_wait()
        rows = split_observations(observations, self.num_envs)
        ended = np.asarray(dones, bool)
        reached = [
            info[_LAST] if end else row for row, end, info in zip(rows, ended, infos, strict=True)
        ]
        latents = self._observer.step(self._actions, reached)
        for stream, info in enumerate(infos):
            self._inform(info, stream)
            if ended[stream]:
                info[_LAST] = latents[stream].copy()
        self.reset_infos = self.venv.reset_infos
        if ended.any():
            latents = self._observer.reset(rows, ended)
            for stream, info in enumerate(self.reset_infos):
                if ended[stream]:
                    self._inform(info, stream)
        return latents, rewards, dones, infos

    def _inform(self, info: dict[str, Any], stream: int) -> None:
        if self.filter.diagnosis is not None:
            info[INFO] = self.filter.diagnosis.info(stream)


class _VecEnvWorkers:
    """The environments of a `VecEnv`."""

    def __init__(self, venv: VecEnv) -> None:
        self._venv = venv

    def attributes(self, name: str) -> Sequence[Any] | None:
        if not self._venv.has_attr(name):
            return None
        values: Sequence[Any] = self._venv.get_attr(name)
        return values
