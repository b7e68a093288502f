"""One gradient step of a model."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from latentwrap.datasets import Windows
from latentwrap.errors import TrainingDiverged
from latentwrap.models import LatentModel, LossTerms, WindowTensors
from latentwrap.optimizers import moments, restore_moments, under
from latentwrap.seeding import torch_generator
from latentwrap.training.recipes import TrainingConfig


class ModelUpdater:
    """Descends the loss of windows with Adam.

    Args:
        model: trained in place.
        config: learning rate, and the norm that gradients are scaled down to.
        seed: of the noise.

    Attributes:
        model, config: as given.
        steps_done: updates so far.
    """

    def __init__(self, model: LatentModel, config: TrainingConfig, *, seed: int) -> None:
        self.model, self.config = model, config
        self.steps_done = 0
        self._limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
        self._noise = torch_generator(seed)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)

    def update(self, windows: Windows) -> LossTerms:
        """One update; returns the loss before it.

        Raises:
            TrainingDiverged: the loss or its gradient is not finite; the weights are untouched.
        """
        tensors = to_tensors(windows, self.model)
        loss = self.model.loss(tensors, draw_noise(self.model, tensors, self._noise))
        self._optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        gradient = torch.nn.utils.clip_grad_norm_(list(self.model.parameters()), self._limit)
        self._check_finite(loss.total.detach(), gradient)
        self._optimizer.step()
        self.steps_done += 1
        return LossTerms(
            loss.total.detach(),
            {name: term.detach() for name, term in loss.terms.items()},
            loss.features,
        )

    def state(self) -> dict[str, Tensor]:
        """Copies of weights, moments and the state of the noise, by name."""
        tensors = {f"model.{name}": t.clone() for name, t in self.model.state_dict().items()}
        tensors |= {f"adam.{name}": tensor for name, tensor in moments(self._optimizer).items()}
        return {**tensors, "noise": self._noise.get_state()}

    def restore(self, tensors: dict[str, Tensor], steps_done: int) -> None:
        """Go on from `state`, bit for bit on the CPU."""
        self.model.load_state_dict(under("model.", tensors))
        self._noise.set_state(tensors["noise"])
        restore_moments(self._optimizer, under("adam.", tensors))
        self.steps_done = steps_done

    def _check_finite(self, loss: Tensor, gradient: Tensor) -> None:
        if not bool(torch.isfinite(loss) & torch.isfinite(gradient)):
            raise TrainingDiverged(
                f"The loss became {float(loss):g} (gradient norm {float(gradient):g}) in step "
                f"{self.steps_done + 1} of training: try a smaller learning_rate."
            )


def draw_noise(model: LatentModel, windows: WindowTensors, generator: torch.Generator) -> Tensor:
    """The noise that the loss of windows takes, float32 (B, L+1, `loss_noise_size`)."""
    shape = (*windows.frames.shape[:2], model.loss_noise_size)
    return torch.randn(shape, generator=generator).to(model.device)


def to_tensors(windows: Windows, model: LatentModel) -> WindowTensors:
    """Windows from a dataset as tensors on the model's device, vectors as the model takes them."""

    def move(array: Any) -> Tensor:
        tensor = torch.from_numpy(array)
        if model.device.type == "cuda":
            tensor = tensor.pin_memory()  # else the copy waits for all that the GPU still has to do
        return tensor.to(model.device, non_blocking=True)

    return WindowTensors(
        frames=move(windows.frames),
        actions=move(windows.actions),
        rewards=None if windows.rewards is None else move(windows.rewards),
        terminations=move(windows.terminations).float(),
        vectors=model.prepare_vectors(windows.vectors),
    )
