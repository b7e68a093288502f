"""The filter without an environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.actions import ActionSpec
from latentwrap.devices import to_device
from latentwrap.errors import CheckpointError
from latentwrap.filtering import StreamFilter
from latentwrap.filtering.advancing import advance_streams
from latentwrap.models import LatentModel, load_model
from latentwrap.seeding import restored_torch_generators, torch_generator, torch_states
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames
from latentwrap.wrappers.backend import OnnxBackend, check_backend
from latentwrap.wrappers.diagnosis import Diagnosis, diagnose
from latentwrap.wrappers.streams import StreamInputs, put_streams, select_streams


class LatentFilter(StreamFilter):
    """Turns frames and actions into filtered latents, for one or several streams at once.

    A robot's control loop uses it directly; every wrapper is a thin shell around it. With
    `num=1`, frames may come as (H, W, C) and latents then leave as (d,).

    A frame is an image, uint8 or float in [0, 1], of any size with the aspect ratio of the
    pretraining data; of several cameras a tuple or mapping of their images; `None`, or nothing
    but NaN, where the camera dropped it: the belief then goes on by the prior. Frames of several
    streams come as one array (num, H, W, C) or as a list.

    Args:
        ckpt: path of a checkpoint, or a loaded model.
        num: independent streams, each with its own belief and noise.
        device: `cpu`, `cuda` or `auto`.
        deterministic: hand out the mean of the belief; else a sample.
        normalize: standardise with the pretraining statistics and clip to ±10.
        stretch: accept images of another aspect ratio than the pretraining data's.
        diagnostics: also tell how far each frame was foreseen; encodes every frame twice.
        backend: `torch`; or `onnx`, which filters by the graphs that `latentwrap export` wrote
            beside the checkpoint, several times faster for few streams on the CPU.

    Attributes:
        model: the model that filters.
        frames: what the model saw last of each stream, uint8 (num, H, W, C).
        diagnosis: how far the latest frames were foreseen; `None` without `diagnostics`.

    Raises:
        CheckpointError: the checkpoint is missing, foreign, damaged or untrained, or graphs of it
            are asked for and not there.
        ConfigError: a backend that does not exist, or cannot do what is asked.

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
        stretch: bool = False,
        diagnostics: bool = False,
        backend: str = "torch",
    ) -> None:
        self.model = ckpt if isinstance(ckpt, LatentModel) else load_model(ckpt, device=device)
        if normalize and self.model.normalizer is None:
            raise CheckpointError(
                "LatentFilter with normalize=True requires a pretrained model, "
                "got one without latent statistics."
            )
        super().__init__(num, self.model.frame_spec, normalize=normalize, stretch=stretch)
        check_backend(
            backend,
            deterministic=deterministic,
            diagnostics=diagnostics,
            device=self.model.device,
        )
        self._onnx: OnnxBackend | None = None
        if backend == "onnx":
            self._onnx = OnnxBackend(self.model, num, normalize=normalize, stretch=stretch)
        self.deterministic = deterministic
        self.diagnosis: Diagnosis | None = None
        self._diagnostics = diagnostics
        self._generators = [torch_generator(None) for _ in range(num)]

    @property
    def latent_size(self) -> int:
        """Dimensions d of a latent."""
        return self.model.latent_size

    @property
    def belief(self) -> Any:
        """The belief of all streams, to save and restore; `None` before the first reset."""
        return self._belief if self._onnx is None else self._onnx.belief

    @belief.setter
    def belief(self, belief: Any) -> None:
        if self._onnx is None:
            self._belief = belief
        else:
            self._onnx.restore(self.model, belief)

    def seed(self, seed: int, stream: int = 0) -> None:
        """Restart the noise of one stream; only samples (`deterministic=False`) draw from it."""
        self._generators[stream].manual_seed(seed % 2**63)  # environments take any integer

    def advance(
        self,
        action: Any,
        frame: Any,
        vectors: AnyArray | None,
        *,
        begun: BoolArray,
        stepped: BoolArray,
    ) -> FloatArray:
        """As of `StreamFilter`."""
        if self._onnx is None:
            return self._advance(action, frame, vectors, begun=begun, stepped=stepped)
        runner = self._onnx.runner
        latents = runner.advance(action, frame, vectors, begun=begun, stepped=stepped)
        self.frames = runner.frames
        return latents

    @torch.inference_mode()
    def reconstruct(self) -> Frames:
        """The frames that the beliefs expect, uint8 (num, H, W, C)."""
        decoded: Frames = self.model.decode(self._started()).cpu().numpy()
        return decoded

    def __getstate__(self) -> dict[str, Any]:
        # torch generators do not pickle; their states do.
        return {**self.__dict__, "_generators": torch_states(self._generators)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._generators = restored_torch_generators(state["_generators"])

    @torch.inference_mode()
    def _advance(
        self,
        action: Any,
        frame: Any,
        vectors: AnyArray | None,
        *,
        begun: BoolArray,
        stepped: BoolArray,
    ) -> FloatArray:
        """Begin some streams and step some; those in neither mask stay as they are."""
        frames, seen, single = self.fitter.fit(frame)
        self._check_begun(begun, seen)
        moved = begun | stepped
        inputs = StreamInputs(
            frames=to_device(frames, self.model.device),
            actions=self._on_device(self._encoded([action] if single else action, stepped)),
            noise=self._noise(moved, self._generators),
            vectors=self._vectors(vectors),
        )
        before, model = self._belief, self.model
        self._belief = advance_streams(
            before,
            inputs,
            (begun, lambda _, new: model.initial(new.frames, new.noise, **new.seen)),
            (
                stepped & seen,
                lambda old, new: model.filter(old, new.actions, new.frames, new.noise, **new.seen),
            ),
            (stepped & ~seen, lambda old, new: model.predict(old, new.actions, new.noise)),
            select=select_streams,
            put=put_streams,
        )
        self._keep(frames, moved & seen)
        if self._diagnostics:
            self.diagnosis = diagnose(
                model,
                before,
                self._belief,
                inputs,
                begun=begun,
                seen=stepped & seen,
                dropped=stepped & ~seen,
                previous=self.diagnosis,
            )
        latents = self._hand_out(self._belief)
        return latents[0] if single else latents

    @property
    def _action_spec(self) -> ActionSpec:
        return self.model.action_spec

    def _foresight(self) -> Callable[[Any, FloatArray], Any]:
        everyone = np.ones(self.num, bool)
        # The streams' own noise goes on as if nothing had been imagined.
        generators = restored_torch_generators(torch_states(self._generators))

        @torch.inference_mode()
        def foresee(belief: Any, actions: FloatArray) -> Any:
            noise = self._noise(everyone, generators)
            return self.model.predict(belief, self._on_device(actions), noise)

        return foresee

    def _on_device(self, encoded: FloatArray) -> Tensor:
        return to_device(encoded, self.model.device)

    def _vectors(self, vectors: AnyArray | None) -> Tensor | None:
        """Standardised vectors (num, V), where the model sees any."""
        model = self.model
        if not model.sees_vectors:
            return None
        return model.prepare_vectors(self._checked_vectors(model.vector_spec, vectors))

    def _noise(self, moved: BoolArray, generators: Sequence[torch.Generator]) -> Tensor | None:
        """Noise for the streams that move, each from its own generator; zeros elsewhere."""
        if self.deterministic:
            return None
        noise = torch.zeros(self.num, self.model.noise_size)
        for stream in np.flatnonzero(moved):
            noise[stream] = torch.randn(self.model.noise_size, generator=generators[int(stream)])
        return to_device(noise, self.model.device)

    @torch.inference_mode()
    def _hand_out(self, belief: Any) -> FloatArray:
        raw: FloatArray = self.model.latent(belief).cpu().numpy()
        normalizer = self.model.normalizer if self.normalize else None
        return raw.copy() if normalizer is None else normalizer.normalize(raw)
