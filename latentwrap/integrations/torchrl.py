"""TorchRL: latents as a `Transform` of environments of any batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Composite, TensorSpec, Unbounded
from torchrl.envs import Transform

from latentwrap.devices import to_device
from latentwrap.errors import CheckpointError, EnvironmentMismatch, LatentwrapError
from latentwrap.integrations.torchrl_spaces import space_of
from latentwrap.models import LatentModel, load_model, map_belief
from latentwrap.normalizer import CLIP
from latentwrap.pixels import fit_images, guess_layout, newest_image, newest_shape
from latentwrap.seeding import restored_torch_generators, torch_generator, torch_states

STARTED = "started"
"""Beside the tensors of the belief: whether there is one, so that a lost one is noticed."""


class LatentTransform(Transform):  # type: ignore[misc] # torchrl need not be installed
    """Observes the filtered latent state of a pretrained model instead of pixels.

    The belief, the filter's recurrent state, is kept in the tensordict: `step_mdp`, collectors,
    `SerialEnv`, `ParallelEnv` and partial resets carry it as they carry observations, and a step
    without it is refused. One model call serves the whole batch of the environment, so put the
    transform around a batched environment rather than into its workers. Several transforms
    before it may change frames and actions: the model is told the action that the environment
    took. `GymWrapper(LatentObservation(env, ckpt))` gives the same latents.

    Args:
        ckpt: path of a checkpoint, or a loaded model.
        in_keys: of the images, uint8 or float in [0, 1], `(*batch, H, W, C)` or as
            `ToTensorImage` leaves them; one, or one for each camera of the model.
        out_keys: one, of the latent, float32 `(*batch, d)`.
        action_key: of the action in the environment inside, encoded as its spec says.
        belief_key: under which the belief is kept, a nested tensordict.
        device: of the model, `cpu`, `cuda` or `auto`; latents are where the images are.
        deterministic: observe the mean of the belief; else a sample.
        normalize: standardise with the pretraining statistics and clip to ±10.
        frame_skip: how often the environment inside repeats each action, with TorchRL's
            `FrameSkipTransform` say; needed where the pretraining data repeated actions.
        stretch: accept images of another aspect ratio than the pretraining data's.
        layout: one of `latentwrap.pixels.LAYOUTS`; `None` tells it by the shape.
        seed: of the samples; environment i of the batch draws from its own stream, seed + i.
        del_keys: drop the images from the tensordict, so that no replay buffer keeps them.

    Attributes:
        model: the model that filters.

    Raises:
        CheckpointError: the checkpoint is missing, foreign, damaged or untrained.
        EnvironmentMismatch: the environment gives no such image, or its images, actions or
            frame skip are not those that the model was trained on; told at the first use.

    Example:
        >>> from torchrl.envs import GymEnv, SerialEnv, TransformedEnv  # doctest: +SKIP
        >>> pixels = SerialEnv(4, lambda: GymEnv("CarRacing-v3"))  # doctest: +SKIP
        >>> env = TransformedEnv(pixels, LatentTransform("car.safetensors"))  # doctest: +SKIP
        >>> env.rollout(100)["next", "observation"].shape  # doctest: +SKIP
        torch.Size([4, 100, 160])
    """

    model: LatentModel

    def __init__(
        self,
        ckpt: str | Path | LatentModel,
        in_keys: Sequence[Any] = ("pixels",),
        out_keys: Sequence[Any] = ("observation",),
        *,
        action_key: Any = "action",
        belief_key: str = "belief",
        device: str = "cpu",
        deterministic: bool = True,
        normalize: bool = True,
        frame_skip: int | None = None,
        stretch: bool = False,
        layout: str | None = None,
        seed: int | None = None,
        del_keys: bool = True,
    ) -> None:
        super().__init__(in_keys=list(in_keys), out_keys=list(out_keys))
        model = ckpt if isinstance(ckpt, LatentModel) else load_model(ckpt, device=device)
        # Not a submodule: it belongs to the checkpoint, not to the environment's parameters.
        self.__dict__["model"] = model
        self.action_key, self.belief_key = action_key, belief_key
        self.deterministic, self.normalize = deterministic, normalize
        self.stretch, self.layout, self.del_keys = stretch, layout, del_keys
        self._check_arguments(frame_skip)
        self._belief = self._empty_belief()
        self._image_shapes: tuple[tuple[int, ...], ...] | None = None
        self._action: TensorSpec | None = None
        self._generators: list[torch.Generator] = []
        self._seed = seed

    def set_seed(self, seed: int | None) -> None:
        """Restart the noise of samples: environment i of the batch draws from seed + i."""
        self._generators, self._seed = [], seed

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:  # noqa: ARG002
        """Not offered: a latent depends on the episode so far.

        Raises:
            LatentwrapError: always.
        """
        raise LatentwrapError(
            "LatentTransform cannot map stored frames one by one, for a latent depends on the "
            "episode so far: put it into a TransformedEnv, or use latentwrap.LatentFilter."
        )

    @torch.no_grad()  # not inference_mode: a policy's gradient needs ordinary tensors
    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        belief, started = self._read(tensordict, next_tensordict.batch_size)
        rows = self._rows(tensordict, "_step", next_tensordict.batch_size)
        self._check_started(started, rows)
        if len(rows):
            before = map_belief(lambda old: old[rows], belief)
            actions, frames = self._actions(tensordict, rows), self._frames(next_tensordict, rows)
            after = self.model.filter(before, actions, frames, self._noise(rows, len(started)))
            belief = map_belief(lambda old, new: old.index_copy(0, rows, new), belief, after)
        return self._write(next_tensordict, belief, started)

    @torch.no_grad()
    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        belief, started = self._read(tensordict, tensordict_reset.batch_size)
        rows = self._rows(tensordict, self._reset_key(), tensordict_reset.batch_size)
        if len(rows):
            frames = self._frames(tensordict_reset, rows)
            first = self.model.initial(frames, self._noise(rows, len(started)))
            belief = map_belief(lambda old, new: old.index_copy(0, rows, new), belief, first)
            started = started.index_fill(0, rows, value=True)
        return self._write(tensordict_reset, belief, started)

    def _reset_on_native_autoreset(self, *_: TensorDictBase) -> TensorDictBase:
        raise EnvironmentMismatch(
            "LatentTransform requires the last frame of each episode, which native_autoreset=True "
            "loses: make the environment with native_autoreset=False."
        )

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """With the latent and the belief, and without the images."""
        self._check_images(observation_spec)
        batch, device = observation_spec.shape, observation_spec.device
        if self.del_keys:
            for key in self.in_keys:
                del observation_spec[key]
        shape = (*batch, self.model.latent_size)
        observation_spec[self.out_keys[0]] = (
            Bounded(-CLIP, CLIP, shape, device=device, dtype=torch.float32)
            if self.normalize
            else Unbounded(shape, device=device, dtype=torch.float32)
        )
        return self._with_belief(observation_spec)

    def transform_state_spec(self, state_spec: Composite) -> Composite:
        """With the belief: also the workers of a batched environment are handed it."""
        return self._with_belief(state_spec)

    def clone(self) -> LatentTransform:
        """A transform without parent, whose samples go on where these are."""
        copy: LatentTransform = super().clone()
        copy._generators = restored_torch_generators(torch_states(self._generators))
        return copy

    def set_container(self, container: Any) -> None:
        """Told by the environment that this transform is now part of."""
        self._action = self._image_shapes = None
        super().set_container(container)

    def __getstate__(self) -> dict[str, Any]:
        # torch generators do not pickle; their states do.
        return {**super().__getstate__(), "_generators": torch_states(self._generators)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        generators = restored_torch_generators(state["_generators"])
        super().__setstate__({**state, "_generators": generators})

    def _check_arguments(self, frame_skip: int | None) -> None:
        panels, trained = len(self.model.frame_spec.panels), self.model.frame_skip
        if len(self.in_keys) != panels or len(self.out_keys) != 1:
            raise LatentwrapError(
                f"LatentTransform requires {panels} in_keys and one of out_keys, got "
                f"{self.in_keys} and {self.out_keys}."
            )
        if self.normalize and self.model.normalizer is None:
            raise CheckpointError(
                "LatentTransform with normalize=True requires a pretrained model, "
                "got one without latent statistics."
            )
        if self.model.sees_vectors:
            raise EnvironmentMismatch(
                "LatentTransform requires a model that sees images alone, got one that sees the "
                f"vectors {', '.join(self.model.vector_spec.names)} too: use "
                "GymWrapper(LatentObservation(env, ckpt, vector_keys=...))."
            )
        if frame_skip is None and trained != 1:
            raise EnvironmentMismatch(
                f"The checkpoint expects each action to be repeated {trained} times, which "
                f"LatentTransform does not do: put FrameSkipTransform({trained}) before it, and "
                f"pass frame_skip={trained}."
            )

    @torch.no_grad()
    def _empty_belief(self) -> Any:
        """The belief of no environments, (0, k), which tells names and sizes."""
        shape = (1, *self.model.frame_spec.shape)
        frame = torch.zeros(shape, dtype=torch.uint8, device=self.model.device)
        return map_belief(lambda x: x[:0], self.model.initial(frame))

    def _with_belief(self, spec: Composite) -> Composite:
        belief = Composite(shape=spec.shape, device=spec.device)
        for name, empty in self._belief._asdict().items():
            belief[name] = Unbounded((*spec.shape, empty.shape[1]), device=spec.device)
        belief[STARTED] = Binary(1, (*spec.shape, 1), device=spec.device, dtype=torch.bool)
        spec[self.belief_key] = belief
        return spec

    def _rows(self, tensordict: TensorDictBase, key: Any, batch: torch.Size) -> Tensor:
        """Which of the environments a mask names, all without one: int64, on the device."""
        mask = tensordict.get(key, None)
        if mask is None:
            return torch.arange(batch.numel(), device=self.model.device)
        chosen: Tensor = mask.reshape(batch.numel(), -1).any(dim=1)
        return to_device(chosen.nonzero()[:, 0], self.model.device)

    def _read(self, tensordict: TensorDictBase, batch: torch.Size) -> tuple[Any, Tensor]:
        """The beliefs, each (B, k), and where there is one, bool (B, 1); zeros where not."""
        kept, count = tensordict.get(self.belief_key, None), batch.numel()
        if kept is None:
            started = torch.zeros(count, 1, dtype=torch.bool, device=self.model.device)
            return map_belief(lambda x: x.new_zeros(count, x.shape[1]), self._belief), started
        flat = {n: to_device(x.reshape(count, -1), self.model.device) for n, x in kept.items()}
        started = flat.pop(STARTED)
        return type(self._belief)(**flat), started

    def _write(self, tensordict: TensorDictBase, belief: Any, started: Tensor) -> TensorDictBase:
        batch, device = tensordict.batch_size, tensordict.get(self.in_keys[0]).device
        if self.del_keys:
            tensordict = tensordict.exclude(*self.in_keys)
        for name, x in {**belief._asdict(), STARTED: started}.items():
            tensordict.set((self.belief_key, name), x.reshape(*batch, -1).to(device))
        latents = self._hand_out(belief).reshape(*batch, -1).to(device)
        return tensordict.set(self.out_keys[0], latents)

    def _hand_out(self, belief: Any) -> Tensor:
        raw: Tensor = self.model.latent(belief)
        if not self.normalize or self.model.normalizer is None:
            return raw.clone()  # of some kinds it is the belief itself
        return torch.from_numpy(self.model.normalizer.normalize(raw.cpu().numpy()))

    def _check_started(self, started: Tensor, rows: Tensor) -> None:
        lost = rows[~started[rows, 0]].tolist()
        if lost:
            raise LatentwrapError(
                f"LatentTransform requires the belief under {self.belief_key!r} in the tensordict "
                f"that is stepped, got none for environments {lost}: pass on what reset or "
                "step_mdp gave."
            )

    def _frames(self, tensordict: TensorDictBase, rows: Tensor) -> Tensor:
        """The frames of some environments, uint8 (rows, H, W, C) on the model's device."""
        self._check_images(tensordict)
        flat = tensordict.select(*self.in_keys).reshape(-1)
        chosen = [x[rows.to(x.device)] for x in (flat.get(key) for key in self.in_keys)]
        cameras = [x.cpu().numpy() for x in chosen]
        newest = [[newest_image(x, self._layout(x.shape)) for x in camera] for camera in cameras]
        spec = self.model.frame_spec
        frames = np.stack([fit_images(row, spec) for row in zip(*newest, strict=True)])
        return to_device(frames, self.model.device)

    def _actions(self, tensordict: TensorDictBase, rows: Tensor) -> Tensor:
        """The actions of some environments as the model sees them, float32 (rows, A)."""
        if self._action is None:
            inside = self.container.base_env  # what transforms before this one hand actions to
            self._action = inside.full_action_spec_unbatched[self.action_key]
            self.model.action_spec.check_environment(space_of(self._action))
        spec, action = self.model.action_spec, tensordict.get(self.action_key)
        taken = self._action.to_numpy(action, safe=False).reshape(-1, spec.stored_size)
        stored = np.stack([spec.flatten(taken[row]) for row in rows.tolist()])
        return to_device(spec.encode(stored), self.model.device)

    def _noise(self, rows: Tensor, count: int) -> Tensor | None:
        """Noise for some of `count` environments, each from its own stream."""
        if self.deterministic:
            return None
        for i in range(len(self._generators), count):
            self._generators.append(torch_generator(None if self._seed is None else self._seed + i))
        size = self.model.noise_size
        drawn = [torch.randn(size, generator=self._generators[row]) for row in rows.tolist()]
        return to_device(torch.stack(drawn), self.model.device)

    def _check_images(self, source: TensorDictBase | Composite) -> None:
        """Refuse images, or their spec, that the model's frames cannot be made from."""
        known = source.keys(include_nested=True, leaves_only=True)
        for key in self.in_keys:
            if key not in known:
                raise EnvironmentMismatch(
                    f"LatentTransform requires images under {key!r}, the environment gives "
                    f"{', '.join(map(repr, known))}: name the images as in_keys."
                )
        shapes = tuple(tuple(source[key].shape[len(source.shape) :]) for key in self.in_keys)
        if shapes == self._image_shapes:
            return
        for shape, panel in zip(shapes, self.model.frame_spec.panels, strict=True):
            panel.check_source(newest_shape(shape, self._layout(shape)), stretch=self.stretch)
        self._image_shapes = shapes

    def _layout(self, shape: Sequence[int]) -> str:
        layout = self.layout or guess_layout(shape)
        if layout is None:
            raise EnvironmentMismatch(
                f"LatentTransform requires images, got an array of shape {tuple(shape)} whose "
                "layout it does not tell: name its layout, such as CHW or THW."
            )
        return layout

    def _reset_key(self) -> Any:
        container = self.container
        return "_reset" if container is None else container.base_env.reset_keys[0]
