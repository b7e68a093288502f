"""The training loop's inside: one update, the held-out loss, and the state of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentwrap.datasets import WindowLoader, Windows, WindowSampler
from latentwrap.errors import TrainingDiverged
from latentwrap.models import LatentModel, WindowTensors
from latentwrap.optimizers import moments, restore_moments, under
from latentwrap.seeding import torch_generator
from latentwrap.training.recipes import TrainingConfig

_HELDOUT_SEED = 0


@dataclass(frozen=True)
class TrainerState:
    """All that a run needs to go on as if it had never stopped.

    Attributes:
        tensors: weights, best weights, optimiser moments, generator state.
        document: counters and the sampler's state, JSON-serialisable.
    """

    tensors: dict[str, Tensor]
    document: dict[str, Any]


class Trainer:
    """Updates a model on windows and measures it on held-out ones.

    Args:
        model: trained in place.
        sampler: gives the training windows.
        heldout: gives the windows of the held-out loss; `None` if no episode was held out.
        config: hyperparameters.
        seed: of the noise.
    """

    def __init__(
        self,
        model: LatentModel,
        sampler: WindowSampler | WindowLoader,
        heldout: WindowSampler | None,
        config: TrainingConfig,
        *,
        seed: int,
    ) -> None:
        self.model = model
        self.steps_done = 0
        self.best_loss = math.inf
        self._sampler = sampler
        self._heldout = heldout
        self._config = config
        self._noise = torch_generator(seed)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
        self._best = self._weights()

    def step(self) -> dict[str, float]:
        """One update; returns the loss terms before it.

        Raises:
            TrainingDiverged: the loss or its gradient is not finite; the weights are untouched.
        """
        windows = to_tensors(self._sampler.sample(), self.model)
        loss = self.model.loss(windows, draw_noise(self.model, windows, self._noise))
        self._optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        self._check_finite(loss.total.detach(), self._clip_gradients())
        self._optimizer.step()
        self.steps_done += 1
        return {name: float(term.detach()) for name, term in loss.terms.items()} | {
            "loss": float(loss.total.detach())
        }

    @torch.no_grad()
    def measure_heldout(self) -> dict[str, float]:
        """Mean loss terms over the held-out windows, always with the same noise.

        Empty if no episode was held out. The best weights so far are kept.
        """
        if self._heldout is None:
            return {}
        noise = torch_generator(_HELDOUT_SEED)
        sums: dict[str, float] = {}
        count = 0
        for batch in self._heldout.fixed(self._config.heldout_windows):
            windows = to_tensors(batch, self.model)
            loss = self.model.loss(windows, draw_noise(self.model, windows, noise))
            size = len(windows.frames)
            for name, term in {**loss.terms, "loss": loss.total}.items():
                sums[name] = sums.get(name, 0.0) + float(term) * size
            count += size
        means = {name: value / count for name, value in sums.items()}
        if means["loss"] < self.best_loss:
            self.best_loss, self._best = means["loss"], self._weights()
        return means

    def load_best(self) -> None:
        """Give the model the weights with the lowest held-out loss."""
        self.model.load_state_dict(self._best)

    def state(self) -> TrainerState:
        """A copy of everything that `restore` needs."""
        tensors = {f"model.{name}": tensor for name, tensor in self._weights().items()}
        tensors |= {f"best.{name}": tensor.clone() for name, tensor in self._best.items()}
        tensors |= {f"adam.{name}": tensor for name, tensor in moments(self._optimizer).items()}
        tensors["noise"] = self._noise.get_state()
        document = {
            "steps": self.steps_done,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "sampler": self._sampler.state(),
        }
        return TrainerState(tensors, document)

    def restore(self, state: TrainerState) -> None:
        """Go on from `state`, bit for bit on the CPU."""
        self.model.load_state_dict(under("model.", state.tensors))
        self._best = under("best.", state.tensors)
        self._noise.set_state(state.tensors["noise"])
        restore_moments(self._optimizer, under("adam.", state.tensors))
        self.steps_done = int(state.document["steps"])
        best = state.document["best_loss"]
        self.best_loss = math.inf if best is None else float(best)
        self._sampler.restore(state.document["sampler"])

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _clip_gradients(self) -> Tensor:
        limit = self._config.max_grad_norm
        parameters = list(self.model.parameters())
        return torch.nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)

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
