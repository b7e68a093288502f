"""One gradient step of a model."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latentwrap.datasets import Windows
from latentwrap.devices import to_device
from latentwrap.errors import TrainingDiverged
from latentwrap.graphs import Record, Results, graphed, record_on
from latentwrap.models import LatentModel, LossTerms, WindowTensors
from latentwrap.optimizers import moments, restore_moments, under
from latentwrap.precision import computing
from latentwrap.seeding import torch_generator
from latentwrap.training.processes import ALONE, LossFunction, Processes
from latentwrap.training.recipes import TrainingConfig

_TOTAL, _FEATURES, _GRADIENT = "total of the loss", "features", "norm of the gradient"


class ModelUpdater:
    """Descends the loss of windows with Adam.

    On CUDA, in a process that is alone, loss and gradient are one graph after a few updates. Adam
    is not part of it: it is a launch or two, and must wait for whether the gradient is finite.

    Args:
        model: trained in place.
        config: batch size, learning rate, precision, and the norm that gradients are scaled down
            to.
        seed: of the noise.
        processes: that share each batch.
        record: records the graph; `None` does so on CUDA and makes none elsewhere.

    Attributes:
        model, config: as given.
        steps_done: updates so far.
    """

    def __init__(
        self,
        model: LatentModel,
        config: TrainingConfig,
        *,
        seed: int,
        processes: Processes = ALONE,
        record: Record | None = None,
    ) -> None:
        self.model, self.config = model, config
        self._processes, self._share = processes, processes.share(config.batch_size)
        self.steps_done = 0
        self._limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
        self._noise = torch_generator(seed)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
        # The messages of several processes are no part of a graph.
        if record is None and processes.count == 1:
            record = record_on(model.device)
        self._descend = graphed(self._differentiate, record)
        self._stays = record is not None
        self._gradients: list[Tensor | None] = [None for _ in model.parameters()]

    def update(self, windows: Windows) -> LossTerms:
        """One update; returns the loss before it.

        Args:
            windows: a batch, or this process's share of it. The features that are returned are
                those of these windows, the loss is that of the whole batch.

        Raises:
            TrainingDiverged: the loss or its gradient is not finite; the weights are untouched.
        """
        tensors = to_tensors(windows, self.model)
        noise = self._draw_noise(tensors.frames.shape[1])
        if self._stays:
            self._put_gradients_back()
        found = self._descend(noise, *tensors)
        features, gradient = found.pop(_FEATURES), found.pop(_GRADIENT)
        terms = self._processes.mean(found, self._share)
        total = terms.pop(_TOTAL)
        self._check_finite(total, gradient)
        self._optimizer.step()
        self.steps_done += 1
        return LossTerms(total, terms, features)

    def _differentiate(self, noise: Tensor, *windows: Any) -> Results:
        """The loss, whose gradient the weights then have; nothing here may wait for a GPU."""
        with computing(self.config.precision, self.model.device):
            loss = self._loss(WindowTensors(*windows), noise)
            self._optimizer.zero_grad(set_to_none=not self._stays)
            self._processes.backward(loss.total, self._share)
        gradient = torch.nn.utils.clip_grad_norm_(list(self.model.parameters()), self._limit)
        found = {name: term.detach() for name, term in {**loss.terms, _TOTAL: loss.total}.items()}
        return {**found, _FEATURES: loss.features, _GRADIENT: gradient}

    def _put_gradients_back(self) -> None:
        """Let gradients lie where they first did: that is where a graph writes them."""
        for index, parameter in enumerate(self.model.parameters()):
            if self._gradients[index] is None:
                self._gradients[index] = parameter.grad
            parameter.grad = self._gradients[index]

    @cached_property
    def _loss(self) -> LossFunction:
        """Made when all processes are about to take it: making it connects them."""
        return self._processes.loss_of(self.model)

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

    def _draw_noise(self, steps: int) -> Tensor:
        """This process's share of the noise of a batch, all of which is drawn in each of them."""
        noise = draw_noise(self.model, (self.config.batch_size, steps), self._noise)
        return noise[self._share.rows]

    def _check_finite(self, loss: Tensor, gradient: Tensor) -> None:
        if not bool(torch.isfinite(loss) & torch.isfinite(gradient)):
            raise TrainingDiverged(
                f"The loss became {float(loss):g} (gradient norm {float(gradient):g}) in step "
                f"{self.steps_done + 1} of training: try a smaller learning_rate."
            )


def draw_noise(model: LatentModel, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The noise that the loss takes of windows (B, L+1), float32 (B, L+1, `loss_noise_size`)."""
    drawn = torch.randn((*shape, model.loss_noise_size), generator=generator)
    return to_device(drawn, model.device)


def to_tensors(windows: Windows, model: LatentModel) -> WindowTensors:
    """Windows from a dataset as tensors on the model's device, vectors as the model takes them."""

    def move(array: Any) -> Tensor:
        return to_device(array, model.device)

    return WindowTensors(
        frames=move(windows.frames),
        actions=move(windows.actions),
        rewards=None if windows.rewards is None else move(windows.rewards),
        terminations=move(windows.terminations).float(),
        vectors=model.prepare_vectors(windows.vectors),
    )
