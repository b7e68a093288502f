"""How much memory a training run will need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentwrap.models import LatentModel, WindowTensors

# Weights, their gradients, two moments of Adam, and the best weights so far.
_COPIES_OF_WEIGHTS = 5


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training run needs beside the libraries' own.

    Attributes:
        frames: what is kept of the dataset; 0 where frames are read from the file.
        weights: weights, gradients and the optimiser's memory.
        batch: frames of one batch and all that one update keeps for its gradients.
    """

    frames: int
    weights: int
    batch: int

    @property
    def total(self) -> int:
        """All of it together."""
        return self.frames + self.weights + self.batch


def estimate_memory(
    model: LatentModel, window: WindowTensors, *, batch_size: int, frames: int
) -> MemoryEstimate:
    """Count what the loss of one window keeps, and scale it to a batch.

    Args:
        model: the model to train.
        window: one window, batch size 1.
        batch_size: windows in an update.
        frames: bytes of the dataset that are kept in memory.
    """
    kept = _kept_for_gradients(model, window) + window.frames.numel()
    return MemoryEstimate(frames, _COPIES_OF_WEIGHTS * weight_bytes(model), batch_size * kept)


def weight_bytes(model: LatentModel) -> int:
    """Bytes of the weights of a model."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _kept_for_gradients(model: LatentModel, window: WindowTensors) -> int:
    """Bytes that autograd keeps from one loss until its gradient, without the weights."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    noise = torch.zeros(*window.frames.shape[:2], model.loss_noise_size, device=model.device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.loss(window, noise)
    return sum(kept.values())
