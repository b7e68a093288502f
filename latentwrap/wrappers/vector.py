"""The observation wrapper for vector environments."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, VectorEnv, VectorWrapper

from latentwrap.envs import MAKE_LATENT_VEC
from latentwrap.envs.autoreset import Autoreset, autoreset_of
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.types import AnyArray, BoolArray, FloatArray
from latentwrap.wrappers.diagnosis import INFO, Diagnosis
from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.observer import LatentObserver, split_observations
from latentwrap.wrappers.workers import (
    GymnasiumWorkers,
    check_frame_skip,
    made_frames,
    refuse_latents,
)


class VectorLatentObservation(VectorWrapper):
    """Observes the filtered latent states of several environments, with one call of the model.

    Environments that observe images, or are wrapped in `latentwrap.RenderFrame` where they run,
    never load the model. All three autoreset modes are understood:

    * NEXT_STEP: the step after an end is the reset; its action, which the environment ignores,
      never reaches the filter.
    * SAME_STEP: `infos["final_obs"]` is the latent of the last frame, from the belief before the
      reset and the last action.
    * DISABLED: `reset(options={"reset_mask": mask})` begins new beliefs where the mask is true,
      and leaves all others bit for bit.

    An environment without `metadata["autoreset_mode"]`, as Gymnasium 1.0 has them, is taken for
    NEXT_STEP, with a warning.

    Args:
        env: a vector environment with images in its observations.
        ckpt: path of a checkpoint, or a loaded model.
        device: `cpu`, `cuda` or `auto`.
        deterministic: observe the means of the beliefs; else samples, each from a generator of
            its own that `reset(seed=...)` seeds with `seed + i`.
        normalize: standardise with the pretraining statistics and clip to ±10.
        frame_skip: how often the workers repeat each action, as `latentwrap.FrameSkip` does;
            `None` asks them.
        stretch: accept images of another aspect ratio than the pretraining data's.
        image_keys, vector_keys, layout: as of `LatentObservation`; `None` takes what `RenderFrame`
            observes.
        diagnostics: as of `LatentObservation`: `infos["latentwrap"]` holds arrays.
        backend: as of `LatentObservation`.

    Attributes:
        filter: the filter, one stream for each environment.

    Raises:
        CheckpointError: the checkpoint is missing, foreign or damaged.
        EnvironmentMismatch: the environments give no images, or other images, vectors, actions or
            another frame skip than those that the model was trained on.

    Example:
        >>> import gymnasium as gym
        >>> from latentwrap import RenderFrame, VectorLatentObservation
        >>> envs = gym.make_vec(  # doctest: +SKIP
        ...     "CarRacing-v3",
        ...     num_envs=8,
        ...     vectorization_mode="async",
        ...     wrappers=[RenderFrame],
        ... )
        >>> envs = VectorLatentObservation(envs, "car.safetensors")  # doctest: +SKIP
        >>> envs.reset(seed=0)[0].shape  # doctest: +SKIP
        (8, 160)

    Change log:
        * v0.1.0 - Initially added
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
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
        super().__init__(env)
        self.filter = LatentFilter(
            ckpt,
            env.num_envs,
            device=device,
            deterministic=deterministic,
            normalize=normalize,
            stretch=stretch,
            diagnostics=diagnostics,
            backend=backend,
        )
        workers = GymnasiumWorkers(env)
        refuse_latents(workers)
        self.model.action_spec.check_environment(env.single_action_space)
        check_frame_skip(workers, self.model.frame_skip, declared=frame_skip)
        self._observer = LatentObserver(
            self.filter,
            env.single_observation_space,
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
            made=made_frames(workers),
        )
        self._autoreset = autoreset_of(env)
        self._ended = np.zeros(env.num_envs, bool)
        self._sent: AnyArray = np.zeros(0)
        self.single_observation_space = self._observer.space
        self.observation_space = gym.vector.utils.batch_space(self._observer.space, env.num_envs)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override] # as gymnasium's own wrappers do
        """What rebuilds it with `gymnasium.make_vec`, if that made it by a registered id."""
        spec, checkpoint = copy.deepcopy(self.env.spec), self.model.checkpoint
        if spec is None or spec.vector_entry_point != MAKE_LATENT_VEC or checkpoint is None:
            return None
        spec.kwargs["ckpt"] = checkpoint.path
        return spec

    @property
    def model(self) -> LatentModel:
        """The model that filters."""
        return self.filter.model

    @property
    def model_fingerprint(self) -> str | None:
        """Identifies the model, so that an agent trained on another one is refused."""
        return self.model.fingerprint

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start episodes and new beliefs.

        Args:
            seed: of the environments and of the noise of sampled beliefs; a number for
                the first, with those that follow for the others, or one for each.
            options: passed on; `reset_mask`, bool (num_envs,), says which to reset.

        Returns:
            Latents of all environments, float32 (num_envs, d), and their infos.
        """
        # Read before it is passed on: Gymnasium takes it out of the options.
        mask = _reset_mask(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._seed(seed, mask)
        self._ended = self._ended & ~mask
        return self._observer.reset(observations, mask), self._informed(infos)

    def step(
        self, actions: Any
    ) -> tuple[FloatArray, AnyArray, BoolArray, BoolArray, dict[str, Any]]:
        """Take an action in every environment and filter the frames that follow.

        Returns:
            Latents float32 (num_envs, d), rewards, terminations, truncations, infos.
        """
        return self._filter_step(actions, self.env.step(actions))

    @property
    def overlaps(self) -> bool:
        """Whether the environments step between `step_async` and `step_wait`."""
        return isinstance(self.env, AsyncVectorEnv)

    def step_async(self, actions: Any) -> None:
        """Let an `AsyncVectorEnv` take an action in every environment, without waiting for it.

        Raises:
            EnvironmentMismatch: the environments step in this process.
        """
        if not self.overlaps:
            raise EnvironmentMismatch(
                f"step_async requires a gymnasium.vector.AsyncVectorEnv, got {self.env}: use step."
            )
        self._sent = np.array(actions)
        self.env.step_async(self._sent)  # type: ignore[attr-defined]

    def step_wait(self) -> tuple[FloatArray, AnyArray, BoolArray, BoolArray, dict[str, Any]]:
        """What came of `step_async`, as `step` returns it."""
        return self._filter_step(self._sent, self.env.step_wait())  # type: ignore[attr-defined]

    def _filter_step(
        self, actions: Any, stepped: tuple[Any, ...]
    ) -> tuple[FloatArray, AnyArray, BoolArray, BoolArray, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = stepped
        ended = np.logical_or(terminated, truncated)
        if self._autoreset is Autoreset.SAME_STEP and ended.any():
            latents, infos = self._finish(actions, observations, infos, ended)
        else:
            first = self._ended if self._autoreset is Autoreset.NEXT_STEP else None
            latents = self._observer.step(actions, observations, first=first)
        self._ended = ended
        return latents, rewards, terminated, truncated, self._informed(infos)

    def imagine(self, actions: Sequence[Any] | AnyArray) -> FloatArray:
        """Predict the latents after some actions; nothing moves.

        Args:
            actions: T of them, each with one for every environment.

        Returns:
            float32 (num_envs, T, d), without vectors.
        """
        imagined = self.filter.imagine(actions)
        return imagined if self.num_envs > 1 else imagined[None]

    def compose(self, latents: FloatArray, vectors: FloatArray) -> FloatArray:
        """What is observed for raw latents (N, d) and vectors (N, V)."""
        return self._observer.compose(latents, vectors)

    def _finish(
        self, actions: Any, observations: Any, infos: dict[str, Any], ended: BoolArray
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Filter the last frames of some episodes, then begin those that follow."""
        rows = split_observations(observations, self.num_envs)
        last = infos.get("final_obs")
        if last is None:
            raise EnvironmentMismatch(
                "A SAME_STEP vector environment requires infos['final_obs'] when an episode ends, "
                "got none: without it the last frame is lost."
            )
        reached = [last[i] if ended[i] else rows[i] for i in range(self.num_envs)]
        latents = self._observer.step(actions, reached)
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended):
            final[i] = latents[i].copy()
        infos = {**infos, "final_obs": final}
        if self.filter.diagnosis is not None:
            before = infos.get("final_info", {})
            infos["final_info"] = {**before, **_described(self.filter.diagnosis, ended)}
        return self._observer.reset(rows, ended), infos

    def _seed(self, seed: int | Sequence[int | None] | None, mask: BoolArray) -> None:
        if seed is None:
            return
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        for stream, each in enumerate(seeds):
            if each is not None and mask[stream]:
                self.filter.seed(each, stream)

    def _informed(self, infos: dict[str, Any]) -> dict[str, Any]:
        diagnosis = self.filter.diagnosis
        if diagnosis is None:
            return infos
        return {**infos, **_described(diagnosis, np.ones(self.num_envs, bool))}


def _reset_mask(options: dict[str, Any] | None, num: int) -> BoolArray:
    """Which environments are reset: all, unless the options hold a mask."""
    mask = (options or {}).get("reset_mask")
    return np.ones(num, bool) if mask is None else np.array(mask, bool)


def _described(diagnosis: Diagnosis, mask: BoolArray) -> dict[str, Any]:
    """Arrays and masks as Gymnasium lays out infos, `_name` saying whose value counts."""
    columns = {
        "reconstruction_error": diagnosis.reconstruction_error,
        "kl": diagnosis.kl,
        "belief_std": diagnosis.belief_std,
    }
    inner = {name: column.copy() for name, column in columns.items()}
    return {INFO: {**inner, **{f"_{name}": mask.copy() for name in inner}}, f"_{INFO}": mask.copy()}
