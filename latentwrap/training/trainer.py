"""The training loop's inside: one update, the held-out loss, and the state of both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentwrap.datasets import WindowLoader, WindowSampler
from latentwrap.models import LatentModel, LossTerms
from latentwrap.optimizers import under
from latentwrap.seeding import torch_generator
from latentwrap.training.processes import Processes
from latentwrap.training.recipes import TrainingConfig
from latentwrap.training.updater import ModelUpdater, draw_noise, to_tensors

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


class _Measured(NamedTuple):
    """Mean loss terms of the held-out batch of some number, of `size` windows."""

    number: int
    size: int
    terms: dict[str, float]


class Trainer:
    """Updates a model on windows and measures it on held-out ones.

    Args:
        model: trained in place.
        sampler: gives the training windows.
        heldout: gives the windows of the held-out loss; `None` if no episode was held out.
        config: hyperparameters.
        seed: of the noise.
        processes: that share each batch, and the held-out ones.
    """

    def __init__(
        self,
        model: LatentModel,
        sampler: WindowSampler | WindowLoader,
        heldout: WindowSampler | None,
        config: TrainingConfig,
        *,
        seed: int,
        processes: Processes,
    ) -> None:
        self.model = model
        self.best_loss = math.inf
        self._sampler = sampler
        self._heldout = heldout
        self._config = config
        self._processes = processes
        self._updater = ModelUpdater(model, config, seed=seed, processes=processes)
        self._best = self._weights()

    @property
    def steps_done(self) -> int:
        """Updates so far."""
        return self._updater.steps_done

    def step(self) -> dict[str, float]:
        """One update; returns the loss terms before it.

        Raises:
            TrainingDiverged: the loss or its gradient is not finite; the weights are untouched.
            DatasetError: a file is damaged.
        """
        loss = self._updater.update(self._processes.together(self._sampler.sample))
        return _floats(loss)

    def measure_heldout(self) -> dict[str, float]:
        """Mean loss terms over the held-out windows, always with the same noise.

        Empty if no episode was held out. The best weights so far are kept.
        """
        measured = self._processes.gather(self._processes.together(self._measure_share))
        means = _means(sorted(itertools.chain(*measured)))
        if means and means["loss"] < self.best_loss:
            self.best_loss, self._best = means["loss"], self._weights()
        return means

    def load_best(self) -> None:
        """Give the model the weights with the lowest held-out loss."""
        self.model.load_state_dict(self._best)

    def state(self) -> TrainerState:
        """A copy of everything that `restore` needs."""
        tensors = self._updater.state()
        tensors |= {f"best.{name}": tensor.clone() for name, tensor in self._best.items()}
        document = {
            "steps": self.steps_done,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "sampler": self._sampler.state(),
        }
        return TrainerState(tensors, document)

    def restore(self, state: TrainerState) -> None:
        """Go on from `state`, bit for bit on the CPU."""
        self._updater.restore(state.tensors, int(state.document["steps"]))
        self._best = under("best.", state.tensors)
        best = state.document["best_loss"]
        self.best_loss = math.inf if best is None else float(best)
        self._sampler.restore(state.document["sampler"])

    @torch.no_grad()
    def _measure_share(self) -> list[_Measured]:
        """The loss terms of those held-out batches that are this process's to measure."""
        heldout = self._heldout
        if heldout is None:
            return []
        noise, measured = torch_generator(_HELDOUT_SEED), []
        for number, starts in enumerate(heldout.fixed_starts(self._config.heldout_windows)):
            # Drawn for every batch, so that each has the same with any number of processes.
            drawn = draw_noise(self.model, (len(starts), heldout.length + 1), noise)
            if number % self._processes.count == self._processes.rank:
                loss = self.model.loss(to_tensors(heldout.gather(starts), self.model), drawn)
                measured.append(_Measured(number, len(starts), _floats(loss)))
        return measured

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def _means(batches: Sequence[_Measured]) -> dict[str, float]:
    """Mean loss terms over all windows; empty if there are none."""
    sums: dict[str, float] = {}
    for batch in batches:
        for name, term in batch.terms.items():
            sums[name] = sums.get(name, 0.0) + term * batch.size
    count = sum(batch.size for batch in batches)
    return {name: value / count for name, value in sums.items()}


def _floats(loss: LossTerms) -> dict[str, float]:
    return {name: float(term) for name, term in {**loss.terms, "loss": loss.total}.items()}
