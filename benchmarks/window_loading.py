"""Random windows out of files: latentwrap beside Minari, h5py and NumPy, in turn in one run.

    python benchmarks/window_loading.py [--frames car.h5] [--steps 20000] [--rounds 5]

The same frames (of PixelPendulum, or of a dataset that is given) are written in every way, then
every reader reads random windows of 9 frames for a while, in turn, several rounds long; the
medians are compared. All files lie in the page cache. Minari is left out where it is not installed.
The last lines put the loader's time beside that of an update of the `fast` model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

WINDOW = 9
BATCH = 128
RATIO_WITH = "h5py, LZ4 chunks of 8"


@dataclass(frozen=True)
class Reader:
    """One way to read windows.

    Attributes:
        name: for the table.
        read: reads a few windows and says how many.
        size: of what it reads, as a share of the raw frames.
    """

    name: str
    read: Callable[[], int]
    size: float


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, help="A dataset, instead of PixelPendulum.")
    parser.add_argument("--steps", type=int, default=20_000, help="Of PixelPendulum.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="For each reader and round.")
    parser.add_argument("--updates", type=int, default=40, help="Of the fast model; 0 for none.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        source = arguments.frames or collected(folder, arguments.steps)
        readers = make_readers(source, folder, stack)
        rates = measure(readers, rounds=arguments.rounds, seconds=arguments.seconds)
        print_table(readers, rates)
        if arguments.updates:
            stack.close()
            print_share(folder / "ours.h5", arguments.updates)


def collected(folder: Path, steps: int) -> Path:
    """Frames of PixelPendulum."""
    from latentwrap.datasets import collect

    collect("latentwrap/PixelPendulum-v0", folder / "pendulum.h5", steps=steps, show_progress=True)
    return folder / "pendulum.h5"


def make_readers(source: Path, folder: Path, stack: ExitStack) -> list[Reader]:
    """Write the frames in every way and open them."""
    from latentwrap.datasets import Dataset, WindowLoader, WindowSampler, rechunk

    rechunk(source, folder / "ours.h5")
    dataset = Dataset(source)
    frames = dataset.frames(slice(0, dataset.num_frames))
    rng = np.random.default_rng(0)
    readers = [
        Reader("NumPy array in memory", slices(frames, rng, 256), 1.0),
        *h5py_readers(frames, folder, rng, stack),
        *minari_readers(dataset, folder, rng),
    ]
    ours = Dataset(folder / "ours.h5")
    size = ours.path.stat().st_size / ours.frame_bytes
    sampler = WindowSampler(
        ours, np.arange(ours.num_episodes), length=WINDOW - 1, batch_size=BATCH, generator=rng
    )
    loader = stack.enter_context(WindowLoader(sampler, workers=2, ahead=4))
    held = Dataset(folder / "ours.h5")
    held.preload()
    memory = WindowSampler(
        held, np.arange(held.num_episodes), length=WINDOW - 1, batch_size=BATCH, generator=rng
    )
    return [
        *readers,
        Reader("latentwrap, one process", lambda: len(sampler.sample().frames), size),
        Reader("latentwrap, two workers", lambda: len(loader.sample().frames), size),
        Reader("latentwrap, in memory", lambda: len(memory.sample().frames), 1.0),
    ]


def slices(column: Any, rng: np.random.Generator, count: int) -> Callable[[], int]:
    """Read `count` windows as slices, copied out."""

    def read() -> int:
        for start in rng.integers(len(column) - WINDOW, size=count).tolist():
            np.array(column[start : start + WINDOW])
        return count

    return read


def h5py_readers(
    frames: np.ndarray, folder: Path, rng: np.random.Generator, stack: ExitStack
) -> list[Reader]:
    """What users of h5py do."""
    chunks = {"chunks": (8, *frames.shape[1:])}
    ways: dict[str, tuple[dict[str, Any], int]] = {
        "h5py, gzip, automatic chunks": ({"compression": "gzip"}, 4),
        "h5py, raw, automatic chunks": ({"chunks": True}, 16),
        "h5py, gzip-1 chunks of 8": ({**chunks, "compression": "gzip", "compression_opts": 1}, 64),
        "h5py, zstd-3 chunks of 8": ({**chunks, **hdf5plugin.Zstd(clevel=3)}, 64),
        RATIO_WITH: ({**chunks, **hdf5plugin.LZ4()}, 256),
        "h5py, contiguous, raw": ({}, 256),
    }
    readers = []
    for number, (name, (options, count)) in enumerate(ways.items()):
        path = folder / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("frames", data=frames, **options)
        file = stack.enter_context(h5py.File(path, "r"))
        size = path.stat().st_size / frames.nbytes
        readers.append(Reader(name, slices(file["frames"], rng, count), size))
    return readers


def minari_readers(dataset: Any, folder: Path, rng: np.random.Generator) -> list[Reader]:
    """Minari, which keeps images as JPEG; nothing where it is not installed."""
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError:
        print("Minari is not installed: left out.")
        return []
    from gymnasium import spaces

    os.environ["MINARI_DATASETS_PATH"] = str(folder / "minari")
    episodes = [dataset.episode(e) for e in range(min(dataset.num_episodes, 20))]
    buffers = [
        EpisodeBuffer(
            observations=list(e.frames),
            actions=list(e.actions),
            rewards=list(e.rewards),
            terminations=[False] * len(e.actions),
            truncations=[False] * (len(e.actions) - 1) + [True],
            infos={},
        )
        for e in episodes
    ]
    written = minari.create_dataset_from_buffers(
        "benchmark/frames-v0",
        buffers,
        observation_space=spaces.Box(0, 255, dataset.info.frame.shape, np.uint8),
        action_space=dataset.info.action.space,
        data_format="hdf5",
        author="-",
        author_email="-",
        algorithm_name="-",
        code_permalink="-",
        description="-",
    )
    data = folder / "minari" / "benchmark" / "frames-v0"
    size = sum(p.stat().st_size for p in data.rglob("*") if p.is_file())
    raw = sum(e.frames.nbytes for e in episodes)

    def read() -> int:
        episode = written[int(rng.integers(len(episodes)))]
        start = int(rng.integers(len(episode.observations) - WINDOW))
        np.array(episode.observations[start : start + WINDOW])
        return 1

    return [Reader(f"Minari {minari.__version__}, JPEG", read, size / raw)]


def measure(readers: list[Reader], *, rounds: int, seconds: float) -> list[list[float]]:
    """Windows in a second of every reader, round after round."""
    rates: list[list[float]] = [[] for _ in readers]
    for reader in readers:
        reader.read()
    for _ in range(rounds):
        for reader, found in zip(readers, rates, strict=True):
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < seconds:
                count += reader.read()
            found.append(count / (time.perf_counter() - started))
    return rates


def print_table(readers: list[Reader], rates: list[list[float]]) -> None:
    """Medians, and how they compare with hand-chunked LZ4."""
    medians = [statistics.median(found) for found in rates]
    base = next(m for r, m in zip(readers, medians, strict=True) if r.name == RATIO_WITH)
    print(f"{'':30} {'windows/s':>10} {'times':>6} {'of raw size':>12}")
    for reader, rate in zip(readers, medians, strict=True):
        print(f"{reader.name:30} {rate:10,.0f} {rate / base:6.2f} {reader.size:12.1%}")


def print_share(path: Path, updates: int) -> None:
    """How much longer an update takes because its windows are read."""
    from latentwrap.datasets import Dataset
    from latentwrap.training import Loading, make_recipe
    from latentwrap.training.session import Session

    def session(memory: int) -> Session:
        recipe = make_recipe("fast", {})
        return Session(
            Dataset(path),
            recipe,
            seed=0,
            device="cpu",
            init=None,
            loading=Loading(memory=memory),
            weights=None,
        )

    reading, holding, fixed = session(0), session(2**40), session(2**40)
    batch = fixed.sampler.sample()
    fixed.sampler.sample = lambda: batch  # type: ignore[method-assign]
    for number in range(reading.dataset.num_episodes):
        reading.dataset.episode(number)  # a chunk's checksum is compared when it is first read
    times: dict[str, list[float]] = {"file": [], "memory": [], "none": []}
    for number in range(updates + 5):
        for name, one in (("file", reading), ("memory", holding), ("none", fixed)):
            started = time.perf_counter()
            one.trainer.step()
            if number >= 5:
                times[name].append(time.perf_counter() - started)
    reading.close()
    none = statistics.median(times.pop("none"))
    print(f"\nAn update of the fast model on the same batch again and again: {1000 * none:.1f} ms")
    for name, found in times.items():
        took = statistics.median(found)
        print(
            f"  windows from {name:6}: {1000 * took:.1f} ms, of which loading {1 - none / took:.1%}"
        )


if __name__ == "__main__":
    main()
