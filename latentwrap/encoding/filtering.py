"""The episodes of a dataset, filtered once, with vectors where the wrapper appends them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from latentwrap.datasets import Dataset, layout
from latentwrap.encoding.episodes import Columns
from latentwrap.encoding.info import LATENTS, LatentInfo
from latentwrap.errors import CheckpointError, DatasetError
from latentwrap.models import LatentModel
from latentwrap.normalizer import LatentNormalizer
from latentwrap.training.statistics import check_dataset, filter_episodes
from latentwrap.types import FloatArray


class EpisodeEncoder:
    """Makes of every episode what `LatentObservation` would have observed in it.

    Args:
        model: pretrained.
        dataset: with frames and actions as the model takes them.
        normalize: standardise and clip; else the latents are raw.
        vector_keys: vectors to append, in order; `None` takes those of the pretraining data, as
            the wrapper does.

    Attributes:
        info: what comes out.

    Raises:
        CheckpointError: the model has no statistics to standardise with.
        DatasetError: the dataset does not fit the model, or lacks a vector; or the model has no
            statistics of it.
    """

    def __init__(
        self,
        model: LatentModel,
        dataset: Dataset,
        *,
        normalize: bool = True,
        vector_keys: Sequence[str] | None = None,
    ) -> None:
        check_dataset(model, dataset)
        if normalize and model.normalizer is None:
            raise CheckpointError(
                "encode requires a pretrained model, got one without latent statistics."
            )
        names = model.vector_spec.names if vector_keys is None else tuple(vector_keys)
        self._model, self._dataset = model, dataset
        self._scale = _vector_scale(model, dataset, names)
        checkpoint = model.checkpoint
        self.info = LatentInfo(
            data=dataset.info,
            data_fingerprint=dataset.fingerprint(),
            model="" if checkpoint is None else checkpoint.fingerprint,
            checkpoint="" if checkpoint is None else checkpoint.path,
            latent_size=model.latent_size,
            appended=names,
            normalized=normalize,
        )

    def episodes(self, first: int = 0) -> Iterator[Columns]:
        """The columns of every episode from number `first` on, padded as in the dataset."""
        numbers = np.arange(first, self._dataset.num_episodes)
        latents = filter_episodes(self._model, self._dataset, numbers)
        for number, raw in zip(numbers, latents, strict=True):
            yield self._columns(int(number), raw)

    def _columns(self, number: int, raw: FloatArray) -> Columns:
        data = self._dataset
        start = int(data.starts[number])
        rows = slice(start, start + int(data.lengths[number]))
        columns = {
            LATENTS: self._observed(raw, rows),
            layout.ACTIONS: data.actions[rows],
            layout.TERMINATIONS: data.terminations[rows],
            layout.TRUNCATIONS: data.truncations[rows],
        }
        if data.rewards is not None:
            columns[layout.REWARDS] = data.rewards[rows]
        columns |= {layout.state_path(name): values[rows] for name, values in data.states.items()}
        return columns | {
            layout.vector_path(name): values[rows] for name, values in data.vectors.items()
        }

    def _observed(self, raw: FloatArray, rows: slice) -> FloatArray:
        """What the wrapper hands out, float32 (T+1, d + V)."""
        normalizer = self._model.normalizer if self.info.normalized else None
        latents = raw if normalizer is None else normalizer.normalize(raw)
        if self._scale is None:
            return latents
        known = self._dataset.vectors
        vectors = np.concatenate([known[name][rows] for name in self.info.appended], axis=1)
        scaled = self._scale.normalize(vectors) if self.info.normalized else vectors
        return np.concatenate([latents, scaled], axis=1)


def _vector_scale(
    model: LatentModel, dataset: Dataset, names: Sequence[str]
) -> LatentNormalizer | None:
    """Statistics of the vectors that are appended; `None` where there are none.

    The wrapper scales a vector that the pretraining data lacked by its bounds, which no file has.
    """
    found, known = dataset.info.vectors, model.vector_spec
    for name in names:
        if name not in found.names:
            raise DatasetError(
                f"{dataset.name} lacks the vector {name!r}, which follows the latent of this "
                f"model: collect it with --vector-key {name}, or leave it out as vector_keys."
            )
        if name not in known.names or model.vector_normalizer is None:
            raise DatasetError(
                f"The model has no statistics of the vector {name!r}: pretrain it on data that "
                "holds it, or leave it out."
            )
        have, want = found.slices[name], known.slices[name]
        if have.stop - have.start != want.stop - want.start:
            raise DatasetError(
                f"The model expects {want.stop - want.start} numbers in {name!r}, {dataset.name} "
                f"has {have.stop - have.start}: use a dataset like the one that it was trained on."
            )
    if not names or model.vector_normalizer is None:
        return None
    statistics = model.vector_normalizer
    columns = np.concatenate([np.arange(statistics.mean.size)[known.slices[n]] for n in names])
    return LatentNormalizer(statistics.mean[columns], statistics.std[columns])
