"""Writing a checkpoint as a folder of graphs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from latentwrap.errors import CheckpointError, LatentwrapError, OutputExists
from latentwrap.exporting.comparing import TOLERANCE, largest_difference
from latentwrap.exporting.tracing import OPSET, Traced, describe_graphs, to_onnx
from latentwrap.extras import require
from latentwrap.files import refuse_existing, written_whole
from latentwrap.filtering.card import (
    CARD,
    FEATURES,
    GRAPHS,
    FilterCard,
    digest,
    exported_folder,
    file_name,
    next_name,
    write_card,
)
from latentwrap.models import LatentModel, load_model
from latentwrap.progress import Bar, bar


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        path: the folder.
        card: what the model is, as the folder says.
        sizes: bytes of each file, by name.
        difference: the largest between raw latents of the graphs and of torch, max(1, |z|)
            being 1.
        seconds: that it took.
    """

    path: Path
    card: FilterCard
    sizes: dict[str, int]
    difference: float
    seconds: float


def export_onnx(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    force: bool = False,
    show_progress: bool = False,
) -> ExportResult:
    """Write encoder and filter steps of a checkpoint as ONNX graphs.

    They are compared with torch before they get their name.

    Args:
        checkpoint: that `latentwrap pretrain` wrote.
        output: a folder; `None` puts it beside the checkpoint, `car.onnx` for
            `car.safetensors`, where `backend="onnx"` looks for it.
        force: replace a folder of graphs that is there.
        show_progress: draw a bar.

    Raises:
        CheckpointError: the checkpoint is missing, foreign or damaged.
        OutputExists: something is there, and no `force`; or it is no folder of graphs.
        MissingExtra: what exports or runs graphs is not installed.
        LatentwrapError: the graphs cannot be written, or differ from torch by more than 1e-4.

    Example:
        >>> export_onnx("car.safetensors").path  # doctest: +SKIP
        PosixPath('car.onnx')
    """
    began = time.monotonic()
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="onnx", purpose="An export to ONNX")
    model = load_model(checkpoint)
    folder = exported_folder(checkpoint) if output is None else Path(output)
    _refuse_output(folder, force=force)
    with (
        written_whole(folder) as temporary,
        bar("Exporting graphs", len(GRAPHS) + 1, show=show_progress) as progress,
    ):
        temporary.mkdir()
        card = _write_graphs(model, temporary, progress)
        difference = _compared(model, temporary)
        progress.advance()
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
    return ExportResult(folder, card, sizes, difference, time.monotonic() - began)


def _refuse_output(folder: Path, *, force: bool) -> None:
    refuse_existing(folder, force=force)
    if folder.exists() and not (folder / CARD).is_file():
        raise OutputExists(
            f"{folder} is no folder of exported graphs, and is not replaced: choose another name."
        )


def _write_graphs(model: LatentModel, folder: Path, progress: Bar) -> FilterCard:
    graphs, files = describe_graphs(model), {}
    for name in GRAPHS:
        content = to_onnx(model, graphs[name])
        (folder / file_name(name)).write_bytes(content)
        files[name] = digest(content)
        progress.advance()
    card = _describe(model, graphs["step"], files)
    write_card(folder, card)
    return card


def _describe(model: LatentModel, step: Traced, files: dict[str, str]) -> FilterCard:
    if model.normalizer is None or model.fingerprint is None:
        raise CheckpointError("An export requires a pretrained model, got one without statistics.")
    sizes = {name: tensor.shape[1] for name, tensor in step.inputs.items()}
    return FilterCard(
        model_fingerprint=model.fingerprint,
        kind=model.kind,
        frame_spec=model.frame_spec,
        action_spec=model.action_spec,
        frame_skip=model.frame_skip,
        vector_spec=model.vector_spec,
        sees_vectors=model.sees_vectors,
        vector_normalizer=model.vector_normalizer,
        normalizer=model.normalizer,
        features=sizes[FEATURES],
        belief={name: size for name, size in sizes.items() if next_name(name) in step.outputs},
        latent_size=model.latent_size,
        opset=OPSET,
        files=files,
    )


def _compared(model: LatentModel, folder: Path) -> float:
    difference = largest_difference(model, folder)
    if not difference <= TOLERANCE:  # also where one is NaN
        raise LatentwrapError(
            f"The exported graphs give latents that differ from torch's by {difference:.1g}, more "
            f"than {TOLERANCE:g}: install the versions that latentwrap is tested with, "
            "pip install -c constraints.txt 'latentwrap[onnx]'."
        )
    return difference
