"""Damaged and hostile files: each must be read whole or be refused in a sentence.

    python benchmarks/fuzz_datasets.py [--what importers] [--mutants 20000] [--seed 0] [--json]

Floor: no crash, no hang, no error but LatentwrapError, and no file opened outside, of 20,000.
Mutants are opened and read by another process, one after the other; if it dies or says nothing for
long, the mutant that it was at is to blame and stays in --keep. What the files point to is watched.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from fuzz_foreign import foreign_mutant, imported, write_foreign_seeds
from fuzz_mutants import Seed, mutant
from fuzz_seeds import write_seeds

PATIENCE = 90
"""Seconds without an answer that are a hang; longer than a probe may take."""

IN_OPEN = 0x20
WHAT = ("datasets", "importers")


def main() -> int:
    """Damage, read and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", choices=WHAT, default="datasets", help="files of ours or others")
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for mutants that did harm")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        last = arguments.mutants
        read_mutants(arguments.read, arguments.what, arguments.seed, arguments.first, last)
        return 0
    result = fuzz(arguments.what, arguments.mutants, arguments.seed, arguments.keep)
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=2))
    harm = ("crash", "hang", "error")
    return 1 if result["opened_outside"] or any(result["outcomes"].get(o) for o in harm) else 0


def fuzz(what: str, mutants: int, seed: int, keep: Path | None) -> dict:
    """Read so many mutants.

    Returns:
        Counts by outcome (`read`, `refused`, and what must not be: `error`, `crash`, `hang`),
        `origins_read`, the seeds of which some mutant was read,
        `reasons` of refusals, `harmful` mutants, `opened_outside`, `peak_mib` of the memory of the
        reading process, `seconds`.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "outside").mkdir()
        (folder / "seeds").mkdir()
        canary = folder / "outside" / "canary.h5"
        canary.write_bytes(bytes(4096))
        if what == "importers":
            write_foreign_seeds(folder / "seeds")
        else:
            write_seeds(folder / "seeds", canary)
        watch = watched(folder / "outside")
        results = list(read_all(folder, what, mutants, seed))
        opened = len(os.read(watch, 65536)) if select.select([watch], [], [], 0)[0] else 0
        canary.read_bytes()  # that the watch works
        assert select.select([watch], [], [], 1)[0]
        os.close(watch)
        if keep:
            save(folder / "seeds", seed, [r["number"] for r in results if harmful(r)], keep)
    outcomes = collections.Counter(result["outcome"] for result in results)
    reasons = collections.Counter(result.get("reason", "") for result in results)
    return {
        "mutants": len(results),
        "outcomes": dict(outcomes),
        "origins_read": sorted({r["origin"] for r in results if r["outcome"] == "read"}),
        "opened_outside": opened,
        "reasons": dict(reasons.most_common(40)),
        "harmful": [result for result in results if harmful(result)][:20],
        "peak_mib": max(result.get("peak_mib", 0) for result in results),
        "seconds": round(time.monotonic() - began, 1),
    }


def harmful(result: dict) -> bool:
    """Whether a mutant did what none may do."""
    return result["outcome"] not in ("read", "refused")


def read_all(folder: Path, what: str, mutants: int, seed: int) -> Iterator[dict]:
    """Results of all mutants, read by as many processes as it takes."""
    number = 0
    while number < mutants:
        print(f"from mutant {number}", file=sys.stderr, flush=True)
        told = {"read": folder, "what": what, "seed": seed, "first": number, "mutants": mutants}
        options = [str(word) for key, value in told.items() for word in (f"--{key}", value)]
        reader = subprocess.Popen(  # noqa: S603 - this very script
            [sys.executable, "-W", "error", __file__, *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        with reader:
            assert reader.stdout is not None
            while number < mutants:
                if not select.select([reader.stdout], [], [], PATIENCE)[0]:
                    reader.kill()
                    yield {"number": number, "outcome": "hang"}
                    number += 1
                    break
                line = reader.stdout.readline()
                if not line:
                    yield {"number": number, "outcome": "crash", "code": reader.wait()}
                    number += 1
                    break
                yield json.loads(line)
                number += 1
                if number % 1000 == 0:
                    print(f"{number} of {mutants}", file=sys.stderr, flush=True)


def read_mutants(folder: Path, what: str, seed: int, first: int, end: int) -> None:
    """Open mutants one after the other and read all of each; a line of JSON for each."""
    seeds = load(folder / "seeds")
    for number in range(first, end):
        origin = seeds[number % len(seeds)]
        path = folder / f"{number}{Path(origin.name).suffix}"
        path.write_bytes(made(seeds, seed, number))
        found = imported(path) if what == "importers" else outcome(path)
        result = {"number": number, "origin": origin.name, **found}
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        path.unlink()
        # One byte at a time would not matter; a line that waits in a buffer would.
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def outcome(path: Path) -> dict:
    """What becomes of a file."""
    from latentwrap.datasets import Dataset
    from latentwrap.errors import LatentwrapError

    try:
        data = Dataset(path)
        try:
            data.frames(slice(0, data.num_frames))
            data.fingerprint()
            for episode in range(data.num_episodes):
                data.episode(episode)
        finally:
            data.close()
    except LatentwrapError as error:
        text = str(error).replace(str(path), "")
        return {"outcome": "refused", "reason": " ".join(text.split()[:5])}
    except BaseException as error:  # noqa: BLE001 - whatever comes is what is looked for
        return {"outcome": "error", "error": f"{type(error).__name__}: {error}"[:500]}
    return {"outcome": "read"}


def load(folder: Path) -> list[Seed]:
    """The files to damage."""
    return [Seed.of(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def made(seeds: list[Seed], seed: int, number: int) -> bytes:
    """The mutant of that number, always the same."""
    rng = np.random.default_rng([seed, number])
    origin = seeds[number % len(seeds)]
    return (mutant if origin.name.endswith(".h5") else foreign_mutant)(origin, rng)


def save(folder: Path, seed: int, numbers: list[int], keep: Path) -> None:
    """Write some mutants to be looked at."""
    keep.mkdir(parents=True, exist_ok=True)
    seeds = load(folder)
    for number in numbers:
        name = f"{seed}-{number}{Path(seeds[number % len(seeds)].name).suffix}"
        (keep / name).write_bytes(made(seeds, seed, number))


def watched(folder: Path) -> int:
    """A descriptor that can be read as soon as a file of the folder is opened."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(folder), IN_OPEN) < 0:
        raise OSError(ctypes.get_errno(), "cannot watch", str(folder))
    return int(watch)


if __name__ == "__main__":
    sys.exit(main())
