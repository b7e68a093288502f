"""How fast random windows come out of a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentwrap.datasets.loading.loader import WindowLoader
from latentwrap.datasets.loading.sampler import WindowSampler
from latentwrap.datasets.reader import Dataset
from latentwrap.seeding import numpy_generator


@dataclass(frozen=True)
class LoadingSpeed:
    """Windows in a second.

    Attributes:
        length: frames in a window.
        file: read by this process.
        ahead: read by worker processes; `None` without workers.
        workers: how many those were.
        memory: from frames held in memory; `None` where they were not to be held.
    """

    length: int
    file: float
    ahead: float | None
    workers: int
    memory: float | None


def measure_loading(
    dataset: Dataset,
    *,
    length: int = 8,
    batch_size: int = 32,
    workers: int = 2,
    seconds: float = 1.0,
    memory: int = 2 * 1024**3,
    seed: int = 0,
) -> LoadingSpeed:
    """Time random batches from the file, through worker processes, and from memory.

    What was read before lies in the system's cache, as it does while a model trains on a file that
    the machine's memory has room for.

    Args:
        dataset: to read from; another reader of its files is used, which holds nothing yet.
        length: actions in a window; it has one frame more.
        batch_size: windows in a batch.
        workers: processes; 0 leaves them out. With some, a script needs Python's
            `if __name__ == "__main__":`.
        seconds: to measure each for, after a tenth of it to warm up.
        memory: most bytes of frames to hold; above it, memory is not measured.
        seed: of the windows.

    Raises:
        DatasetError: every episode is shorter than a window.
    """
    dataset = Dataset(dataset.paths)
    sampler = WindowSampler(
        dataset,
        np.arange(dataset.num_episodes),
        length=length,
        batch_size=batch_size,
        generator=numpy_generator(seed),
    )
    file, ahead, held = _rate(sampler.sample, batch_size, seconds), None, None
    if workers:
        with WindowLoader(sampler, workers=workers) as loader:
            ahead = _rate(loader.sample, batch_size, seconds)
    if dataset.frame_bytes <= memory:
        dataset.preload()
        held = _rate(sampler.sample, batch_size, seconds)
    return LoadingSpeed(length + 1, file, ahead, workers, held)


def _rate(sample: Callable[[], Any], batch_size: int, seconds: float) -> float:
    _run(sample, seconds / 10)
    count, elapsed = _run(sample, seconds)
    return count * batch_size / elapsed


def _run(sample: Callable[[], Any], seconds: float) -> tuple[int, float]:
    """Batches, and the time that they took."""
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds or not count:
        sample()
        count += 1
    return count, elapsed
