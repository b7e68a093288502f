"""The folder beside a checkpoint: metrics, the best model, and the state to resume from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentwrap import storage
from latentwrap.errors import CheckpointError
from latentwrap.identity import refuse_changes
from latentwrap.training.processes import ALONE, Processes
from latentwrap.training.recipes import TrainingConfig
from latentwrap.training.trainer import Trainer, TrainerState

_FORMAT = "latentwrap-trainer"


class RunFolder:
    """Where a pretraining run keeps what is not the checkpoint itself.

    Of several processes the first writes and reads, and tells the others what it read: a folder on
    its machine is enough.

    Attributes:
        path: the folder, `model.run` for `model.safetensors`.
        best: the checkpoint with the lowest held-out loss.
        seconds, train: training time and loss terms of the state that `restore` read last.
    """

    def __init__(self, path: Path, processes: Processes = ALONE) -> None:
        self.path = path
        self._processes = processes
        self.best = path / "best.safetensors"
        self.seconds = 0.0
        self.train: dict[str, float] = {}
        self._state = path / "trainer.safetensors"

    @classmethod
    def of(cls, checkpoint: Path, processes: Processes = ALONE) -> RunFolder:
        """The folder that belongs to a checkpoint."""
        return cls(checkpoint.with_suffix(".run"), processes)

    @property
    def has_state(self) -> bool:
        """Whether a state was saved."""
        return self._processes.from_first(self._state.is_file)

    def save(
        self,
        trainer: Trainer,
        identity: dict[str, Any],
        *,
        seconds: float,
        train: dict[str, float],
    ) -> None:
        """Save the trainer's state, whole or not at all."""
        document = {"format": _FORMAT, "identity": identity, "seconds": seconds, "train": train}
        self._processes.from_first(lambda: self._write(trainer.state(), document))

    def restore(self, trainer: Trainer, identity: dict[str, Any]) -> None:
        """Put `trainer` into the saved state.

        Raises:
            CheckpointError: there is none, or it belongs to other data, options or seed.
        """
        stored = self._processes.from_first(lambda: self._read(trainer, identity))
        trainer.restore(TrainerState(stored.tensors, stored.document["trainer"]))
        self.seconds = float(stored.document["seconds"])
        self.train = stored.document["train"]

    def _write(self, state: TrainerState, document: dict[str, Any]) -> None:
        storage.save(self._state, state.tensors, {**document, "trainer": state.document})

    def _read(self, trainer: Trainer, identity: dict[str, Any]) -> storage.Stored:
        if not self._state.is_file():
            raise CheckpointError(
                f"There is nothing to resume in {self.path}: run the command without --resume."
            )
        stored = storage.load(self._state, file_format=_FORMAT, what="training state")
        refuse_changes(
            self.path,
            _completed(stored.document["identity"], trainer),
            identity,
            free=["recipe.training.steps"],  # training longer is what resuming is for
        )
        return stored


def _completed(identity: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """A run begun before an option existed is one that left it at its default."""
    recipe = identity["recipe"]
    usual = {"model": type(trainer.model.config)(), "training": TrainingConfig()}
    parts = {
        name: {**config.model_dump(mode="json"), **recipe[name]} for name, config in usual.items()
    }
    return {**identity, "recipe": {**recipe, **parts}}
