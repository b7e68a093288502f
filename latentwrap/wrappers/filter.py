"""The filter without an environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.errors import CheckpointError, LatentwrapError
from latentwrap.models import LatentModel, load_model, map_belief
from latentwrap.pixels import fit_frame
from latentwrap.seeding import torch_generator
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames


class LatentFilter:
    """Turns frames and actions into filtered latents, for one or several streams at once.

    A robot's control loop uses it directly; every wrapper is a thin shell around it. With
    `num=1`, frames may come as (H, W, C) and latents then leave as (d,).

    Args:
        ckpt: path of a checkpoint, or a loaded model.
        num: independent streams, each with its own belief and noise.
        device: `cpu`, `cuda` or `auto`.
        deterministic: hand out the mean of the belief; else a sample.
        normalize: standardise with the pretraining statistics and clip to ±10.

    Raises:
        CheckpointError: the checkpoint is missing, foreign, damaged or untrained.

    Example:
        >>> latents = LatentFilter("arm.safetensors")  # doctest: +SKIP
        >>> z = latents.reset(camera.read())  # doctest: +SKIP
        >>> while True:  # doctest: +SKIP
        ...     action = policy(z)
        ...     robot.send(action)
        ...     z = latents.step(action, camera.read())
    """

    def __init__(
        self,
        ckpt: str | Path | LatentModel,
        num: int = 1,
        *,
        device: str = "cpu",
        deterministic: bool = True,
        normalize: bool = True,
    ) -> None:
        if num < 1:
            raise LatentwrapError(f"LatentFilter requires num of at least 1, got {num}.")
        self.model = ckpt if isinstance(ckpt, LatentModel) else load_model(ckpt, device=device)
        if normalize and self.model.normalizer is None:
            raise CheckpointError(
                "LatentFilter with normalize=True requires a pretrained model, "
                "got one without latent statistics."
            )
        self.num = num
        self.deterministic = deterministic
        self.normalize = normalize
        self._belief: Any = None
        self._generators = [torch_generator(None) for _ in range(num)]

    @property
    def latent_size(self) -> int:
        """Dimensions d of a latent."""
        return self.model.latent_size

    @property
    def belief(self) -> Any:
        """The belief of all streams, to save and restore; `None` before the first reset."""
        return self._belief

    @belief.setter
    def belief(self, belief: Any) -> None:
        self._belief = belief

    def seed(self, seed: int, stream: int = 0) -> None:
        """Restart the noise of one stream; only samples (`deterministic=False`) draw from it."""
        self._generators[stream].manual_seed(seed)

    @torch.inference_mode()
    def reset(self, frame: Frames, mask: BoolArray | None = None) -> FloatArray:
        """Begin new episodes.

        Args:
            frame: first frames, uint8 or float in [0, 1], (num, H, W, C) of any size with the
                aspect ratio of the pretraining data.
            mask: bool (num,); streams where it is false keep their belief bit for bit, and
                their frames are ignored. `None` begins all.

        Returns:
            Latents of all streams, a new float32 array (num, d).
        """
        frames, single = self._frames(frame)
        started = self.model.initial(frames, self._noise(mask))
        self._belief = started if mask is None else self._keep_unless(mask, started)
        return self._hand_out(self._belief, single=single)

    @torch.inference_mode()
    def step(self, action: Any, frame: Frames) -> FloatArray:
        """Filter one more action and the frame that followed it.

        Args:
            action: as the environment took them, (num, ...) or one action where num is 1.
            frame: as in `reset`.

        Returns:
            Latents, a new float32 array (num, d).
        """
        frames, single = self._frames(frame)
        belief = self._started()
        actions = self._actions(action, single=single)
        self._belief = self.model.filter(belief, actions, frames, self._noise())
        return self._hand_out(self._belief, single=single)

    @torch.inference_mode()
    def imagine(self, actions: Sequence[Any] | AnyArray) -> FloatArray:
        """Predict the latents after some actions; the belief stays as it is.

        Args:
            actions: as the environment takes them, T of them; where num is above 1 each holds
                one action for every stream.

        Returns:
            float32 (num, T, d), or (T, d) where num is 1.
        """
        belief, latents = self._started(), []
        for action in actions:
            encoded = self._actions(action, single=self.num == 1)
            belief = self.model.predict(belief, encoded, self._noise())
            latents.append(self._hand_out(belief, single=False))
        if not latents:
            raise LatentwrapError("imagine requires at least one action, got none.")
        imagined = np.stack(latents, axis=1)
        return imagined[0] if self.num == 1 else imagined

    @torch.inference_mode()
    def reconstruct(self) -> Frames:
        """The frames that the beliefs expect, uint8 (num, H, W, C)."""
        decoded: Frames = self.model.decode(self._started()).cpu().numpy()
        return decoded

    def __getstate__(self) -> dict[str, Any]:
        # torch generators do not pickle; their states do.
        states = [generator.get_state() for generator in self._generators]
        return {**self.__dict__, "_generators": states}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._generators = [torch_generator(0).set_state(s) for s in state["_generators"]]

    def _started(self) -> Any:
        if self._belief is None:
            raise LatentwrapError("The filter has no belief yet: call reset(frame) first.")
        return self._belief

    def _frames(self, frame: Frames) -> tuple[Tensor, bool]:
        array, spec = np.asarray(frame), self.model.frame_spec
        single = self.num == 1 and array.ndim == 3
        array = array[None] if single else array
        if array.ndim != 4 or len(array) != self.num:
            raise LatentwrapError(
                f"The filter requires one frame (H, W, {spec.channels}) for each of {self.num} "
                f"streams, got an array of shape {np.shape(frame)}."
            )
        if array.shape[1:] != spec.shape or array.dtype != np.uint8:
            spec.check_source(array.shape[1:])
            array = np.stack([fit_frame(image, spec) for image in array])
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device), single

    def _actions(self, action: Any, *, single: bool) -> Tensor:
        spec = self.model.action_spec
        rows = [action] if single else list(action)
        stored = np.stack([spec.flatten(row) for row in rows])
        if len(stored) != self.num:
            raise LatentwrapError(
                f"The filter requires one action for each of {self.num} streams, got {len(stored)}."
            )
        return torch.from_numpy(spec.encode(stored)).to(self.model.device)

    def _noise(self, mask: BoolArray | None = None) -> Tensor | None:
        """Noise for the streams in `mask`, each from its own generator; zeros elsewhere."""
        if self.deterministic:
            return None
        noise = torch.zeros(self.num, self.model.noise_size)
        for stream, generator in enumerate(self._generators):
            if mask is None or mask[stream]:
                noise[stream] = torch.randn(self.model.noise_size, generator=generator)
        return noise.to(self.model.device)

    def _keep_unless(self, mask: BoolArray, started: Any) -> Any:
        chosen = torch.as_tensor(mask, device=self.model.device)[:, None]
        return map_belief(lambda new, old: torch.where(chosen, new, old), started, self._started())

    def _hand_out(self, belief: Any, *, single: bool) -> FloatArray:
        raw = self.model.latent(belief).cpu().numpy()
        normalizer = self.model.normalizer if self.normalize else None
        latents = raw.copy() if normalizer is None else normalizer.normalize(raw)
        return latents[0] if single else latents
