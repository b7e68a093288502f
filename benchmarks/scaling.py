"""How the cost of pretraining and of filtering grows, and the memory that they take.

    python benchmarks/scaling.py rows.jsonl [--only frames size …] [--quick] [--plot scaling.png]

Each measurement is a process of its own (or several, for `processes`) on frames of noise, which no
codec makes smaller, and adds a row to the file. A row that is there is not measured again: delete
the file, or take another, to measure anew. At the end a table is printed and, with `--plot`,
drawn. `--quick` takes few updates and leaves out the largest data: two minutes, for a look.

An update is one of the preset `fast` unless a row says otherwise: 8 windows of 32 frames 64×64×3.
Filtering is `latentwrap encode`. Memory is the most anonymous memory beyond that of the process
before it opens the data; the page cache, which the system takes back when it is short, is not
in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 5
LARGEST_QUICK = 20_000
HELD, STREAMED = 2**40, 0


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        axis: what varies, for the picture.
        work: `update` or `filter`.
        frames, episode, side: of the data: frames in all and in an episode, side of a frame.
        latent: dimensions of the latent; `None` leaves those of the preset.
        batch: windows in an update.
        processes: that train together, with one thread each.
        memory: most bytes of frames to hold.
    """

    axis: str
    work: str = "update"
    frames: int = 5_000
    episode: int = 200
    side: int = 64
    latent: int | None = None
    batch: int = 8
    processes: int = 1
    memory: int = HELD

    @property
    def held(self) -> bool:
        """Whether the frames are held in memory."""
        return self.memory == HELD


@dataclass(frozen=True)
class Row:
    """What was found.

    Attributes:
        case: of what.
        seconds: that an update took, the median, or the filtering of all frames.
        cpu: of those, seconds in which the process, all of its threads together, had a core; what
            else the machine does changes them little.
        start: seconds from the opened data to the first update.
        megabytes: of anonymous memory.
        load: processes that wanted a core in the minute before, others' included.
    """

    case: Case
    seconds: float
    cpu: float
    start: float
    megabytes: float
    load: float


SIZES = (32, 48, 64, 96, 128, 192)
FRAMES = (5_000, 20_000, 50_000, 100_000, 200_000)
AXES: dict[str, list[Case]] = {
    "frames": [
        *(Case("frames", frames=n, memory=STREAMED) for n in FRAMES),
        *(Case("frames", frames=n) for n in FRAMES[:-1]),
        *(Case("frames", "filter", frames=n) for n in FRAMES),
    ],
    "episode": [
        Case("episode", work, frames=20_000, episode=length, memory=STREAMED)
        for work in ("update", "filter")
        for length in (50, 200, 1000, 5000)
    ],
    "size": [
        Case("size", work, frames=2_000, side=side)
        for work in ("update", "filter")
        for side in SIZES
    ],
    "latent": [
        Case("latent", work, frames=2_000, latent=latent)
        for work in ("update", "filter")
        for latent in (16, 32, 64, 160, 320, 640, 1280)
    ],
    "batch": [Case("batch", batch=batch) for batch in (2, 4, 8, 16, 32, 64)],
    "processes": [
        Case("processes", batch=batch, processes=count) for batch in (8, 32) for count in (1, 2)
    ],
}


def main() -> None:
    """Measure what is missing, then print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path)
    parser.add_argument("--only", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--data", type=Path, default=Path("runs/scaling"), help="kept there")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure(Case(**json.loads(arguments.case)), arguments.data, arguments.updates)
        return
    cases = [case for axis in arguments.only for case in AXES[axis]]
    if arguments.quick:
        cases = [case for case in cases if case.frames <= LARGEST_QUICK]
    for case in cases:
        if case not in [row.case for row in read_rows(arguments.rows)]:
            updates = 15 if arguments.quick else arguments.updates
            append_row(arguments.rows, run(case, arguments.data, updates))
    rows = [row for row in read_rows(arguments.rows) if row.case in cases]
    print_table(rows)
    if arguments.plot:
        from scaling_plot import draw

        draw(rows, arguments.plot)


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; none if there is no such file."""
    if not path.exists():
        return []
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Row(**{**each, "case": Case(**each["case"])}) for each in documents]


def append_row(path: Path, row: Row) -> None:
    """Add a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def run(case: Case, folder: Path, updates: int) -> Row:
    """Measure in processes of their own."""
    write_data(case, folder)
    words = [__file__, "-", "--case", json.dumps(asdict(case)), "--data", str(folder)]
    words += ["--updates", str(updates)]
    launcher = ["-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", str(case.processes)]
    command = [sys.executable, *(launcher if case.processes > 1 else []), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
    row = Row(case, **json.loads(done.stdout.splitlines()[-1]))
    print(f"{words_of(case)}: {figures_of(row)}", flush=True)
    return row


def data_path(case: Case, folder: Path) -> Path:
    """Where the frames of a case are."""
    return folder / f"{case.frames}x{case.side}-{case.episode}.h5"


def write_data(case: Case, folder: Path) -> None:
    """Episodes of noise, unless they are there."""
    from gymnasium import spaces

    from latentwrap.actions import ActionSpec
    from latentwrap.datasets import DatasetInfo, DatasetWriter, Episode
    from latentwrap.pixels import FrameSpec

    path, rng, side = data_path(case, folder), np.random.default_rng(0), case.side
    if path.exists():
        return
    frame = FrameSpec(height=side, width=side)
    info = DatasetInfo("noise", ActionSpec(spaces.Box(-1, 1, (2,))), frame)
    with DatasetWriter(path, info, force=True) as writer:  # a part of it may be there
        for _ in range(case.frames // case.episode):
            steps = case.episode - 1
            writer.add(
                Episode(
                    frames=rng.integers(0, 256, (case.episode, side, side, 3), np.uint8),
                    actions=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
                    rewards=rng.normal(size=steps).astype(np.float32),
                    terminated=False,
                    truncated=True,
                )
            )


def measure(case: Case, folder: Path, updates: int) -> None:
    """Print a row's figures as JSON."""
    import torch

    torch.set_num_threads(1)
    torch.randn(64, 64) @ torch.randn(64, 64)
    work = measure_updates if case.work == "update" else measure_filtering
    work(case, data_path(case, folder), updates)


def measure_updates(case: Case, path: Path, updates: int) -> None:
    """Time updates alone: what comes after the last is filtering, and has rows of its own."""
    from latentwrap.training.processes import connected

    with connected("cpu") as processes, watched_memory() as most:
        began = time.perf_counter()
        session = make_session(case, path, processes)
        start, times, cpu = time.perf_counter() - began, [], []
        for _ in range(WARM_UP + updates):
            began, ran = time.perf_counter(), time.process_time()
            session.trainer.step()
            times.append(time.perf_counter() - began)
            cpu.append(time.process_time() - ran)
        session.close()
    if processes.first:
        middle = [statistics.median(each[WARM_UP:]) for each in (times, cpu)]
        tell(*middle, start=start, megabytes=most[0])


def make_session(case: Case, path: Path, processes: Any) -> Any:
    """A run of `fast` that has yet to begin."""
    from latentwrap.datasets import Dataset
    from latentwrap.training import Loading, make_recipe
    from latentwrap.training.session import Session

    return Session(
        Dataset(path),
        make_recipe("fast", {"batch_size": case.batch}, latent=case.latent, kind="rssm"),
        seed=0,
        device="cpu",
        init=None,
        loading=Loading(memory=case.memory),
        weights=None,
        processes=processes,
    )


def measure_filtering(case: Case, path: Path, _updates: int) -> None:
    """Time `encode` with a model that has not learned."""
    from latentwrap.encoding import encode
    from latentwrap.models import save_model
    from latentwrap.normalizer import LatentNormalizer
    from latentwrap.training.processes import ALONE

    few = replace(case, memory=STREAMED)
    model = make_session(few, path, ALONE).model
    size = model.latent_size
    model.normalizer = LatentNormalizer(np.zeros(size, np.float32), np.ones(size, np.float32))
    with tempfile.TemporaryDirectory() as folder, watched_memory() as most:
        checkpoint = Path(folder) / "model.safetensors"
        save_model(checkpoint, model, training={})
        ran = time.process_time()
        seconds = encode(checkpoint, path, Path(folder) / "latent.h5").seconds
        cpu = time.process_time() - ran
    tell(seconds, cpu, start=0.0, megabytes=most[0])


def tell(seconds: float, cpu: float, *, start: float, megabytes: float) -> None:
    """To the process that waits for it."""
    figures = {"seconds": seconds, "cpu": cpu, "start": start, "megabytes": megabytes}
    print(json.dumps({**figures, "load": os.getloadavg()[0]}))


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """The most anonymous memory inside the block beyond that before it, in megabytes."""
    before, most, over = anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def anonymous() -> float:
    """Megabytes of anonymous resident memory of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return float(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system does not tell anonymous resident memory")


def words_of(case: Case) -> str:
    """What differs from other cases of its axis."""
    where = "" if case.work == "filter" else " held" if case.held else " streamed"
    value = {
        "frames": f"{case.frames:,} frames{where}",
        "episode": f"episodes of {case.episode:,}",
        "size": f"{case.side}×{case.side}",
        "latent": f"{case.latent} dimensions",
        "batch": f"batch {case.batch}",
        "processes": f"{case.processes} processes, batch {case.batch}",
    }[case.axis]
    return f"{case.work}, {value}"


def figures_of(row: Row) -> str:
    """As a line of the table."""
    rest = f"{row.megabytes:.0f} | {row.load:.1f}"
    if row.case.work == "filter":
        each = 1e3 * row.cpu / row.case.frames
        return f"{row.seconds:.1f} s | {row.cpu:.1f} s, {each:.3f} ms a frame | {rest}"
    times = f"{1e3 * row.seconds:.1f} ms | {1e3 * row.cpu:.1f} ms"
    return f"{times}, begins after {row.start:.1f} s | {rest}"


def print_table(rows: Sequence[Row]) -> None:
    """For the documentation."""
    print("\n| measured | time | of a core | MB | load |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {words_of(row.case)} | {figures_of(row)} |")


if __name__ == "__main__":
    main()
