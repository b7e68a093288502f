"""The observation wrapper for a single environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs

from latentwrap.envs import MAKE_LATENT
from latentwrap.envs.frames import FrameSkip, Renderer
from latentwrap.envs.mujoco import Rendering
from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.types import AnyArray, FloatArray, Frame
from latentwrap.wrappers.diagnosis import INFO
from latentwrap.wrappers.filter import LatentFilter
from latentwrap.wrappers.observer import LatentObserver
from latentwrap.wrappers.workers import OneEnvironment, made_frames, refuse_latents, repeated


class LatentObservation(gym.ObservationWrapper[FloatArray, Any, Any], RecordConstructorArgs):
    """Observes the filtered latent state of a pretrained model instead of pixels.

    At `reset` a new belief starts from the first frame; at `step` the belief is updated with
    the very action that was taken and the frame that followed, so the observation also knows
    what one frame hides, such as velocities. The frame is the environment's observation where
    that is an image, else what it renders. What MuJoCo renders is drawn as for the pretraining
    data, from the same cameras; `render()` then gives this picture too.

    Args:
        env: an environment with images in its observation, or with `render_mode="rgb_array"`.
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
        image_keys: entries of a Dict observation that are images, in the order of the pretraining
            data; `None` takes its cameras, or the only image.
        vector_keys: entries of a Dict observation to standardise, clip and append to the latent;
            `None` takes those of the pretraining data.
        layout: where height, width, colours and stacked frames stand in the images, one of
            `latentwrap.pixels.LAYOUTS`; `None` tells it by their shape.
        diagnostics: put `info["latentwrap"]` with the reconstruction error and the KL of the step
            and the std of the belief, as `latentwrap.wrappers.Diagnosis` says; encodes every
            frame twice.
        backend: what filters, as of `LatentFilter`: `torch`, or `onnx` by exported graphs.

    Attributes:
        filter: the filter, whose `belief` may be saved and restored.

    Raises:
        CheckpointError: the checkpoint is missing, foreign or damaged.
        EnvironmentMismatch: the environment gives no image, or its image, vectors or actions are
            not those that the model was trained on.

    Example:
        >>> import gymnasium as gym
        >>> from latentwrap import LatentObservation
        >>> env = gym.make("CarRacing-v3")  # doctest: +SKIP
        >>> env = LatentObservation(env, "car.safetensors")  # doctest: +SKIP
        >>> env.observation_space  # doctest: +SKIP
        Box(-10.0, 10.0, (160,), float32)

    Vector version: `latentwrap.VectorLatentObservation`.

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
        image_keys: Sequence[str] | None = None,
        vector_keys: Sequence[str] | None = None,
        layout: str | None = None,
        diagnostics: bool = False,
        backend: str = "torch",
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
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
            diagnostics=diagnostics,
            backend=backend,
        )
        self.filter = LatentFilter(
            ckpt,
            device=device,
            deterministic=deterministic,
            normalize=normalize,
            stretch=stretch,
            diagnostics=diagnostics,
            backend=backend,
        )
        super().__init__(env)
        refuse_latents(OneEnvironment(env))
        skip = _checked_skip(frame_skip, self.model.frame_skip, env)
        # Repeated inside, so that the wrapped environment stays what the user passed.
        self._repeated = FrameSkip(env, skip)
        self._rebuilds = recorded is not None
        self.model.action_spec.check_environment(env.action_space)
        self._renderer = Renderer(env, Rendering.recorded(self.model.frame_spec))
        self._observer = LatentObserver(
            self.filter,
            env.observation_space,
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
            made=made_frames(OneEnvironment(env)),
            renderer=self._renderer,
        )
        self.observation_space = self._observer.space

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override] # as gymnasium.Wrapper does
        """The specification that rebuilds this environment; `None` with a loaded model."""
        spec = super().spec if self._rebuilds else None
        if spec is not None and spec.entry_point == MAKE_LATENT:
            # Gymnasium recorded the path as it was written then, and would check again outside
            # what is checked inside.
            spec.kwargs["ckpt"] = self._saved_kwargs["ckpt"]
            spec.order_enforce, spec.disable_env_checker = False, True
        return spec

    @property
    def model(self) -> LatentModel:
        """The model that filters."""
        return self.filter.model

    @property
    def model_fingerprint(self) -> str | None:
        """Identifies the model, so that an agent trained on another one is refused."""
        return self.model.fingerprint

    @property
    def frame_skip(self) -> int:
        """How often each action is repeated."""
        return self._repeated.skip

    @property
    def frame(self) -> Frame:
        """The latest frame that the model saw, uint8 (H, W, C)."""
        if self.filter.belief is None:
            raise EnvironmentMismatch("There is no frame yet: call reset() first.")
        latest: Frame = self.filter.frames[0]
        return latest

    def reconstruct(self) -> Frame:
        """The frame that the belief expects, uint8 (H, W, C)."""
        expected: Frame = self.filter.reconstruct()[0]
        return expected

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
        return self._observer.reset([observation])[0], self._informed(info)

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Take an action and filter the frame that follows; the last frame included.

        Where the observation is `None` or nothing but NaN, the belief goes on without a frame.

        Returns:
            Latent float32 (d,), reward, terminated, truncated, info.
        """
        observation, reward, terminated, truncated, info = self._repeated.step(action)
        latent = self._observer.step([action], [observation])[0]
        return latent, reward, terminated, truncated, self._informed(info)

    def close(self) -> None:
        """Close the environment."""
        self._renderer.close()
        super().close()

    def imagine(self, actions: Sequence[Any] | AnyArray) -> FloatArray:
        """Predict the latents after some actions; nothing moves.

        Args:
            actions: T of them, as the environment takes them.

        Returns:
            float32 (T, d), without vectors.
        """
        return self.filter.imagine(actions)

    @property
    def vector_names(self) -> tuple[str, ...]:
        """The vectors that are appended to the latent, in order."""
        return self._observer.vector_names

    def compose(self, latents: FloatArray, vectors: FloatArray) -> FloatArray:
        """What this environment observes for raw latents (N, d) and vectors (N, V)."""
        return self._observer.compose(latents, vectors)

    def observation(self, observation: Any) -> FloatArray:  # noqa: ARG002
        """Not offered: a latent depends on the action too.

        Raises:
            EnvironmentMismatch: always.
        """
        raise EnvironmentMismatch(
            "LatentObservation cannot map one observation alone, for a latent depends on the "
            "episode so far: use reset and step, or latentwrap.LatentFilter."
        )

    def _informed(self, info: dict[str, Any]) -> dict[str, Any]:
        diagnosis = self.filter.diagnosis
        return info if diagnosis is None else {**info, INFO: diagnosis.info(0)}


def _checked_skip(asked: int | None, trained: int, env: gym.Env[Any, Any]) -> int:
    """How often to repeat an action: what was asked for, or what `FrameSkip` inside leaves to do.

    Raises:
        EnvironmentMismatch: a number below 1, or one inside that does not divide the data's.
    """
    if asked is not None:
        if asked < 1:
            raise EnvironmentMismatch(f"frame_skip requires a number of at least 1, got {asked}.")
        return asked
    (inside,) = repeated(OneEnvironment(env))
    if trained % inside:
        raise EnvironmentMismatch(
            f"The checkpoint expects every action to be taken {trained} times, FrameSkip inside "
            f"takes it {inside} times: take it out, or pass frame_skip=1."
        )
    return trained // inside
