"""A dataset of pixels to a dataset of latents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentwrap.datasets import Dataset
from latentwrap.datasets.joining import Source
from latentwrap.encoding.filtering import EpisodeEncoder
from latentwrap.encoding.forms import D4RLForm, Form, LompoForm
from latentwrap.encoding.minari import SCHEME, MinariForm
from latentwrap.encoding.writer import LatentWriter
from latentwrap.errors import ConfigError, OutputExists, did_you_mean
from latentwrap.models import LatentModel, load_model
from latentwrap.progress import bar

OURS = "latentwrap"
_FOREIGN: dict[str, type[Form]] = {form.name: form for form in (MinariForm, D4RLForm, LompoForm)}
FORMS = (OURS, *_FOREIGN)
"""What `encode` writes."""


@dataclass(frozen=True)
class EncodeResult:
    """What was written.

    Attributes:
        path: the file, or the folder of a Minari dataset.
        form: one of `FORMS`.
        episodes, transitions: how many it holds.
        size: numbers in an observation, vectors included.
        seconds: that it took, without those of an interrupted run.
    """

    path: Path
    form: str
    episodes: int
    transitions: int
    size: int
    seconds: float


def encode(
    model: str | Path | LatentModel,
    data: Source | Dataset,
    output: str | Path,
    *,
    form: str = OURS,
    normalize: bool = True,
    vector_keys: Sequence[str] | None = None,
    device: str = "auto",
    force: bool = False,
    resume: bool = False,
    show_progress: bool = False,
) -> EncodeResult:
    """Filter every episode once and write what `LatentObservation` would have observed.

    Every finished episode is safe at once: if the process dies, `resume=True` goes on with all
    of them. Frames are read a batch of episodes at a time.

    Args:
        model: path of a checkpoint, or a loaded model.
        data: one or more datasets, as `Dataset` takes them, with frames and actions like those
            that the model was trained on.
        output: an HDF5 file; of `minari` a folder, or `minari:NAME`.
        form: `latentwrap` for our layout, or `minari`, `d4rl` or `lompo`.
        normalize: standardise and clip as the wrapper does; else the latents are raw.
        vector_keys: vectors of the dataset that follow the latent, in order; `None` takes those
            of the pretraining data, as the wrapper does.
        device: `cpu`, `cuda` or `auto`, for a checkpoint.
        force: replace what is there.
        resume: go on with an interrupted run, or keep what it finished.
        show_progress: draw a progress bar on standard error.

    Raises:
        CheckpointError: the checkpoint is missing, foreign, damaged or untrained.
        ConfigError: there is no such form.
        DatasetError: the dataset is damaged, does not fit the model, or lacks what the form
            requires.
        OutputExists: the output exists, or an interrupted run of it, or it is what is read.

    Example:
        >>> from latentwrap.encoding import encode
        >>> encode("pendulum.safetensors", "pendulum.h5", "latent.h5")  # doctest: +SKIP
    """
    started = time.monotonic()
    target = _destination(form, str(output))
    foreign, path = target.form, target.path
    dataset = data if isinstance(data, Dataset) else Dataset(data)
    _refuse_source(path, dataset)
    loaded = model if isinstance(model, LatentModel) else load_model(model, device=device)
    encoder = EpisodeEncoder(loaded, dataset, normalize=normalize, vector_keys=vector_keys)
    if foreign is not None:
        foreign.check(encoder.info, rewards=dataset.rewards is not None)
    with (
        LatentWriter(path, encoder.info, foreign, force=force, resume=resume) as writer,
        bar("Encoding", dataset.num_transitions, show=show_progress) as progress,
    ):
        progress.move_to(writer.transitions)
        for columns in encoder.episodes(writer.episodes):
            writer.add(columns)
            progress.move_to(writer.transitions)
    return EncodeResult(
        path=path,
        form=form,
        episodes=dataset.num_episodes,
        transitions=dataset.num_transitions,
        size=encoder.info.size,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Destination:
    """Where the output goes, and in which form; `None` for our own."""

    form: Form | None
    path: Path


def _destination(form: str, output: str) -> _Destination:
    if form not in FORMS:
        raise ConfigError(f"encode knows no form {form!r}: {did_you_mean(form, FORMS)}")
    if output.startswith(SCHEME) and form != MinariForm.name:
        raise ConfigError(
            f"{output} names a Minari dataset, got the form {form!r}: pass --as minari."
        )
    foreign = None if form == OURS else _FOREIGN[form]()
    return _Destination(foreign, Path(output) if foreign is None else foreign.destination(output))


def _refuse_source(path: Path, dataset: Dataset) -> None:
    if any(path.resolve() == source.resolve() for source in dataset.paths):
        raise OutputExists(f"{path} is what is read: choose another name for what is written.")
