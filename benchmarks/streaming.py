"""Pretraining on a file several times larger than what it may hold in memory.

    python benchmarks/streaming.py [--gigabytes 2] [--updates 1500] [--file big.h5]

A file of that size is written (frames of noise, which cannot be compressed), then the `fast` model
is trained on it twice, each in a process of its own: once with the frames read while it learns
(`--memory 0`), once with all of them in memory. Printed are the most anonymous resident memory
beyond that of a process that has imported the same libraries, and the updates in a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROWS = 201
PIXELS = 64


def main() -> None:
    """Write the file, train twice, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--file", type=Path, help="Written if it is not there; kept.")
    parser.add_argument("--train", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train is not None:
        train(arguments.file, memory=arguments.train, updates=arguments.updates)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "big.h5"
        if not path.exists():
            write(path, arguments.gigabytes)
        print(f"file: {path.stat().st_size / 1e9:.2f} GB")
        results = {}
        for name, mib in (("streaming", 0.0), ("in memory", float(2**20))):
            results[name] = run(path, mib, arguments.updates)
            print(
                f"{name:10}: {results[name]['rate']:.1f} updates/s, at most "
                f"{results[name]['anonymous']:.0f} MB beyond the bare process"
            )
        share = results["streaming"]["rate"] / results["in memory"]["rate"]
        print(f"streaming / in memory: {share:.2f}")


def write(path: Path, gigabytes: float) -> None:
    """Episodes of noise."""
    from gymnasium import spaces

    from latentwrap.actions import ActionSpec
    from latentwrap.datasets import DatasetInfo, DatasetWriter, Episode
    from latentwrap.pixels import FrameSpec

    rng = np.random.default_rng(0)
    info = DatasetInfo("noise", ActionSpec(spaces.Box(-1, 1, (2,))), FrameSpec())
    count = round(gigabytes * 1e9 / (ROWS * PIXELS * PIXELS * 3))
    with DatasetWriter(path, info) as writer:
        for _ in range(count):
            writer.add(
                Episode(
                    frames=rng.integers(0, 256, (ROWS, PIXELS, PIXELS, 3), np.uint8),
                    actions=rng.uniform(-1, 1, (ROWS - 1, 2)).astype(np.float32),
                    rewards=rng.normal(size=ROWS - 1).astype(np.float32),
                    terminated=False,
                    truncated=True,
                )
            )


def run(path: Path, mib: float, updates: int) -> dict[str, float]:
    """Train in a process of its own."""
    command = [sys.executable, __file__, "--train", str(mib), "--file", str(path)]
    command += ["--updates", str(updates)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def train(path: Path, *, memory: float, updates: int) -> None:
    """Train, watching how much memory is held; prints the result as JSON."""
    import torch

    from latentwrap.training import Loading, pretrain

    torch.randn(64, 64) @ torch.randn(64, 64)
    bare, most = anonymous(), 0.0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, anonymous())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        result = pretrain(
            path,
            Path(folder) / "model.safetensors",
            options={"steps": updates},
            loading=Loading(memory=round(memory * 2**20)),
        )
    over.set()
    watcher.join()
    rate = result.steps / result.seconds
    print(json.dumps({"rate": rate, "anonymous": (most - bare) / 1e6, "bare": bare / 1e6}))


def anonymous() -> float:
    """Bytes of anonymous resident memory of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell anonymous resident memory")


if __name__ == "__main__":
    main()
