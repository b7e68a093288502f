"""What computes a filter: torch, or onnxruntime from exported graphs."""

from __future__ import annotations

import shlex
from typing import Any

import torch

from latentwrap.errors import CheckpointError, ConfigError, did_you_mean
from latentwrap.filtering import OnnxFilter
from latentwrap.filtering.card import LATENT, exported_folder
from latentwrap.models import LatentModel

BACKENDS = ("torch", "onnx")

_MANY_STREAMS = 8


class OnnxBackend:
    """Filters with the graphs that were exported beside the checkpoint of a model.

    Args:
        model: loaded from a checkpoint, on the CPU.
        num: independent streams.
        normalize, stretch: as of `LatentFilter`.

    Attributes:
        runner: the filter without torch.

    Raises:
        CheckpointError: there are no such graphs, or they are of another model.
        MissingExtra: onnxruntime is not installed.
    """

    def __init__(self, model: LatentModel, num: int, *, normalize: bool, stretch: bool) -> None:
        folder = _exported_folder(model)
        # For a few streams a second thread costs more than it computes.
        threads = torch.get_num_threads() if num >= _MANY_STREAMS else 1
        self.runner = OnnxFilter(folder, num, normalize=normalize, stretch=stretch, threads=threads)
        _check_fingerprint(self.runner, model, folder)
        with torch.inference_mode():
            nothing = torch.zeros(1, model.seen_size)
            self._belief_type: Any = type(model.believe_first(nothing))

    @property
    def belief(self) -> Any:
        """The belief as the model has it; `None` before the first reset."""
        belief = self.runner.belief
        if belief is None:
            return None
        parts = {name: torch.from_numpy(belief[name]) for name in self.runner.card.belief}
        return self._belief_type(**parts)

    def restore(self, model: LatentModel, belief: Any) -> None:
        """Go on from a belief of the model, or from none."""
        if belief is None:
            self.runner.belief = None
            return
        tensors = {**belief._asdict(), LATENT: model.latent(belief)}
        self.runner.belief = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def check_backend(
    name: str, *, deterministic: bool, diagnostics: bool, device: torch.device
) -> None:
    """Refuse a backend that does not exist, or that cannot do what is asked.

    Raises:
        ConfigError: it is so.
    """
    if name not in BACKENDS:
        raise ConfigError(f"There is no backend {name!r}: {did_you_mean(name, BACKENDS)}")
    refused = {
        "deterministic=False": not deterministic,
        "diagnostics=True": diagnostics,
        f"a model on {device}": device.type != "cpu",
    }
    for option, asked in refused.items():
        if name == "onnx" and asked:
            raise ConfigError(
                "backend='onnx' hands out means of the belief, without diagnostics and on the "
                f"CPU, got {option}: leave it out, or use backend='torch'."
            )


def _exported_folder(model: LatentModel) -> str:
    if model.checkpoint is None:
        raise CheckpointError(
            "backend='onnx' requires exported graphs beside a checkpoint, got a model that was "
            "not loaded from a file: save it, and run latentwrap export on the file."
        )
    folder = exported_folder(model.checkpoint.path)
    if not folder.exists():
        raise CheckpointError(
            f"backend='onnx' requires the exported graphs {folder}, which are not there: run "
            f"{_export_command(model.checkpoint.path)}."
        )
    return str(folder)


def _check_fingerprint(runner: OnnxFilter, model: LatentModel, folder: str) -> None:
    if model.checkpoint is not None and runner.card.model_fingerprint != model.fingerprint:
        raise CheckpointError(
            f"backend='onnx' requires the graphs of {model.checkpoint.path}, got those of another "
            f"model in {folder}: run {_export_command(model.checkpoint.path)} --force."
        )


def _export_command(checkpoint: str) -> str:
    return f"latentwrap export {shlex.quote(checkpoint)} --onnx"
